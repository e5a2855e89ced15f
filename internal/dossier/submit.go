package dossier

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/order"
	"sealgate/internal/signing"
	"sealgate/internal/xmldsig"
)

// Submission is what a client submits.
type Submission struct {
	Client           order.Client
	From             order.Origin
	Reference, Title string
	Algorithm        string // of all digests: SHA-256, SHA-384, SHA-512
	Level            string
	Life             time.Duration // 0: 30 days
	Files            []File
	Points           []Point // Number, State and what comes later are set here
}

// Submit takes a new dossier. A client's reference is taken once: ErrExists.
func (s *Service) Submit(ctx context.Context, in Submission) (*Dossier, error) {
	d, err := s.draft(in)
	if err != nil {
		return nil, err
	}
	return d, s.create(ctx, d, in)
}

// Resubmit takes the next revision of a dossier that came back, was withdrawn
// or ran out. Its points sign the SI file of the one before.
func (s *Service) Resubmit(ctx context.Context, old ID, in Submission) (*Dossier, error) {
	before, err := s.Owned(ctx, old, in.Client.ID)
	if err != nil {
		return nil, err
	}
	if state := before.StateAt(s.now()); state == Open || state == Completed {
		return nil, ErrNotEnded
	}
	if before.State == Open { // run out, and not marked yet
		if err := s.expire(ctx, before); err != nil {
			return nil, err
		}
	}
	in.Reference = before.Reference
	d, err := s.draft(in)
	if err != nil {
		return nil, err
	}
	h := hashes[d.Algorithm].New()
	h.Write(before.SI)
	d.Revision, d.Previous, d.PreviousDigest = before.Revision+1, &before.ID, h.Sum(nil)
	return d, s.create(ctx, d, in)
}

func (s *Service) create(ctx context.Context, d *Dossier, in Submission) error {
	e := note(audit.DossierSubmitted, d, 0).By(audit.ActorClient, in.Client.ClientID).WithInt(audit.KeyDocuments, len(d.Files)).WithInt(audit.KeyCount, len(d.Points))
	opened := event("stage_opened", d, 0)
	opened.Data["stage"] = d.Stage
	return s.cfg.Store.Create(ctx, d, from(e, in.From), opened)
}

func from(e audit.Entry, o order.Origin) audit.Entry {
	if o.IP.IsValid() {
		return e.From(o.IP)
	}
	return e
}

// draft checks what was submitted and makes a dossier of it.
func (s *Service) draft(in Submission) (*Dossier, error) {
	now := s.now()
	if in.Life == 0 {
		in.Life = defaultLife
	}
	hash, known := hashes[in.Algorithm]
	switch {
	case !line(in.Reference, 1, maxReference):
		return nil, ErrInvalid.With("field", "reference")
	case !line(in.Title, 1, maxTitle):
		return nil, ErrInvalid.With("field", "title")
	case in.Life < minLife || in.Life > maxLife:
		return nil, ErrInvalid.With("field", "expires_in")
	case !known:
		return nil, ErrInvalid.With("field", "digest_algorithm")
	case signing.CheckLevel(in.Level) != nil:
		return nil, ErrInvalid.With("field", "level")
	case len(in.Files) == 0:
		return nil, ErrInvalid.With("field", "files")
	case len(in.Points) == 0:
		return nil, ErrInvalid.With("field", "points")
	case len(in.Files) > maxFiles || len(in.Files) >= s.cfg.MaxDocuments || len(in.Points) > maxPoints:
		return nil, ErrTooMany
	}
	if in.Level != "" { // what cannot be made is said now, not at the first point
		if err := s.cfg.Signing.CanMake(in.Level, signing.FormCMS); err != nil {
			return nil, err
		}
	}
	d := &Dossier{ID: ID(uuid.Must(uuid.NewV7())), ClientID: in.Client.ID, Reference: in.Reference, Title: in.Title, Revision: 1,
		Algorithm: in.Algorithm, Level: in.Level, State: Open, Version: 1, CreatedAt: now, UpdatedAt: now, ExpiresAt: now.Add(in.Life)}
	if err := d.addFiles(in.Files, hash.Size()); err != nil {
		return nil, err
	}
	if err := d.addPoints(in.Points, now); err != nil {
		return nil, err
	}
	si, err := xmldsig.NewSI(flow)
	if err != nil {
		return nil, err
	}
	d.SI = si.XML()
	d.advance(now)
	return d, nil
}

