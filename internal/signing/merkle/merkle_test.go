package merkle_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"

	"sealgate/internal/signing/merkle"
)

func list(n int) []merkle.Document {
	out := make([]merkle.Document, n)
	for i := range out {
		d := sha256.Sum256(fmt.Append(nil, i))
		out[i] = merkle.Document{Name: fmt.Sprintf("公文 %d.pdf", i), Size: int64(i) * 1000, Algorithm: "sha-256", Digest: d[:], LeftOut: i%5 == 3}
	}
	return out
}

// leaf and hash are RFC 6962 §2.1 written down again, without the package.
func leaf(i, n int, d merkle.Document) []byte {
	prefix := "sealgate/batch-document/v1\x00"
	if d.LeftOut {
		prefix = "sealgate/batch-left-out/v1\x00"
	}
	w := sha256.New()
	w.Write([]byte{0})
	w.Write([]byte(prefix))
	binary.Write(w, binary.BigEndian, []uint32{uint32(i), uint32(n)})
	for _, p := range []any{uint16(len(d.Name)), []byte(d.Name), d.Size, uint16(len(d.Algorithm)), []byte(d.Algorithm), uint16(len(d.Digest)), d.Digest} {
		binary.Write(w, binary.BigEndian, p)
	}
	return w.Sum(nil)
}

func hash(leaves [][]byte) []byte {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	sum := sha256.Sum256(bytes.Join([][]byte{{1}, hash(leaves[:k]), hash(leaves[k:])}, nil))
	return sum[:]
}

func TestEveryProofOfEverySize(t *testing.T) {
	for n := 1; n <= 200; n++ {
		docs := list(n)
		tree, err := merkle.New(docs)
		if err != nil {
			t.Fatal(err)
		}
		leaves := make([][]byte, n)
		for i, d := range docs {
			leaves[i] = leaf(i, n, d)
		}
		if !bytes.Equal(tree.Root(), hash(leaves)) {
			t.Fatalf("%d documents: the root is not RFC 6962's", n)
		}
		for i, d := range docs {
			p, err := tree.Prove(i)
			if err != nil {
				t.Fatal(err)
			}
			back, err := merkle.ParseProof(p.Marshal())
			if err != nil {
				t.Fatal(err)
			}
			if err := merkle.Verify(tree.Root(), d, back); err != nil {
				t.Fatalf("%d of %d: %v", i, n, err)
			}
		}
	}
}

func TestWhatIsNotOnTheListIsNotProven(t *testing.T) {
	docs := list(11)
	tree, _ := merkle.New(docs)
	p, _ := tree.Prove(4)
	if err := merkle.Verify(tree.Root(), docs[4], p); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*merkle.Document, *merkle.Proof){
		"name":      func(d *merkle.Document, _ *merkle.Proof) { d.Name += "x" },
		"size":      func(d *merkle.Document, _ *merkle.Proof) { d.Size++ },
		"algorithm": func(d *merkle.Document, _ *merkle.Proof) { d.Algorithm = "sha-512" },
		"digest":    func(d *merkle.Document, _ *merkle.Proof) { d.Digest = docs[5].Digest },
		"left out":  func(d *merkle.Document, _ *merkle.Proof) { d.LeftOut = true },
		"place":     func(_ *merkle.Document, p *merkle.Proof) { p.Index = 5 },
		"count":     func(_ *merkle.Document, p *merkle.Proof) { p.Count = 12 },
		"count 0":   func(_ *merkle.Document, p *merkle.Proof) { p.Count = 0 },
		"path":      func(_ *merkle.Document, p *merkle.Proof) { p.Path[0][0] ^= 1 },
		"shorter":   func(_ *merkle.Document, p *merkle.Proof) { p.Path = p.Path[1:] },
		"longer":    func(_ *merkle.Document, p *merkle.Proof) { p.Path = append(p.Path, [32]byte{}) },
		"shifted":   func(d *merkle.Document, _ *merkle.Proof) { d.Name, d.Algorithm = d.Name+"s", "ha-256" },
	} {
		d, q := docs[4], p
		q.Path = append([][32]byte(nil), p.Path...)
		change(&d, &q)
		if merkle.Verify(tree.Root(), d, q) == nil {
			t.Errorf("%s: proven", name)
		}
	}
	// What was left out is proven as left out, and not as approved.
	out, _ := tree.Prove(3)
	if err := merkle.Verify(tree.Root(), docs[3], out); err != nil {
		t.Error(err)
	}
	approved := docs[3]
	approved.LeftOut = false
	if merkle.Verify(tree.Root(), approved, out) == nil {
		t.Error("a document that was left out is proven as approved")
	}
}

func TestBounds(t *testing.T) {
	if _, err := merkle.New(nil); err == nil {
		t.Error("an empty list")
	}
	if _, err := merkle.New(make([]merkle.Document, merkle.MaxDocuments+1)); err == nil {
		t.Error("too long a list")
	}
	for name, change := range map[string]func(*merkle.Document){
		"no digest": func(d *merkle.Document) { d.Digest = nil }, "no algorithm": func(d *merkle.Document) { d.Algorithm = "" },
		"size": func(d *merkle.Document) { d.Size = -1 }, "name": func(d *merkle.Document) { d.Name = string(make([]byte, merkle.MaxName+1)) },
	} {
		docs := list(2)
		change(&docs[1])
		if _, err := merkle.New(docs); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	tree, _ := merkle.New(list(3))
	for _, i := range []int{-1, 3} {
		if _, err := tree.Prove(i); err == nil {
			t.Errorf("document %d of 3 proven", i)
		}
	}
}

// Vectors: other implementations can be held against these.
func TestVectors(t *testing.T) {
	for n, want := range vectors {
		tree, err := merkle.New(list(n))
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(tree.Root()); got != want {
			t.Errorf("%d documents: %s", n, got)
		}
	}
}

var vectors = map[int]string{
	1:   "e2cda826789575d8a33389ba6cf1227be9fa8f1181308ad12d95e79269adec63",
	7:   "9b1acd6a9d2528fe84f2879682691ecca857812b43e6ab30882aed495496254a",
	200: "e3b7ccb9d65fcb8e10d0dabe9499f352a64358f6d729b29178a0f1b9421c3329",
}

func FuzzParseProof(f *testing.F) {
	tree, _ := merkle.New(list(9))
	for i := range 9 {
		p, _ := tree.Prove(i)
		f.Add(p.Marshal())
	}
	docs := list(9)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := merkle.ParseProof(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Marshal(), b) {
			t.Fatal("two encodings of one proof")
		}
		ok := 0
		for _, d := range docs {
			if merkle.Verify(tree.Root(), d, p) == nil {
				ok++
			}
		}
		if ok > 1 {
			t.Fatal("one proof for two documents")
		}
	})
}
