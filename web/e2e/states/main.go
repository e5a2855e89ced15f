// Command states serves the pages' states with invented data and nothing else:
// no database, no orders. e2e/shots.mjs takes pictures of it.
//
//	go run ./web/e2e/states -addr 127.0.0.1:8099
package main

import (
	"flag"
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/front"
	"sealgate/internal/front/pages"
	"sealgate/internal/i18n"
	"sealgate/web"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8099", "address to listen on")
	flag.Parse()
	catalogue, err := i18n.Load()
	if err != nil {
		log.Fatal(err)
	}
	shell, err := front.New(front.Config{
		Origin: "http://" + *addr, Catalogue: catalogue, Templates: web.Templates(), Dist: web.Dist(),
		SessionKey: make([]byte, 32), Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		log.Fatal(err)
	}
	r := chi.NewRouter()
	shell.Use(r)
	r.Handle("/assets/*", shell.Assets())
	r.Group(func(r chi.Router) {
		r.Use(shell.Browser)
		pages.NewStates(shell).Mount(r)
	})
	server := &http.Server{Addr: *addr, Handler: r, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
