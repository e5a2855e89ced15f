package dossier

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // for the hashes below
	_ "crypto/sha512"
	"crypto/x509"
	"fmt"
	"strconv"

	"sealgate/internal/xmldsig"
)

// hashes are the digest algorithms of dossiers.
var hashes = map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

// flow is the Id of the one 簽核流程 of our SI files.
const flow = "F1"

// What a point says it is (異動別).
const (
	actionApprove = "簽核"
	actionDeputy  = "代理簽核"
	actionLater   = "補簽"
	actionReturn  = "退件"
)

// pointID is a point's XML Id.
func pointID(number int) string { return "P" + strconv.Itoa(number) }

// previousName is the name under which a revision's points name the SI file before.
func (d *Dossier) previousName() string { return fmt.Sprintf("SI-%d.xml", d.Revision-1) }

// build makes a claimed point in the SI file as it stands. From the same claim,
// and a key of the same kind, always comes the same SignedInfo.
func build(d *Dossier, c *Claim, certificate *x509.Certificate, chain []*x509.Certificate) (*xmldsig.ToBeSigned, error) {
	si, err := xmldsig.ParseSI(d.SI)
	if err != nil {
		return nil, err
	}
	p := d.Point(c.Point)
	point := xmldsig.Point{ID: pointID(p.Number), Flow: flow, Action: actionApprove, Title: p.Title, Name: certificate.Subject.CommonName,
		Time: c.MadeAt, Comment: c.Comment, Record: fmt.Sprintf("%s (%s, %d)", d.Reference, d.ID, d.Revision)}
	if c.Later {
		point.Action, point.Reason = actionLater, p.LaterReason
	}
	if deputy := p.DeputyOf(c.Citizen); c.Deputy && deputy != nil {
		point.Action, point.For = actionDeputy, p.Title
		point.Reason = join(point.Reason, deputy.Reason)
	}
	if c.Decision == Return {
		point.Action, point.Reason, point.Comment = actionReturn, join(c.Comment, point.Reason), ""
	}
	for _, n := range p.Files {
		f := d.Files[n-1]
		point.Files = append(point.Files, xmldsig.File{URI: f.Name, Digest: f.Digest})
	}
	if d.Previous != nil {
		point.Files = append(point.Files, xmldsig.File{URI: d.previousName(), Digest: d.PreviousDigest})
	}
	covers := make([]string, len(c.Covers))
	for i, n := range c.Covers {
		covers[i] = pointID(n)
	}
	return si.AddPoint(point, xmldsig.PointOptions{Certificate: certificate, Chain: chain, Hash: hashes[d.Algorithm], Covers: covers})
}

func join(a, b string) string {
	if a != "" && b != "" {
		return a + "；" + b
	}
	return a + b
}

// rebuilt is build for what was signed: a fault where the digest is another one.
func rebuilt(d *Dossier, c *Claim, certificate *x509.Certificate, chain []*x509.Certificate) (*xmldsig.ToBeSigned, error) {
	tbs, err := build(d, c, certificate, chain)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(tbs.Digest, c.Digest) {
		// Before, the person's other phone was expected, whose key is of another kind.
		return nil, ErrKeyKind.Because(fmt.Errorf("point %d comes to another SignedInfo", c.Point))
	}
	return tbs, nil
}

// covered lists the points that a point of this state signs: those of earlier
// stages, so that points beside each other stay independent; a later signature
// covers everything that is there.
func covered(d *Dossier, p *Point) []int {
	out := []int{}
	for _, q := range d.Points {
		if q.State == PointSigned && (q.Stage < p.Stage || p.State == PointLater) {
			out = append(out, q.Number)
		}
	}
	return out
}
