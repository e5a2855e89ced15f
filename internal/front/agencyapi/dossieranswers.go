package agencyapi

import (
	"encoding/base64"
	"fmt"
	"time"

	"sealgate/internal/dossier"
	"sealgate/internal/order"
)

// dossierPage is one page of a list.
type dossierPage struct {
	Dossiers   []dossierAnswer `json:"dossiers"`
	NextCursor string          `json:"next_cursor,omitempty"`
}

// dossierAnswer is a dossier as its client sees it; in a list without files,
// points and orders.
type dossierAnswer struct {
	Dossier         string             `json:"dossier"`
	Reference       string             `json:"reference"`
	Title           string             `json:"title"`
	Revision        int                `json:"revision"`
	Previous        string             `json:"previous,omitempty"`
	State           dossier.State      `json:"state"`
	Stage           int                `json:"stage"`
	DigestAlgorithm string             `json:"digest_algorithm"`
	Level           string             `json:"level,omitempty"`
	CreatedAt       string             `json:"created_at"`
	UpdatedAt       string             `json:"updated_at"`
	ExpiresAt       string             `json:"expires_at"`
	EndedAt         string             `json:"ended_at,omitempty"`
	EndReason       string             `json:"end_reason,omitempty"`
	Files           []fileAnswer       `json:"files,omitempty"`
	Points          []pointAnswer      `json:"points,omitempty"`
	Orders          []pointOrderAnswer `json:"orders,omitempty"`
	SI              string             `json:"si,omitempty"`
}

type fileAnswer struct {
	Number    int    `json:"number"`
	Name      string `json:"name"`
	MediaType string `json:"media_type"`
	Size      int64  `json:"size"`
	Digest    string `json:"digest"`
}

type pointAnswer struct {
	Number      int                `json:"number"`
	Stage       int                `json:"stage"`
	Title       string             `json:"title"`
	State       dossier.PointState `json:"state"`
	Subject     string             `json:"subject"`
	Files       []int              `json:"files"`
	Deputies    []deputyAnswer     `json:"deputies,omitempty"`
	OpenedAt    string             `json:"opened_at,omitempty"`
	LaterReason string             `json:"later_reason,omitempty"`
	SignedBy    string             `json:"signed_by,omitempty"`
	Deputy      bool               `json:"deputy,omitempty"`
	Comment     string             `json:"comment,omitempty"`
	SignedAt    string             `json:"signed_at,omitempty"`
	Order       *order.ID          `json:"order,omitempty"`
	Document    *int               `json:"document,omitempty"`
	Failure     string             `json:"failure,omitempty"`
	Signature   string             `json:"signature,omitempty"`
	Signatures  map[int]string     `json:"signatures,omitempty"`
}

type deputyAnswer struct {
	Subject   string `json:"subject"`
	Reason    string `json:"reason"`
	NotBefore string `json:"not_before"`
	NotAfter  string `json:"not_after"`
}

// pointOrderAnswer is a sign order in which a point is or was.
type pointOrderAnswer struct {
	Order    order.ID           `json:"order"`
	Point    int                `json:"point"`
	Decision dossier.Decision   `json:"decision"`
	Subject  string             `json:"subject"`
	Deputy   bool               `json:"deputy,omitempty"`
	State    dossier.ClaimState `json:"state"`
	Failure  string             `json:"failure,omitempty"`
	MadeAt   string             `json:"made_at"`
}

func orNothing(t *time.Time) string {
	if t == nil {
		return ""
	}
	return stamp(*t)
}

// summaryJSON is a dossier without its parts.
func summaryJSON(d *dossier.Dossier) dossierAnswer {
	a := dossierAnswer{Dossier: d.ID.String(), Reference: d.Reference, Title: d.Title, Revision: d.Revision, State: d.StateAt(time.Now()), Stage: d.Stage,
		DigestAlgorithm: d.Algorithm, Level: d.Level, CreatedAt: stamp(d.CreatedAt), UpdatedAt: stamp(d.UpdatedAt), ExpiresAt: stamp(d.ExpiresAt),
		EndedAt: orNothing(d.EndedAt), EndReason: d.EndReason}
	if d.Previous != nil {
		a.Previous = d.Previous.String()
	}
	return a
}

func (d *Door) dossierJSON(found *dossier.Dossier, claims []dossier.Claim, c caller) dossierAnswer {
	a := summaryJSON(found)
	path := "/api/v1/dossiers/" + a.Dossier
	a.SI = path + "/si"
	for _, f := range found.Files {
		a.Files = append(a.Files, fileAnswer{f.Number, f.Name, f.MediaType, f.Size, base64.RawURLEncoding.EncodeToString(f.Digest)})
	}
	for i := range found.Points {
		a.Points = append(a.Points, d.pointJSON(&found.Points[i], path, c))
	}
	for _, claim := range claims {
		a.Orders = append(a.Orders, pointOrderAnswer{Order: order.ID(claim.Order), Point: claim.Point, Decision: claim.Decision, Subject: d.subject(c, claim.Citizen),
			Deputy: claim.Deputy, State: claim.State, Failure: claim.Failure, MadeAt: stamp(claim.MadeAt)})
	}
	return a
}

func (d *Door) pointJSON(p *dossier.Point, path string, c caller) pointAnswer {
	a := pointAnswer{Number: p.Number, Stage: p.Stage, Title: p.Title, State: p.State, Subject: d.subject(c, p.Citizen), Files: p.Files,
		OpenedAt: orNothing(p.OpenedAt), LaterReason: p.LaterReason, Deputy: p.Deputy, Comment: p.Comment, SignedAt: orNothing(p.SignedAt),
		Document: p.Document, Failure: p.Failure}
	for _, q := range p.Deputies {
		a.Deputies = append(a.Deputies, deputyAnswer{d.subject(c, q.Citizen), q.Reason, stamp(q.NotBefore), stamp(q.NotAfter)})
	}
	if p.SignedBy == nil || p.Order == nil {
		return a
	}
	id := order.ID(*p.Order)
	a.Order, a.SignedBy = &id, d.subject(c, *p.SignedBy)
	own := fmt.Sprintf("%s/points/%d", path, p.Number)
	a.Signature = own + "/signature"
	if p.State == dossier.PointSigned {
		a.Signatures = map[int]string{}
		for _, n := range p.Files {
			a.Signatures[n] = fmt.Sprintf("%s/files/%d/signature", own, n)
		}
	}
	return a
}
