package certpath

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// revokedEntry is one line of a CRL.
type revokedEntry struct {
	serial []byte // without leading zeros
	at     time.Time
	reason uint8 // RFC 5280 §5.3.1
}

// sortKey is a serial number's length and first octets, and where its entry is:
// enough to sort nearly all entries without looking at the list again.
type sortKey struct {
	prefix uint64
	offset uint32
}

// readEntries checks every line and sorts the index. offset is where the list
// begins in Raw.
func (c *CRL) readEntries(list cryptobyte.String, offset int) error {
	end := offset + len(list)
	// The shortest real entry takes about 20 octets; this guess avoids regrowing.
	keys := make([]sortKey, 0, min(len(list)/36+1, maxCRLEntries))
	for !list.Empty() {
		if len(keys) == maxCRLEntries {
			return errors.New("too many entries")
		}
		at := end - len(list)
		e, err := readEntry(&list)
		if err != nil {
			return err
		}
		if e.serial != nil {
			keys = append(keys, sortKey{prefix(e.serial), uint32(at)})
		}
	}
	slices.SortFunc(keys, func(a, b sortKey) int {
		return cmp.Or(cmp.Compare(a.prefix, b.prefix), c.compareEntries(a.offset, b.offset))
	})
	c.index = make([]uint32, len(keys))
	for i, k := range keys {
		c.index[i] = k.offset
	}
	return nil
}

// prefix orders serial numbers without leading zeros by length and first seven octets.
func prefix(serial []byte) uint64 {
	var b [8]byte
	b[0] = byte(len(serial))
	copy(b[1:], serial)
	return binary.BigEndian.Uint64(b[:])
}

func compareSerials(a, b []byte) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), bytes.Compare(a, b))
}

// compareEntries orders by serial number, then by date.
func (c *CRL) compareEntries(a, b uint32) int {
	if byNumber := compareSerials(c.serialAt(a), c.serialAt(b)); byNumber != 0 {
		return byNumber
	}
	return c.entryAt(a).at.Compare(c.entryAt(b).at)
}

// serialAt reads the serial number of an entry that was checked before.
func (c *CRL) serialAt(offset uint32) []byte {
	entry := c.Raw[offset:]
	n := 2 // tag and length of the entry
	if entry[1] >= 0x80 {
		n += int(entry[1] & 0x7f)
	}
	return significant(entry[n+2 : n+2+int(entry[n+1])]) // shorter than 128 octets
}

func (c *CRL) entryAt(offset uint32) revokedEntry {
	in := cryptobyte.String(c.Raw[offset:])
	e, _ := readEntry(&in) // was read before
	return e
}

// significant strips leading zeros.
func significant(serial []byte) []byte {
	for len(serial) > 1 && serial[0] == 0 {
		serial = serial[1:]
	}
	return serial
}

func readEntry(list *cryptobyte.String) (revokedEntry, error) {
	var e revokedEntry
	var item, serial, exts cryptobyte.String
	if !list.ReadASN1(&item, cbasn1.SEQUENCE) || !item.ReadASN1(&serial, cbasn1.INTEGER) || !readEntryTime(&item, &e.at) {
		return e, errMalformedCRL
	}
	if len(serial) == 0 || len(serial) > maxSerialBytes+1 || len(significant(serial)) > maxSerialBytes {
		return e, errors.New("serial number too long")
	}
	if serial[0] < 0x80 { // no certificate we accept has a negative one
		e.serial = significant(serial)
	}
	if item.Empty() {
		return e, nil
	}
	if !item.ReadASN1(&exts, cbasn1.SEQUENCE) || !item.Empty() {
		return e, errMalformedCRL
	}
	return e, e.readExtensions(exts)
}

// reasonAlone is how an entry's extensions begin that are a reason code and
// nothing else: SEQUENCE { id-ce-cRLReasons, OCTET STRING { ENUMERATED } }.
var reasonAlone = []byte{0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01}

// readEntryTime reads the form every CA writes (UTCTime with seconds and Z)
// without the detour over time.Parse, which is most of the cost of a long list.
func readEntryTime(in *cryptobyte.String, out *time.Time) bool {
	const size = 15
	s := *in
	if len(s) < size || s[0] != byte(cbasn1.UTCTime) || s[1] != size-2 || s[size-1] != 'Z' {
		return readTime(in, out)
	}
	var f [6]int
	for i := range f {
		hi, lo := s[2+2*i]-'0', s[3+2*i]-'0'
		if hi > 9 || lo > 9 {
			return false
		}
		f[i] = int(hi)*10 + int(lo)
	}
	year := 1900 + f[0]
	if f[0] < 50 { // RFC 5280 §4.1.2.5.1
		year += 100
	}
	if f[1] < 1 || f[1] > 12 || f[2] < 1 || f[2] > 31 || f[3] > 23 || f[4] > 59 || f[5] > 59 {
		return false
	}
	*out = time.Date(year, time.Month(f[1]), f[2], f[3], f[4], f[5], 0, time.UTC)
	*in = s[size:]
	return out.Day() == f[2] // 31 February is no day
}

func (e *revokedEntry) readExtensions(list cryptobyte.String) error {
	if n := len(reasonAlone); len(list) == n+1 && bytes.Equal(list[:n], reasonAlone) && list[n] <= maxReason {
		e.reason = list[n]
		return nil
	}
	for n := 0; !list.Empty(); n++ {
		x, err := readExtension(&list)
		if err != nil || n == maxCRLExtensions {
			return errMalformedCRL
		}
		value := cryptobyte.String(x.value)
		switch {
		case x.oid.Equal(oidReasonCode):
			var reason int
			if !value.ReadASN1Enum(&reason) || !value.Empty() || reason < 0 || reason > maxReason {
				return errMalformedCRL
			}
			e.reason = uint8(reason)
		case x.oid.Equal(oidCertIssuer):
			return errors.New("an indirect CRL")
		case x.oid.Equal(oidInvalidityDate): // informative, RFC 5280 §5.3.2
		case x.critical:
			return fmt.Errorf("critical entry extension %s is not known", x.oid)
		}
	}
	return nil
}
