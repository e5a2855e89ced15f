package xmldsig

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The elements of an SI file that are known to be so in files in the field.
const (
	siRoot   = "線上簽核"
	siFlows  = "線上簽核流程"
	siFlow   = "簽核流程"
	siPoints = "線上簽核資訊"
	siPoint  = "簽核點定義"
	siChange = "異動資訊"
	siAction = "異動別"
	siInfo   = "簽核資訊"
	siFolder = "簽核文件夾"
	siDrafts = "簽核文稿清單"
	siFiles  = "檔案清單"
	// The rest are names of ours, where the published rule's were not at hand.
	siName   = "姓名"
	siTitle  = "職稱"
	siTime   = "異動時間"
	siReason = "異動原因"
	siFile   = "檔案"
	siURI    = "檔名"
	siRecord = "文號"
	siRemark = "意見"
	siFor    = "被代理人"
)

// File is a file that a point covers, by its name and digest.
type File struct {
	URI    string // as in the reference: a relative name
	Digest []byte // with the point's hash
}

// Point is one signature point (簽核點) of an approval chain.
type Point struct {
	ID     string // the XML Id; empty: the next free one
	Flow   string // the Id of its 簽核流程
	Action string // 異動別: 承辦, 陳核, 退件 …
	Reason string // of a return, or of a deputy
	// Record says which official document it is (文號), Comment what the signer
	// adds (意見), For whose deputy signs (被代理人).
	Record, Comment, For string
	Name                 string
	Title                string
	Time                 time.Time // claimed
	Drafts               []File    // 簽核文稿清單
	Files                []File    // 檔案清單
}

// SIFile is the XML record of all approval points of one official document.
type SIFile struct {
	doc    *Document
	list   *Element // 線上簽核資訊
	points []*point
}

type point struct {
	id               string
	element          *Element
	object, sig      *Element
	pending          bool
	value            *Element // SignatureValue
	flow             string
	objectID         string
	before           []string // ids of the points before
	hasSigs, hasObjs int
}

// NewSI makes a record without points. flow is the Id of its 簽核流程.
func NewSI(flow string) (*SIFile, error) {
	if !isID(flow) {
		return nil, ErrPoint.Because(fmt.Errorf("id %.40q", flow))
	}
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	fmt.Fprintf(&b, "<%s>\n<%s><%s Id=\"%s\"></%s></%s>\n<%s>\n</%s>\n</%s>\n",
		siRoot, siFlows, siFlow, flow, siFlow, siFlows, siPoints, siPoints, siRoot)
	return ParseSI(b.Bytes())
}

// ParseSI reads a record. Signatures elsewhere than in a point are refused: a
// reader that looks for them there would be told something else.
func ParseSI(xml []byte) (*SIFile, error) {
	doc, err := Parse(xml)
	if err != nil {
		return nil, err
	}
	wrong := func(text string, a ...any) (*SIFile, error) { return nil, ErrStructure.Because(fmt.Errorf(text, a...)) }
	if doc.Root.Local != siRoot {
		return wrong("root <%.40s>", doc.Root.Local)
	}
	f := &SIFile{doc: doc}
	for _, e := range doc.Root.Elements() {
		if e.Local != siPoints {
			continue
		}
		if f.list != nil {
			return wrong("two lists of points")
		}
		f.list = e
	}
	if f.list == nil || f.list.Space != doc.Root.Space {
		return wrong("no list of points")
	}
	seen := map[*Element]bool{}
	var ids []string
	for _, e := range f.list.Elements() {
		p, err := f.point(e)
		if err != nil {
			return nil, err
		}
		p.before = slices.Clone(ids)
		ids = append(ids, p.id)
		f.points = append(f.points, p)
		seen[p.sig] = true
	}
	for _, sig := range doc.Signatures() {
		if !seen[sig] {
			return wrong("a signature that is in no point")
		}
	}
	if len(f.points) > maxSignatures {
		return nil, ErrTooLarge
	}
	return f, nil
}

func (f *SIFile) point(e *Element) (*point, error) {
	p := &point{element: e}
	wrong := func(text string, a ...any) (*point, error) { return nil, ErrStructure.Because(fmt.Errorf(text, a...)) }
	if e.Local != siPoint || e.Space != f.doc.Root.Space {
		return wrong("<%.40s> among the points", e.Local)
	}
	p.id, _ = e.Attr("Id")
	if f.doc.ByID(p.id) != e {
		return wrong("a point's Id %.40q", p.id)
	}
	flow, _ := e.Attr("URI")
	p.flow = strings.TrimPrefix(flow, "#")
	for _, part := range e.Elements() {
		switch {
		case part.is(nsDSig, "Signature"):
			p.sig = part
			p.hasSigs++
		case part.Local == "Object":
			p.object = part
			p.hasObjs++
		default:
			return wrong("<%.40s> in a point", part.Local)
		}
	}
	if p.hasSigs != 1 || p.hasObjs != 1 {
		return wrong("a point needs one object and one signature")
	}
	p.objectID, _ = p.object.Attr("Id")
	for _, part := range p.sig.Elements() {
		if part.is(nsDSig, "SignatureValue") {
			p.value = part
		}
	}
	p.pending = p.value != nil && strings.TrimSpace(p.value.Text()) == ""
	return p, nil
}

