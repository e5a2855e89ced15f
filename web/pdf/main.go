//go:build js && wasm

// Command pdf is what reads PDF signatures, and prepares PDFs for signing, in the
// browser, so that the document need not leave it: package pades as WebAssembly.
// It gives workers two functions: sealgatePDF(read, size), where
// read(offset, length) gives a Uint8Array and the answer is JSON, and
// sealgatePreparePDF(read, size), see prepare.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"syscall/js"
	"time"

	"sealgate/internal/fault"
	"sealgate/internal/pades"
)

// part is one signature as POST /api/v1/verifications takes it, without digests.
type part struct {
	Type      string     `json:"type"`
	CMS       []byte     `json:"cms"`
	ByteRange [4]int64   `json:"byte_range"`
	Later     string     `json:"later"`
	Time      *time.Time `json:"time,omitempty"`
	Broken    bool       `json:"broken"`
}

type answer struct {
	Signatures []part `json:"signatures"`
	Error      string `json:"error,omitempty"`
}

// reader reads a File of the browser.
type reader struct {
	read js.Value
	size int64
}

func (r reader) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), r.size-off)
	got := js.CopyBytesToGo(p, r.read.Invoke(float64(off), float64(n)))
	if int64(got) < n {
		return got, io.ErrUnexpectedEOF
	}
	if got < len(p) {
		return got, io.EOF
	}
	return got, nil
}

// patience bounds how long a document may be looked at.
const patience = 60 * time.Second

func signatures(read js.Value, size int64) (out answer) {
	defer func() {
		if p := recover(); p != nil { // the file was changed or taken away meanwhile
			out = answer{Error: fmt.Sprint(p)}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list, err := pades.Signatures(ctx, reader{read, size}, size)
	if err != nil {
		return answer{Error: fault.CodeOf(err)}
	}
	out.Signatures = []part{}
	for _, s := range list {
		p := part{Type: s.Type, CMS: s.Contents, ByteRange: s.ByteRange, Later: s.Later.String(), Broken: s.Err != nil}
		if !s.Time.IsZero() {
			p.Time = &s.Time
		}
		out.Signatures = append(out.Signatures, p)
	}
	return out
}

func main() {
	js.Global().Set("sealgatePDF", js.FuncOf(func(_ js.Value, args []js.Value) any {
		raw, err := json.Marshal(signatures(args[0], int64(args[1].Float())))
		if err != nil {
			return `{"error":"internal"}`
		}
		return string(raw)
	}))
	js.Global().Set("sealgatePreparePDF", js.FuncOf(func(_ js.Value, args []js.Value) any {
		return prepare(args[0], int64(args[1].Float()))
	}))
	select {}
}