// addFiles copies the files. A name is a relative reference in the SI file: it
// has none of the characters that mean something in one, nor in a path.
func (d *Dossier) addFiles(files []File, size int) error {
	seen := map[string]bool{}
	for i, f := range files {
		f.Number = i + 1
		if f.MediaType == "" {
			f.MediaType = "application/octet-stream"
		}
		bad := ErrInvalid.With("field", "files").With("file", shorten(f.Name))
		switch {
		case !line(f.Name, 1, maxName), strings.ContainsAny(f.Name, `/\:*?"<>|#%`), strings.HasPrefix(f.Name, "."), strings.HasPrefix(f.Name, "SI-"), seen[f.Name]:
			return bad
		case len(f.MediaType) > maxMediaType || strings.ContainsFunc(f.MediaType, func(r rune) bool { return r < 0x21 || r > 0x7e }):
			return bad
		case f.Size < 0 || f.Size > maxSize || len(f.Digest) != size:
			return bad
		}
		seen[f.Name] = true
		d.Files = append(d.Files, f)
	}
	return nil
}

// addPoints copies the route. Stages rise from 1 without gaps.
func (d *Dossier) addPoints(points []Point, now time.Time) error {
	stage := 0
	for i, in := range points {
		p := Point{Number: i + 1, Stage: in.Stage, Title: in.Title, Citizen: in.Citizen, Files: in.Files, Deputies: in.Deputies, State: PointWaiting}
		bad := ErrInvalid.With("field", "points")
		if (p.Stage != stage && p.Stage != stage+1) || p.Stage < 1 {
			return bad.Because(errors.New("stages do not rise from 1 without gaps"))
		}
		stage = p.Stage
		if !line(p.Title, 1, maxPointTitle) || p.Citizen == uuid.Nil || len(p.Deputies) > maxDeputies {
			return bad
		}
		if len(p.Files) == 0 {
			for _, f := range d.Files {
				p.Files = append(p.Files, f.Number)
			}
		}
		for j, n := range p.Files {
			if n < 1 || n > len(d.Files) || j > 0 && n <= p.Files[j-1] {
				return bad.Because(errors.New("numbers of files do not rise, or there is no such file"))
			}
		}
		if err := checkDeputies(&p, now); err != nil {
			return err
		}
		d.Points = append(d.Points, p)
	}
	return nil
}

func checkDeputies(p *Point, now time.Time) error {
	seen := map[uuid.UUID]bool{p.Citizen: true}
	for i := range p.Deputies {
		q := &p.Deputies[i]
		q.NotBefore, q.NotAfter = q.NotBefore.UTC().Truncate(time.Microsecond), q.NotAfter.UTC().Truncate(time.Microsecond)
		if seen[q.Citizen] || q.Citizen == uuid.Nil || !line(q.Reason, 1, maxReason) || !q.NotAfter.After(q.NotBefore) ||
			!q.NotAfter.After(now) || q.NotAfter.Sub(q.NotBefore) > maxDeputyLife {
			return ErrInvalid.With("field", "deputies")
		}
		seen[q.Citizen] = true
	}
	return nil
}

// line says whether a text is one line that can be shown to a person and stand
// in XML: valid, of bounded length, without control characters, marks that turn
// the direction of writing, or code points that XML does not have.
func line(s string, least, most int) bool {
	n := utf8.RuneCountInString(s)
	if n < least || n > most || !utf8.ValidString(s) || strings.TrimSpace(s) != s {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u200b' || r == '\ufeff' || r == '\u2028' || r == '\u2029' ||
			r == '\ufffd' || r == '\ufffe' || r == '\uffff'
	})
}

func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return strings.ToValidUTF8(s, "")
}
