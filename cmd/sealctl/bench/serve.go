package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/spf13/cobra"

	"sealgate/cmd/sealctl/onebox"
	"sealgate/internal/front"
	"sealgate/internal/i18n"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/migrate"
	"sealgate/web"
)

// serving is what the child tells the parent once its ports are open.
type serving struct {
	Origin   string `json:"origin"`
	Empty    string `json:"empty"` // address of the call that does nothing
	ClientID string `json:"client_id"`
	Secret   string `json:"secret"`
	Site     string `json:"site"`
}

// memory is the answer to the line "gc".
type memory struct {
	HeapInuse  uint64 `json:"heap_inuse"`
	StackInuse uint64 `json:"stack_inuse"`
	Goroutines int    `json:"goroutines"`
}

// serveCommand is the child: the server, until its standard input closes.
func serveCommand() *cobra.Command {
	var dir, database, pki, responder, profile string
	cmd := &cobra.Command{
		Use: "serve", Short: "The server under load; started by the bench itself", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if profile != "" {
				f, err := os.Create(profile)
				if err != nil {
					return err
				}
				defer f.Close()
				if err := pprof.StartCPUProfile(f); err != nil {
					return err
				}
				defer pprof.StopCPUProfile()
			}
			return serve(cmd.Context(), dir, database, map[string]string{
				"card.anchors_dir": pki + "/anchors", "card.intermediates_dir": pki + "/intermediates", "egress.allow": responder,
			}, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "directory for keys and the log")
	f.StringVar(&database, "database", "", "database to use")
	f.StringVar(&pki, "pki", "", "directory with the test cards' authority")
	f.StringVar(&responder, "responder", "", "host and port of its OCSP and CRL")
	f.StringVar(&profile, "cpuprofile", "", "file for a CPU profile")
	return cmd
}

func serve(ctx context.Context, dir, database string, settings map[string]string, in io.Reader, out io.Writer) error {
	pool, err := postgres.Open(ctx, database, 16) // as database.max_connections has it
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := migrate.Up(ctx, pool); err != nil {
		return err
	}
	file, err := os.Create(dir + "/server.log")
	if err != nil {
		return err
	}
	defer file.Close()
	// The log is written as in production: JSON, one entry a request.
	log := slog.New(slog.NewJSONHandler(file, nil))
	slog.SetDefault(log)
	box, err := onebox.Start(ctx, onebox.Config{Dir: dir, Pool: pool, DatabaseURL: database, Settings: settings, Log: log})
	if err != nil {
		return err
	}
	defer box.Close()
	empty, stop, err := serveEmpty(box.Origin, log)
	if err != nil {
		return err
	}
	defer stop()
	err = json.NewEncoder(out).Encode(serving{Origin: box.Origin, Empty: empty, ClientID: box.ClientID, Secret: box.Secret, Site: box.Site})
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "gc" {
			debug.FreeOSMemory()
			if err := json.NewEncoder(out).Encode(readMemory()); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

func readMemory() memory {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memory{HeapInuse: m.HeapInuse, StackInuse: m.StackInuse, Goroutines: runtime.NumGoroutine()}
}

// emptyBody is what the call that does nothing takes and gives: about the size
// of a claim's answer or an assertion.
type emptyBody struct {
	Filler string `json:"filler"`
}

// serveEmpty opens a port with a JSON call that does nothing, behind the same
// shell as every other: what is left when it is taken away is our own work.
func serveEmpty(origin string, log *slog.Logger) (address string, stop func(), err error) {
	catalogue, err := i18n.Load()
	if err != nil {
		return "", nil, err
	}
	shell, err := front.New(front.Config{Origin: origin, Catalogue: catalogue, Templates: web.Templates(), Dist: web.Dist(),
		SessionKey: make([]byte, 32), Log: log})
	if err != nil {
		return "", nil, err
	}
	r := chi.NewRouter()
	shell.Use(r)
	r.Group(func(r chi.Router) {
		r.Use(shell.API)
		r.Post("/empty", func(w http.ResponseWriter, r *http.Request) {
			var body emptyBody
			if err := front.DecodeJSON(r, &body, 1<<16); err != nil {
				front.WriteProblem(w, r, err)
				return
			}
			front.WriteJSON(w, http.StatusOK, body)
		})
	})
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String() + "/empty", func() { _ = server.Close() }, nil
}
