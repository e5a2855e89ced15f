package enrolment_test

import (
	"context"
	"testing"

	"sealgate/internal/enrolment"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/pkitest"
)

// A certificate that would break a rule of its profile is not signed: a fault,
// one audit entry, and nothing else happened.
func TestProfileBrokenNothingBound(t *testing.T) {
	w := newWorld(t)
	only, err := issuing.NewProfile(issuing.ProfileConfig{KeyAlgorithms: []keyring.Algorithm{keyring.P256}})
	must(t, err)
	ca, err := issuing.New(issuing.Config{Store: w.db.Issuing(), Keys: w.cfg.Keys, Name: "(測試用) Sealgate", BaseURL: "http://pki.example.test", Profile: only})
	must(t, err)
	k := w.walk(w.card(pkitest.CitizenOptions{})).toCard()
	cfg := w.cfg
	cfg.Issuer, cfg.KeyAlgorithm = ca, keyring.P384
	other, err := enrolment.New(cfg)
	must(t, err)
	w.refused(issuing.ErrProfile, func() error {
		_, err := other.Complete(context.Background(), k.proof())
		return err
	})
	k.bind() // control: the same card and phone, with the key that was expected
}
