package passkey

import "errors"

// cborReader reads the few CBOR items of a COSE key, shortest form only, without
// copying (RFC 8949 §3, §4.2.1). What is larger goes to the CBOR library.
type cborReader struct {
	data []byte
	pos  int
}

var errCBOR = errors.New("not canonical CBOR")

// major gives the major type of the next item, 255 at the end.
func (r *cborReader) major() byte {
	if r.pos >= len(r.data) {
		return 255
	}
	return r.data[r.pos] >> 5
}

// head reads an item's head of the given major type and gives its argument.
func (r *cborReader) head(major byte) (uint64, error) {
	if r.major() != major {
		return 0, errCBOR
	}
	info := r.data[r.pos] & 0x1F
	r.pos++
	if info < 24 {
		return uint64(info), nil
	}
	if info > 26 { // nothing here needs 64 bits; 31 is indefinite length
		return 0, errCBOR
	}
	size := 1 << (info - 24)
	if len(r.data)-r.pos < size {
		return 0, errCBOR
	}
	var n uint64
	for _, c := range r.data[r.pos : r.pos+size] {
		n = n<<8 | uint64(c)
	}
	r.pos += size
	if least := [...]uint64{24, 1 << 8, 1 << 16}[info-24]; n < least {
		return 0, errCBOR
	}
	return n, nil
}

// integer reads a signed integer of at most 33 bits.
func (r *cborReader) integer() (int64, error) {
	if r.major() == 1 {
		n, err := r.head(1)
		return -1 - int64(n), err
	}
	n, err := r.head(0)
	return int64(n), err
}

// bytes reads a byte string; the result points into the data.
func (r *cborReader) bytes(limit int) ([]byte, error) {
	n, err := r.head(2)
	if err != nil || n > uint64(limit) || n > uint64(len(r.data)-r.pos) {
		return nil, errCBOR
	}
	b := r.data[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return b, nil
}

func appendCBORBytes(b, v []byte) []byte {
	switch n := len(v); {
	case n < 24:
		b = append(b, 0x40|byte(n))
	case n < 1<<8:
		b = append(b, 0x58, byte(n))
	default:
		b = append(b, 0x59, byte(n>>8), byte(n))
	}
	return append(b, v...)
}