// XML is the record as it was read.
func (f *SIFile) XML() []byte { return bytes.Clone(f.doc.source) }

func isID(s string) bool {
	p := &parser{b: []byte(s)}
	name, err := p.name()
	return err == nil && name == s && !strings.Contains(s, ":") && len(s) <= 128
}

func (f *SIFile) freeID() string {
	for n := len(f.points) + 1; ; n++ {
		if id := "P" + strconv.Itoa(n); len(f.doc.ids[id]) == 0 {
			return id
		}
	}
}

// PointResult is what one point turned out to be.
type PointResult struct {
	Point   Point // as signed; the digests are in Files
	Pending bool  // not signed yet
	Result  *Result
	// Files are the references to files.
	Files []Reference
	// Covers are the earlier points that this one signs too; CoversAll: all of them.
	Covers    []string
	CoversAll bool
	// Err is the first failure; for a pending point ErrPending.
	Err error
}

// Verify checks all points, in their order. What a point says is taken from the
// very elements that its signature covers.
func (f *SIFile) Verify(ctx context.Context, o VerifyOptions) ([]PointResult, error) {
	shared := newWork()
	out := make([]PointResult, len(f.points))
	for i, p := range f.points {
		r := &out[i]
		r.Point.ID = p.id
		if p.pending {
			r.Pending, r.Err = true, ErrPending
			continue
		}
		var err error
		if r.Result, err = f.doc.verify(ctx, p.sig, o, shared); err != nil {
			return nil, err
		}
		f.judge(p, r)
	}
	return out, nil
}

func (f *SIFile) judge(p *point, r *PointResult) {
	r.Err = r.Result.Err
	covered := map[*Element]bool{}
	for _, ref := range r.Result.References {
		if ref.Element == nil {
			r.Files = append(r.Files, ref)
		} else if ref.Err == nil && ref.Checked && !ref.Enveloped {
			covered[ref.Element] = true
		}
	}
	later := false
	for _, q := range f.points {
		later = later || q == p
		switch {
		case !covered[q.element]:
		case !later:
			r.Covers = append(r.Covers, q.id)
		case r.Err == nil: // nobody signs what is not there yet: the order was changed
			r.Err = form("point %.40q signs a point behind it", p.id)
		}
	}
	r.CoversAll = len(r.Covers) == len(p.before)
	if !covered[p.object] {
		if r.Err == nil {
			r.Err = form("point %.40q does not sign its own object", p.id)
		}
		return
	}
	r.Point = described(p)
	for _, file := range slices.Concat(r.Point.Drafts, r.Point.Files) {
		if r.Err == nil && !slices.ContainsFunc(r.Files, func(ref Reference) bool { return ref.URI == file.URI }) {
			r.Err = form("file %.100q is listed, and not signed", file.URI)
		}
	}
}

// described reads a point's object.
func described(p *point) Point {
	out := Point{ID: p.id, Flow: p.flow}
	change, info := child(p.object, siChange), child(p.object, siInfo)
	out.Action, out.Reason = childText(change, siAction), childText(change, siReason)
	out.Name, out.Title = childText(change, siName), childText(change, siTitle)
	out.Record, out.Comment, out.For = childText(change, siRecord), childText(change, siRemark), childText(change, siFor)
	out.Time, _ = time.Parse(time.RFC3339, childText(change, siTime))
	folder := child(info, siFolder)
	for list, to := range map[string]*[]File{siDrafts: &out.Drafts, siFiles: &out.Files} {
		if e := child(folder, list); e != nil {
			for _, item := range e.Elements() {
				if uri, ok := item.Attr(siURI); ok && item.Local == siFile {
					*to = append(*to, File{URI: uri})
				}
			}
		}
	}
	return out
}

func child(e *Element, local string) *Element {
	if e == nil {
		return nil
	}
	for _, c := range e.Elements() {
		if c.Local == local {
			return c
		}
	}
	return nil
}

func childText(e *Element, local string) string {
	if c := child(e, local); c != nil {
		return strings.TrimSpace(c.Text())
	}
	return ""
}

// Points lists the Ids of the points, in order.
func (f *SIFile) Points() []string {
	var out []string
	for _, p := range f.points {
		out = append(out, p.id)
	}
	return out
}

func (f *SIFile) find(id string) *point {
	for _, p := range f.points {
		if p.id == id {
			return p
		}
	}
	return nil
}

func hashed(hash crypto.Hash, write func(*canonical) error) ([]byte, error) {
	h, budget := hash.New(), int64(maxHashed)
	err := write(&canonical{w: h, budget: &budget})
	return h.Sum(nil), err
}
