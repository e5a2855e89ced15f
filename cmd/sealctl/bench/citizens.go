package bench

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/pkitest"
)

// chip is a citizen card in this process.
type chip struct{ card *pkitest.Card }

// Read gives the card's certificate as the component would.
func (c chip) Read(context.Context) (*softphone.CardInfo, error) {
	return &softphone.CardInfo{Certificate: base64.StdEncoding.EncodeToString(c.card.Certificate.Raw),
		CardNumber: c.card.CardNumber, Version: "bench"}, nil
}

// Sign signs as the component would.
func (c chip) Sign(_ context.Context, tbs, nonce, _ string) (*softphone.CardSignature, error) {
	raw, err := base64.StdEncoding.DecodeString(tbs)
	if err != nil {
		return nil, err
	}
	der, err := pkitest.SignAttached(c.card, raw, pkitest.SignOptions{Nonce: []byte(nonce), CardSN: c.card.CardNumber})
	if err != nil {
		return nil, err
	}
	return &softphone.CardSignature{Signature: base64.StdEncoding.EncodeToString(der),
		Certificate: base64.StdEncoding.EncodeToString(c.card.Certificate.Raw), CardNumber: c.card.CardNumber}, nil
}

// bindCitizens binds n citizens, each with a card and a phone, as people do it.
func (r *rig) bindCitizens(ctx context.Context, n int) error {
	r.phones = make(chan *softphone.Phone, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range n {
		group.Go(func() error {
			id := testNationalID(i)
			card, err := r.hierarchy.Citizen(pkitest.CitizenOptions{Name: fmt.Sprintf("測試負載%d", i), NationalID: id, KeyType: pkitest.P256})
			if err != nil {
				return err
			}
			desk, err := softphone.NewBrowser(r.Origin, r.transport)
			if err != nil {
				return err
			}
			phone := softphone.New(softphone.Config{Server: r.Origin, HTTP: &http.Client{Transport: r.transport, Timeout: time.Minute}})
			_, err = softphone.Enrolment{Browser: desk, Phone: phone, Card: chip{card}, NationalID: id}.Run(ctx)
			r.phones <- phone
			return err
		})
	}
	return group.Wait()
}

// testNationalID makes the n-th identity number of the test range: a letter, a
// digit for the sex, seven digits and the check digit.
func testNationalID(n int) string {
	id := fmt.Sprintf("A1%07d", 9000000+n)
	const letter = 10 // of A
	sum := letter/10 + 9*(letter%10)
	for i, weight := 1, 8; i < len(id); i, weight = i+1, weight-1 {
		sum += weight * int(id[i]-'0')
	}
	return fmt.Sprintf("%s%d", id, (10-sum%10)%10)
}
