package softauthn

import "fmt"

// TestKey makes a key outside any ceremony: its COSE_Key and a function that
// signs with it. It panics when the algorithm is unknown; it is for tests.
func TestKey(algorithm int) (coseKeyBytes []byte, sign func(message []byte) []byte) {
	c, err := newCredential(algorithm, "test", []byte{0}, "")
	if err != nil {
		panic(fmt.Sprintf("softauthn: %v", err))
	}
	return coseKey(c.key.Public(), algorithm, &Ceremony{}), func(message []byte) []byte {
		sig, err := c.sign(message)
		if err != nil {
			panic(fmt.Sprintf("softauthn: %v", err))
		}
		return sig
	}
}
