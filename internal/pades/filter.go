package pades

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
)

// decode undoes a structural stream's filters: none or FlateDecode with PNG
// predictors, which is what cross-reference and object streams use.
func decode(dict object, data []byte, budget *int64) ([]byte, error) {
	filter, parms := dict.get("Filter"), dict.get("DecodeParms")
	if filter.kind == kindArray {
		if len(filter.items) > 1 {
			return nil, ErrMalformed.Because(errors.New("several filters on a structural stream"))
		}
		if len(filter.items) == 0 {
			filter = object{}
		} else {
			filter = filter.items[0]
		}
		if parms.kind == kindArray && len(parms.items) == 1 {
			parms = parms.items[0]
		}
	}
	switch {
	case filter.kind == kindNull:
		return data, nil
	case filter.name() != "FlateDecode":
		return nil, ErrMalformed.Because(fmt.Errorf("filter %.40q on a structural stream", filter.raw))
	}
	r, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, ErrMalformed.Because(err)
	}
	limit := min(int64(maxStream), *budget)
	out, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, ErrMalformed.Because(err)
	}
	if int64(len(out)) > limit {
		return nil, ErrTooLarge.Because(errors.New("a structural stream unpacks to too much"))
	}
	*budget -= int64(len(out))
	return unpredict(parms, out)
}

// unpredict undoes the PNG predictors (ISO 32000-1 §7.4.4.4).
func unpredict(parms object, data []byte) ([]byte, error) {
	number := func(key string, def int64) int64 {
		if n, ok := parms.get(key).integer(); ok {
			return n
		}
		return def
	}
	predictor := number("Predictor", 1)
	if predictor == 1 {
		return data, nil
	}
	colors, bits, columns := number("Colors", 1), number("BitsPerComponent", 8), number("Columns", 1)
	if predictor < 10 || colors != 1 || bits != 8 || columns < 1 || columns > 1<<16 {
		return nil, ErrMalformed.Because(fmt.Errorf("predictor %d on a structural stream", predictor))
	}
	width := int(columns)
	if len(data)%(width+1) != 0 {
		return nil, ErrMalformed.Because(errors.New("rows of a structural stream are cut"))
	}
	out := make([]byte, 0, len(data)/(width+1)*width)
	prev := make([]byte, width)
	for len(data) > 0 {
		row := bytes.Clone(data[1 : width+1])
		for i := range row {
			var left, upLeft byte
			if i > 0 {
				left, upLeft = row[i-1], prev[i-1]
			}
			switch data[0] {
			case 0:
			case 1:
				row[i] += left
			case 2:
				row[i] += prev[i]
			case 3:
				row[i] += byte((int(left) + int(prev[i])) / 2)
			case 4:
				row[i] += paeth(left, prev[i], upLeft)
			default:
				return nil, ErrMalformed.Because(fmt.Errorf("row filter %d", data[0]))
			}
		}
		out, prev, data = append(out, row...), row, data[width+1:]
	}
	return out, nil
}

func paeth(a, b, c byte) byte {
	p := int(a) + int(b) - int(c)
	pa, pb, pc := abs(p-int(a)), abs(p-int(b)), abs(p-int(c))
	switch {
	case pa <= pb && pa <= pc:
		return a
	case pb <= pc:
		return b
	default:
		return c
	}
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
