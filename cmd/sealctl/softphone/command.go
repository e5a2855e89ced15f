package softphone

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealgate/internal/softauthn"
)

// flags are what all commands of the soft phone share.
type flags struct {
	server, keys string
	frame, code  string
	order, claim string
	leftOut      []int
	reason       string
	name         string
	wait         time.Duration
}

// Command is `sealctl softphone`.
func Command() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "softphone",
		Short: "A phone for scripts: bind, scan, approve, reject",
		Long: `A phone without a browser. It uses the same public API as the phone app and
keeps its passkeys in a file, in the clear: for tests only.

  sealctl softphone enrol   --server http://localhost:8080 --id A123000018 --card 1 --pin 12345678
  sealctl softphone approve --server http://localhost:8080 --frame 'http://localhost:8080/q/…'
  sealctl softphone renew   --server http://localhost:8080
  sealctl softphone auto    --server http://localhost:8080   (one link a line on standard input)`,
	}
	p := cmd.PersistentFlags()
	p.StringVar(&f.server, "server", "http://localhost:8080", "public address of the service")
	p.StringVar(&f.keys, "keys", "softphone.json", "file with this phone's passkeys; made when missing")
	cmd.AddCommand(f.bind(), f.scan(), f.approve(), f.reject(), f.auto(), f.renew(), f.add(), EnrolCommand())
	return cmd
}

// phone opens the phone of --keys.
func (f *flags) phone() (*Phone, error) {
	keys, err := softauthn.Load(f.keys, softauthn.Options{})
	if err != nil {
		return nil, err
	}
	return New(Config{Server: f.server, Keys: keys}), nil
}

// source adds the flags that say which order is meant.
func (f *flags) source(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&f.frame, "frame", "", "the link in the QR picture, or the part behind /q/")
	cmd.Flags().StringVar(&f.code, "code", "", "the eight digits that can be typed instead")
	cmd.Flags().StringVar(&f.order, "order", "", "an order that was scanned before, with --claim")
	cmd.Flags().StringVar(&f.claim, "claim", "", "its claim token, as scan printed it")
	return cmd
}

// take claims the order that the flags name.
func (f *flags) take(ctx context.Context, p *Phone) (*Claim, error) {
	switch {
	case f.frame != "":
		return p.Scan(ctx, f.frame)
	case f.code != "":
		return p.TypeCode(ctx, f.code)
	case f.order != "" && f.claim != "":
		return p.Resume(ctx, f.order, f.claim)
	}
	return nil, errors.New("say which order: --frame, --code, or --order with --claim")
}

func (f *flags) scan() *cobra.Command {
	return f.source(&cobra.Command{
		Use: "scan", Short: "Take an order and print what it asks, as JSON", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.phone()
			if err != nil {
				return err
			}
			c, err := f.take(cmd.Context(), p)
			if err != nil {
				return err
			}
			c.PublicKey = nil
			return printJSON(cmd.OutOrStdout(), c)
		},
	})
}

func (f *flags) approve() *cobra.Command {
	cmd := f.source(&cobra.Command{
		Use: "approve", Short: "Take an order and approve it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.phone()
			if err != nil {
				return err
			}
			c, err := f.take(cmd.Context(), p)
			if err != nil {
				return err
			}
			return f.approveClaim(cmd.Context(), cmd.OutOrStdout(), p, c)
		},
	})
	cmd.Flags().IntSliceVar(&f.leftOut, "leave-out", nil, "documents not to be signed, counted from 0")
	cmd.Flags().DurationVar(&f.wait, "wait", time.Minute, "how long to wait for the two digits to be typed at the computer")
	return cmd
}

// approveClaim shows the two digits where the order needs them, approves, and
// keeps the passkeys' counters.
func (f *flags) approveClaim(ctx context.Context, out io.Writer, p *Phone, c *Claim) error {
	if err := f.waitForDigits(ctx, out, p, c); err != nil {
		return err
	}
	outcome, err := p.Approve(ctx, c, Answer{LeftOut: f.leftOut})
	// The counter moved even when the answer was lost.
	if saveErr := p.keys.Save(f.keys); err == nil {
		err = saveErr
	}
	if err != nil {
		return err
	}
	return printJSON(out, map[string]any{"order": c.Order, "kind": c.Kind, "client": c.Client.Host, "state": outcome.State, "acr": outcome.ACR})
}

func (f *flags) waitForDigits(ctx context.Context, out io.Writer, p *Phone, c *Claim) error {
	if !c.Check.Required || c.Check.Passed {
		return nil
	}
	fmt.Fprintf(out, "type these digits at the computer: %s\n", c.Check.Digits)
	for end := time.Now().Add(f.wait); time.Now().Before(end); {
		st, err := p.Status(ctx, c, 5*time.Second)
		if err != nil {
			return err
		}
		if st.Check.Passed {
			return nil
		}
		if st.State != "scanned" {
			return fmt.Errorf("the order is %s %s", st.State, st.EndReason)
		}
	}
	return errors.New("nobody typed the digits")
}

