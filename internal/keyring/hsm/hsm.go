// Package hsm keeps private keys in a PKCS #11 token: they are made there, sign
// there and never leave it. It is a keyring.Provider, and the only package that
// needs cgo; built without, New says so and everything else works.
//
// An object in the token has the id of its key row as CKA_ID and a label that
// names the deployment and the purpose. Both are asked for when a key is
// looked up, and every signature is verified under the row's public key before
// it is given out, so neither a changed row nor another object under the same
// name can make a key sign for something it is not for.
//
// The token may go away and come back. What fails because of that fails with
// keyring.ErrTokenUnavailable, so approved orders stay approved and are signed
// later. The module is then closed and opened again, with growing waits:
//
//	closed ──first use──▶ opening ──▶ open ──CKR_DEVICE_REMOVED…──▶ draining ──▶ closed
//	   ▲                     │
//	   └── wait, 250 ms… ◀───┘ token absent, PIN refused
//
// A PIN that the token refuses is not sent again until its file has changed:
// tokens lock themselves after a few wrong ones.
//
// Looking a key up is slow where a token holds many (SoftHSM: 60 ms among 200),
// so handles are kept while the module stays open.
package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// Config names a token.
type Config struct {
	// Module is the path of the PKCS #11 library.
	Module string
	// TokenLabel is the token's CK_TOKEN_INFO label.
	TokenLabel string
	// PINFile holds the user PIN. Only its owner may read it. It is read each
	// time the token is opened.
	PINFile string
	// MaxSessions bounds the sessions of this process, at least 2: one of them
	// only holds the login. 0: 16.
	MaxSessions int
	// SessionWait is how long a call waits for a free session; 0: 2 s.
	SessionWait time.Duration
	// AnswerTimeout is how long one operation may take; 0: 10 s. Making a key
	// may take three times as long. A call into a module cannot be broken off:
	// one that never returns costs a session, not the caller.
	AnswerTimeout time.Duration
	// Log is told when the token goes away and comes back; nil: nobody is.
	Log *slog.Logger
}

// complete sets the defaults and checks the whole.
func (c Config) complete() (Config, error) {
	if c.Module == "" || c.TokenLabel == "" || c.PINFile == "" {
		return c, errors.New("hsm: module, token label and PIN file are needed")
	}
	if len(c.TokenLabel) > 32 {
		return c, errors.New("hsm: a token label has at most 32 bytes")
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 16
	}
	if c.SessionWait == 0 {
		c.SessionWait = 2 * time.Second
	}
	if c.AnswerTimeout == 0 {
		c.AnswerTimeout = 10 * time.Second
	}
	if c.MaxSessions < 2 || c.SessionWait < 0 || c.AnswerTimeout < 0 {
		return c, errors.New("hsm: at least 2 sessions, and no negative times")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// maxPIN bounds the PIN file in bytes.
const maxPIN = 256

// readPIN reads the PIN. No error of it shows what the file has.
func readPIN(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("hsm: PIN file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("hsm: PIN file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("hsm: PIN file %s may be read by others (mode %04o): chmod 600", path, info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxPIN+1))
	if err != nil {
		return "", fmt.Errorf("hsm: PIN file: %w", err)
	}
	defer clear(raw)
	pin := bytes.TrimRight(raw, "\r\n")
	if len(pin) == 0 || len(raw) > maxPIN || bytes.ContainsAny(pin, "\r\n\x00") {
		return "", fmt.Errorf("hsm: PIN file %s does not have one line of at most %d bytes", path, maxPIN)
	}
	return string(pin), nil
}
