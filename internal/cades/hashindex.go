package cades

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"sealgate/internal/cms"
	"sealgate/internal/tsp"
)

// maxHashes bounds each list of a hash index.
const maxHashes = 512

// hashIndex is ATSHashIndexV3 (EN 319 122-1 §5.5.2), or the ats-hash-index of
// TS 101 733, which hashes whole attributes instead of each value and may leave out
// the algorithm SHA-256.
type hashIndex struct {
	der          []byte
	hash         crypto.Hash
	whole        bool // attributes are hashed whole
	certificates [][]byte
	revocations  [][]byte
	attributes   [][]byte
}

var hashOIDs = []struct {
	hash crypto.Hash
	oid  asn1.ObjectIdentifier
}{
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}},
}

// indexOf reads the hash index inside an archive time-stamp's token.
func indexOf(t *tsp.Token) (*hashIndex, error) {
	signer := t.SignedData().Signers[0]
	if v, ok := signer.UnsignedAttribute(OIDHashIndexV3); ok {
		return parseIndex(v, false)
	}
	if v, ok := signer.UnsignedAttribute(OIDHashIndexV1); ok {
		return parseIndex(v, true)
	}
	return nil, errors.New("no hash index, or one that is repeated or unknown")
}

func parseIndex(der []byte, old bool) (*hashIndex, error) {
	bad := errors.New("malformed hash index")
	index := &hashIndex{der: der, whole: old}
	in := cryptobyte.String(der)
	var seq, alg cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, bad
	}
	rest := seq
	lists := 0
	for ; rest.SkipASN1(cbasn1.SEQUENCE); lists++ {
	}
	switch {
	case !rest.Empty():
		return nil, bad
	case lists == 3 && old:
		index.hash = crypto.SHA256
	case lists == 4:
		var oid asn1.ObjectIdentifier
		if !seq.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) ||
			!alg.SkipOptionalASN1(cbasn1.NULL) || !alg.Empty() {
			return nil, bad
		}
		for _, h := range hashOIDs {
			if h.oid.Equal(oid) {
				index.hash = h.hash
			}
		}
	default:
		return nil, bad
	}
	if index.hash == 0 {
		return nil, errors.New("hash index of another algorithm")
	}
	for _, into := range []*[][]byte{&index.certificates, &index.revocations, &index.attributes} {
		var list, digest cryptobyte.String
		if !seq.ReadASN1(&list, cbasn1.SEQUENCE) {
			return nil, bad
		}
		for !list.Empty() {
			if !list.ReadASN1(&digest, cbasn1.OCTET_STRING) || len(digest) != index.hash.Size() || len(*into) == maxHashes {
				return nil, bad
			}
			*into = append(*into, digest)
		}
	}
	return index, nil
}

// newIndex makes the ATSHashIndexV3 over all that a signature holds now.
func newIndex(sd *cms.SignedData, si *cms.SignerInfo, hash crypto.Hash) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, h := range hashOIDs {
				if h.hash == hash {
					b.AddASN1ObjectIdentifier(h.oid)
					return
				}
			}
			b.SetError(errors.New("cades: hash algorithm of an archive time-stamp"))
		})
		for _, elements := range [][][]byte{sd.RawCertificates(), sd.RawRevocations(), attributeValues(si)} {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, e := range elements {
					b.AddASN1OctetString(tsp.NewImprint(hash, e).Digest)
				}
			})
		}
	})
	return b.Bytes()
}

// attributeValues are the octets hashed for the unsigned attributes: the type and
// one value, for each value (§5.5.2).
func attributeValues(si *cms.SignerInfo) [][]byte {
	var out [][]byte
	for _, a := range si.RawUnsigned() {
		for _, v := range a.Values {
			out = append(out, slices.Concat(a.Type, v))
		}
	}
	return out
}

// ValueRef is one value of an unsigned attribute, by indexes into
// SignerInfo.RawUnsigned.
type ValueRef struct{ Attribute, Value int }

// Coverage is what an archive time-stamp protects, besides content and signature.
type Coverage struct {
	Certificates []int // indexes into SignedData.RawCertificates
	Revocations  []int // indexes into SignedData.RawRevocations
	Attributes   []ValueRef
	// All: everything there is, but for this time-stamp and later ones.
	All bool
}

// HasToken tells whether an earlier time-stamp is under the protection.
func (c *Coverage) HasToken(t Timestamp) bool {
	if t.Kind == KindContent {
		return true // a signed attribute
	}
	return c != nil && slices.Contains(c.Attributes, ValueRef{t.Attribute, t.Value})
}

// cover finds what the hashes of an index are of. A hash of something that is not
// there any more breaks the time-stamp; what no hash names is not protected (§5.5.2).
func (x *hashIndex) cover(sd *cms.SignedData, si *cms.SignerInfo, self Timestamp) (*Coverage, error) {
	c := &Coverage{}
	var ok bool
	gone := errors.New("the hash index names something that is not in the signature")
	if c.Certificates, ok = x.match(x.certificates, sd.RawCertificates()); !ok {
		return nil, gone
	}
	if c.Revocations, ok = x.match(x.revocations, sd.RawRevocations()); !ok {
		return nil, gone
	}
	var octets [][]byte
	var refs [][]ValueRef
	for a, attr := range si.RawUnsigned() {
		var all []ValueRef
		for v := range attr.Values {
			all = append(all, ValueRef{a, v})
			if !x.whole {
				octets, refs = append(octets, slices.Concat(attr.Type, attr.Values[v])), append(refs, []ValueRef{{a, v}})
			}
		}
		if x.whole {
			octets, refs = append(octets, wholeAttribute(attr)), append(refs, all)
		}
	}
	found, ok := x.match(x.attributes, octets)
	if !ok {
		return nil, gone
	}
	for _, i := range found {
		c.Attributes = append(c.Attributes, refs[i]...)
	}
	if slices.Contains(c.Attributes, ValueRef{self.Attribute, self.Value}) {
		return nil, errors.New("the hash index names its own time-stamp")
	}
	c.All = len(c.Certificates) == len(sd.RawCertificates()) && len(c.Revocations) == len(sd.RawRevocations())
	for a, attr := range si.Unsigned() {
		for v := range attr.Values {
			if kindOf(attr.Type) != KindArchive && !slices.Contains(c.Attributes, ValueRef{a, v}) {
				c.All = false
			}
		}
	}
	return c, nil
}

// match gives the indexes of elements that a list of hashes names, each hash
// using up one element. An element in BER may have been hashed in its DER.
func (x *hashIndex) match(hashes, elements [][]byte) (found []int, ok bool) {
	digests := make(map[string][]int)
	for i, e := range elements {
		d := string(tsp.NewImprint(x.hash, e).Digest)
		digests[d] = append(digests[d], i)
		if der, err := cms.CanonicalList(e); err == nil && !bytes.Equal(der, e) {
			d := string(tsp.NewImprint(x.hash, der).Digest)
			digests[d] = append(digests[d], i)
		}
	}
	used := make(map[int]bool)
	for _, h := range hashes {
		at := -1
		for _, i := range digests[string(h)] {
			if !used[i] {
				at = i
				break
			}
		}
		if at < 0 {
			return nil, false
		}
		used[at] = true
		found = append(found, at)
	}
	slices.Sort(found)
	return found, true
}

// wholeAttribute encodes an attribute as the hash index of TS 101 733 takes it.
func wholeAttribute(a cms.RawAttribute) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(a.Type)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			for _, v := range a.Values {
				b.AddBytes(v)
			}
		})
	})
	return b.BytesOrPanic()
}