func (f *flags) reject() *cobra.Command {
	cmd := f.source(&cobra.Command{
		Use: "reject", Short: "Take an order and refuse it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.phone()
			if err != nil {
				return err
			}
			c, err := f.take(cmd.Context(), p)
			if err != nil {
				return err
			}
			if err := p.Reject(cmd.Context(), c, f.reason); err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), map[string]string{"order": c.Order, "state": "rejected"})
		},
	})
	cmd.Flags().StringVar(&f.reason, "reason", "not_me", "not_me, changed_mind or fraud")
	return cmd
}

func (f *flags) renew() *cobra.Command {
	return &cobra.Command{
		Use: "renew", Short: "Put a new mobile certificate in the place of one that ends soon", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := softauthn.Load(f.keys, softauthn.Options{})
			if err != nil {
				return err
			}
			b, err := NewBrowser(f.server, nil) // the session is a cookie
			if err != nil {
				return err
			}
			p := b.Phone(keys)
			end, err := p.renewNow(cmd.Context())
			if saveErr := keys.Save(f.keys); err == nil { // the counter moved
				err = saveErr
			}
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), map[string]string{"not_after": end})
		},
	}
}

func (p *Phone) renewNow(ctx context.Context) (string, error) {
	if err := p.OpenSession(ctx); err != nil {
		return "", err
	}
	return p.Renew(ctx)
}

func (f *flags) bind() *cobra.Command {
	cmd := f.source(&cobra.Command{
		Use: "bind", Short: "Take an enrol order and make the passkey it asks for", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.phone()
			if err != nil {
				return err
			}
			c, err := f.take(cmd.Context(), p)
			if err != nil {
				return err
			}
			if c.Kind != "enrol" {
				return fmt.Errorf("that is a %s order", c.Kind)
			}
			if err := f.waitForDigits(cmd.Context(), cmd.OutOrStdout(), p, c); err != nil {
				return err
			}
			if err := p.Bind(cmd.Context(), c, f.name); err != nil {
				return err
			}
			return p.keys.Save(f.keys)
		},
	})
	cmd.Flags().StringVar(&f.name, "name", "Soft phone", "what the person calls the phone")
	cmd.Flags().DurationVar(&f.wait, "wait", time.Minute, "how long to wait for the two digits to be typed at the computer")
	return cmd
}

func (f *flags) auto() *cobra.Command {
	return &cobra.Command{
		Use: "auto", Short: "Approve every link that comes on standard input, one a line", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.phone()
			if err != nil {
				return err
			}
			f.wait = time.Minute
			lines := bufio.NewScanner(cmd.InOrStdin())
			failed := 0
			for lines.Scan() {
				link := strings.TrimSpace(lines.Text())
				if link == "" {
					continue
				}
				c, err := p.Scan(cmd.Context(), link)
				if err == nil {
					err = f.approveClaim(cmd.Context(), cmd.OutOrStdout(), p, c)
				}
				if err != nil {
					failed++
					fmt.Fprintln(cmd.ErrOrStderr(), "softphone:", err)
				}
			}
			if err := lines.Err(); err != nil {
				return err
			}
			if failed > 0 {
				return fmt.Errorf("%d orders were not approved", failed)
			}
			return nil
		},
	}
}

// EnrolCommand is `sealctl softphone enrol`: the phone, the desktop page and the
// card, all from the shell.
func EnrolCommand() *cobra.Command {
	var server, keys, name, id string
	var card Card
	cmd := &cobra.Command{
		Use:   "enrol",
		Short: "Bind a soft phone with a test card: phone, desktop page and card in one",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			authn, err := softauthn.Load(keys, softauthn.Options{})
			if err != nil {
				return err
			}
			desk, err := NewBrowser(server, nil)
			if err != nil {
				return err
			}
			bound, err := Enrolment{Browser: desk, Phone: New(Config{Server: server, Keys: authn}), Card: card,
				NationalID: id, DeviceName: name}.Run(cmd.Context())
			if err != nil {
				return err
			}
			if err := authn.Save(keys); err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), bound)
		},
	}
	f := cmd.Flags()
	f.StringVar(&server, "server", "http://localhost:8080", "public address of the service")
	f.StringVar(&keys, "keys", "softphone.json", "file with this phone's passkeys; made when missing")
	f.StringVar(&id, "id", "", "national ID of the test citizen, as typed at the page")
	f.StringVar(&name, "name", "Soft phone", "what the person calls the phone")
	f.StringVar(&card.Component, "component", DefaultComponent, "address of the card component")
	f.IntVar(&card.Number, "card", 1, "which test card")
	f.StringVar(&card.PIN, "pin", "12345678", "the card's PIN")
	_ = cmd.MarkFlagRequired("id")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
