package softphone

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealgate/internal/softauthn"
)

// Addition is a person who adds a phone from one that is bound.
type Addition struct {
	Browser    *Browser // of the first phone
	First      *Phone   // made by Browser.Phone
	DeviceName string   // of the new one; "" for a plain one
}

// Added is what the first phone is told at the end.
type Added struct {
	Order  string `json:"-"`
	Device struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"device"`
	CooldownUntil string `json:"cooldown_until"`
}

// Newcomer is what the first phone is told of the new one.
type Newcomer struct {
	Device struct {
		Name    string `json:"name"`
		Browser string `json:"browser"`
		OS      string `json:"os"`
		Model   string `json:"model"`
	} `json:"device"`
	PublicKey json.RawMessage `json:"public_key"`
}

// Run walks the whole way with the new phone: QR code, two digits, passkey,
// the first phone's fingerprint.
func (a Addition) Run(ctx context.Context, second *Phone) (*Added, error) {
	id, err := a.Begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.Bind(ctx, id, second); err != nil {
		return nil, err
	}
	n, err := a.Newcomer(ctx, id)
	if err != nil {
		return nil, err
	}
	return a.Agree(ctx, id, n)
}

// Begin opens a session where there is none that is fresh, and makes the order.
func (a Addition) Begin(ctx context.Context) (order string, err error) {
	var begun struct {
		Order string `json:"order"`
	}
	err = a.First.Post(ctx, "/additions", struct{}{}, &begun)
	if code := CodeOf(err); code == "session_required" || code == "session_stale" {
		if err = a.First.OpenSession(ctx); err == nil {
			err = a.First.Post(ctx, "/additions", struct{}{}, &begun)
		}
	}
	return begun.Order, err
}

// Bind lets the new phone scan, and make its passkey.
func (a Addition) Bind(ctx context.Context, order string, second *Phone) error {
	frame, err := a.Browser.Frame(ctx, order)
	if err != nil {
		return err
	}
	claim, err := second.Scan(ctx, frame)
	if err != nil {
		return fmt.Errorf("new phone, scanning: %w", err)
	}
	if claim.Check.Required && !claim.Check.Passed {
		if err := a.Browser.Check(ctx, order, claim.Check.Digits); err != nil {
			return fmt.Errorf("the two digits: %w", err)
		}
	}
	name := a.DeviceName
	if name == "" {
		name = "Second soft phone"
	}
	if err := second.Bind(ctx, claim, name); err != nil {
		return fmt.Errorf("new phone, passkey: %w", err)
	}
	return nil
}

func additionPath(order, step string) string { return "/additions/" + url.PathEscape(order) + step }

// Newcomer waits until the new phone has made its passkey.
func (a Addition) Newcomer(ctx context.Context, order string) (*Newcomer, error) {
	for {
		var n Newcomer
		err := a.First.call(ctx, http.MethodGet, deviceAPI+additionPath(order, ""), nil, nil, &n)
		if code := CodeOf(err); code != "enrol_no_credential" && code != "order_not_claimed" && code != "order_check_needed" {
			return &n, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Agree answers the challenge of the statement and sends that.
func (a Addition) Agree(ctx context.Context, order string, n *Newcomer, faults ...softauthn.Fault) (*Added, error) {
	assertion, err := a.First.keys.Get(a.First.server, n.PublicKey, faults...)
	if err != nil {
		return nil, err
	}
	added := Added{Order: order}
	return &added, a.First.Post(ctx, additionPath(order, "/approve"), map[string]any{"assertion": json.RawMessage(assertion)}, &added)
}

// add is the first phone in a script. The new one is "softphone bind --code", or
// any other phone.
func (f *flags) add() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add", Short: "Add another phone from this one: prints a code to type there, reads the two digits it shows", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.phone()
			if err != nil {
				return err
			}
			b, err := NewBrowser(p.server, nil)
			if err != nil {
				return err
			}
			a := Addition{Browser: b, First: b.Phone(p.keys)}
			added, err := a.talk(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
			if saveErr := p.keys.Save(f.keys); err == nil {
				err = saveErr
			}
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), added)
		},
	}
	return cmd
}

// talk leads a person through an addition.
func (a Addition) talk(ctx context.Context, in io.Reader, out io.Writer) (*Added, error) {
	id, err := a.Begin(ctx)
	if err != nil {
		return nil, err
	}
	st, err := a.Browser.Step(ctx, id, "code", struct{}{})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "type this code on the new phone: %s\ntwo digits that it shows: ", st.Code)
	if _, err := a.Browser.WaitFor(ctx, id, "scanned"); err != nil {
		return nil, err
	}
	line := bufio.NewScanner(in)
	if !line.Scan() {
		return nil, errors.New("the two digits are needed")
	}
	if err := a.Browser.Check(ctx, id, strings.TrimSpace(line.Text())); err != nil {
		return nil, err
	}
	n, err := a.Newcomer(ctx, id)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "new phone: %s (%s, %s)\n", n.Device.Name, n.Device.Browser, n.Device.OS)
	return a.Agree(ctx, id, n)
}
