//go:build js && wasm

package main

import (
	"context"
	_ "crypto/sha256" // the digest of what is covered
	"fmt"
	"syscall/js"
	"time"

	"sealgate/internal/fault"
	"sealgate/internal/pades"
)

// prepare makes what signs a PDF:
//
//	sealgatePreparePDF(read, size) → {update, digest, hole: [start, end]} or {error}
//
// The hole is the place in update where the signature goes, in hexadecimal.
func prepare(read js.Value, size int64) (out map[string]any) {
	defer func() {
		if p := recover(); p != nil { // the file was changed or taken away meanwhile
			out = map[string]any{"error": "", "cause": fmt.Sprint(p)}
		}
	}()
	p, err := pades.Prepare(context.Background(), reader{read, size}, size, pades.Options{SigningTime: time.Now()})
	if err != nil {
		return map[string]any{"error": fault.CodeOf(err)}
	}
	return map[string]any{"update": octets(p.Update), "digest": octets(p.Digest),
		"hole": []any{float64(p.ByteRange[1] - size + 1), float64(p.ByteRange[2] - size - 1)}}
}

func octets(b []byte) js.Value {
	out := js.Global().Get("Uint8Array").New(len(b))
	js.CopyBytesToJS(out, b)
	return out
}
