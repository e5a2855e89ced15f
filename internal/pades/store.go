package pades

import (
	"context"
	"errors"
	"io"
)

// Store is a document's security store (EN 319 142-1 §5.4.2.2): data with which its
// signatures can be validated later. It is signed by nobody but what it holds.
type Store struct {
	Certificates, OCSPs, CRLs [][]byte // DER, unparsed
}

const maxStored = 512

// SecurityStore reads the document's store; empty when there is none.
func SecurityStore(ctx context.Context, pdf io.ReaderAt, size int64) (*Store, error) {
	d, err := open(ctx, pdf, size)
	if err != nil {
		return nil, err
	}
	catalog, err := d.catalog()
	if err != nil {
		return nil, err
	}
	dss, err := d.at(catalog, "DSS")
	if err != nil {
		return nil, err
	}
	out := &Store{}
	for key, to := range map[string]*[][]byte{"Certs": &out.Certificates, "OCSPs": &out.OCSPs, "CRLs": &out.CRLs} {
		list, err := d.at(dss, key)
		if err != nil {
			return nil, err
		}
		if len(list.items) > maxStored {
			return nil, ErrTooLarge.Because(errors.New("too much in the security store"))
		}
		for _, item := range list.items {
			e := d.entries[item.ref.num]
			if item.kind != kindRef || !e.used || e.inside != 0 || e.gen != item.ref.gen {
				return nil, ErrMalformed.Because(errors.New("the security store names what is no stream"))
			}
			_, data, err := d.streamAt(e.offset, &item.ref)
			if err != nil {
				return nil, err
			}
			*to = append(*to, data)
		}
	}
	return out, nil
}
