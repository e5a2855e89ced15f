# Two commands matter: `make run` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
GO ?= go
export GOTOOLCHAIN ?= local
BIN := bin

.PHONY: help run build test test-go test-web test-browser tools bench fuzz lint clean web

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

run: build ## start everything on this machine and print where to click
	@exec ./$(BIN)/sealgate dev

build: web ## build the three programs into bin/
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/ ./cmd/...

web: web/dist/manifest.json ## build the pages' scripts and styles

WEB_SOURCES := $(shell find web/src web/static web/pdf internal/pades -type f 2>/dev/null) web/build.mjs web/package-lock.json
web/dist/manifest.json: web/node_modules/.made $(WEB_SOURCES)
	@cd web && node build.mjs

web/node_modules/.made: web/package-lock.json
	cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

tools: ## install what the tests need from the system's packages (asks for root)
	@deploy/test-tools.sh

test: tools build test-web test-go test-browser ## run every test
	@echo "all tests passed"

test-web: web ## check the types of the pages' scripts
	@cd web && npx --no-install tsc --noEmit

test-go: web ## vet, formatting, Go tests with the race detector
	@test -z "$$(gofmt -l cmd internal migrations web/*.go)" || { gofmt -l cmd internal migrations web/*.go; exit 1; }
	$(GO) vet ./...
	$(GO) test -race -timeout 12m ./...

test-browser: build ## walk the main road in Chromium
	@cd web && node --test --test-concurrency=1 --test-timeout=300000 e2e/*.test.mjs

bench: build ## measure logins, signatures, verification, memory, batches, waiting browsers
	@./$(BIN)/sealctl bench all

fuzz: ## run each fuzz target for a while (FUZZTIME=30s)
	@for p in $$($(GO) list ./internal/... ./cmd/...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-30s} $$p || exit 1; done; done

clean: ## remove what was built (not ./var)
	rm -rf $(BIN) web/node_modules web/dist/*
