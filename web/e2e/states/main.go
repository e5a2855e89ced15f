// Command states serves the pages' states with invented data and nothing else:
// no database, no orders. e2e/shots.mjs takes pictures of it.
//
//	go run ./web/e2e/states -addr 127.0.0.1:8099
//	go run ./web/e2e/states -run "node web/e2e/shots.mjs --pictures"
package main

import (
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/front"
	"sealgate/internal/front/pages"
	"sealgate/internal/i18n"
	"sealgate/web"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8099", "address to listen on")
	run := flag.String("run", "", "command to run against it, with --base and the address behind; the server ends with it")
	flag.Parse()
	catalogue, err := i18n.Load()
	if err != nil {
		log.Fatal(err)
	}
	shell, err := front.New(front.Config{
		Origin: "http://" + *addr, Catalogue: catalogue, Templates: web.Templates(), Dist: web.Dist(),
		SessionKey: make([]byte, 32), Log: slog.New(slog.DiscardHandler),
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
	server := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	base := "http://" + listener.Addr().String()
	if *run == "" {
		fmt.Println(base)
		log.Fatal(server.Serve(listener))
	}
	go func() { _ = server.Serve(listener) }()
	words := append(strings.Fields(*run), "--base", base)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		log.Fatal(err)
	}
}
