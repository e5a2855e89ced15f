package order

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"
)

// frameMACSize is the length in bytes of a frame's truncated HMAC: 64 bits,
// against an attacker who must ask us for each guess within seconds.
const frameMACSize = 8

// Frame is what one QR picture says: an order, the time step in which it was
// shown, and a MAC under the order's own QR secret, which never leaves the
// server.
type Frame struct {
	Order ID
	Step  int
	MAC   [frameMACSize]byte
}

// step is the number of whole frame steps since the order was made.
func step(created, now time.Time, length time.Duration) int {
	if now.Before(created) {
		return 0
	}
	return int(now.Sub(created) / length)
}

// frameMAC is HMAC-SHA-256(secret, "sealgate/frame/v1" ‖ order ‖ step), truncated.
func frameMAC(secret []byte, id ID, step int) [frameMACSize]byte {
	m := hmac.New(sha256.New, secret)
	var buf [17 + 16 + 8]byte
	n := copy(buf[:], "sealgate/frame/v1")
	n += copy(buf[n:], id[:])
	binary.BigEndian.PutUint64(buf[n:], uint64(step))
	m.Write(buf[:])
	var out [frameMACSize]byte
	copy(out[:], m.Sum(nil))
	return out
}

// newFrame makes the frame of a step.
func newFrame(secret []byte, id ID, step int) Frame {
	return Frame{Order: id, Step: step, MAC: frameMAC(secret, id, step)}
}

// tail is the part of a frame's link behind "/q/": at most 22+1+3+1+11 characters.
func (f Frame) tail() string {
	var b [48]byte
	out := base64.RawURLEncoding.AppendEncode(b[:0], f.Order[:])
	out = append(out, '.')
	out = strconv.AppendInt(out, int64(f.Step), 10)
	out = append(out, '.')
	out = base64.RawURLEncoding.AppendEncode(out, f.MAC[:])
	return string(out)
}

// ParseFrame reads a frame from a link of this host ("https://HOST/q/…") or
// from the part behind "/q/". It does not check the MAC: that needs the order.
func ParseFrame(publicOrigin, s string) (Frame, error) {
	var f Frame
	if len(s) > 200 {
		return f, ErrFrameUnknown
	}
	s = strings.TrimPrefix(s, publicOrigin)
	s = strings.TrimPrefix(s, "/q/")
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[1]) == 0 || len(parts[1]) > 6 {
		return f, ErrFrameUnknown
	}
	id, err := ParseID(parts[0])
	if err != nil {
		return f, ErrFrameUnknown
	}
	step, err := strconv.ParseUint(parts[1], 10, 31)
	if err != nil || strconv.FormatUint(step, 10) != parts[1] {
		return f, ErrFrameUnknown
	}
	mac, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(parts[2]) != base64.RawURLEncoding.EncodedLen(frameMACSize) || len(mac) != frameMACSize {
		return f, ErrFrameUnknown
	}
	f.Order, f.Step = id, int(step)
	copy(f.MAC[:], mac)
	return f, nil
}

// FrameLimits say how old a frame may be when a phone brings it. Age counts
// from the end of the step in which the frame was shown.
type FrameLimits struct {
	Step    time.Duration // how long one picture is shown
	Scanner time.Duration // read by our own scanner
	Link    time.Duration // opened by the phone's camera
	Frozen  time.Duration // held still by a person who needs time
}

// clockSkew is how far two nodes' clocks may differ before frames are refused.
const clockSkew = 2 * time.Second

// judge checks a frame against its order at a time. It gives the road that
// counts (a frozen frame is its own road) and the frame's age.
func (l FrameLimits) judge(o *Order, f Frame, source Source, most time.Duration, now time.Time) (Source, time.Duration, error) {
	want := frameMAC(o.QRSecret, o.ID, f.Step)
	if !hmac.Equal(want[:], f.MAC[:]) {
		return "", 0, ErrFrameForged
	}
	shownAt := o.CreatedAt.Add(time.Duration(f.Step) * l.Step)
	if shownAt.After(now.Add(clockSkew)) {
		return "", 0, ErrFrameForged
	}
	age := max(0, now.Sub(shownAt.Add(l.Step)))
	if o.FrozenStep != nil && *o.FrozenStep == f.Step && o.FrozenAt != nil {
		age = max(0, now.Sub(*o.FrozenAt))
		limit := l.Frozen
		if most > 0 && most < limit {
			limit = most // the client's own limit holds for a still picture too
		}
		if age > limit {
			return "", age, ErrFrameStale
		}
		return Frozen, age, nil
	}
	limit := l.Link
	if source == Scanner {
		limit = l.Scanner
	}
	if most > 0 && most < limit {
		limit = most
	}
	if age > limit {
		return "", age, ErrFrameStale
	}
	return source, age, nil
}
