package certpath

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ListKey names a list: where it is, and whose it is. Two CAs of one name may
// publish at one address in turn.
type ListKey struct {
	URL    string
	Issuer [32]byte // SHA-256 of the issuer's certificate
}

// ListSource is a list to keep at hand.
type ListSource struct {
	URL    string
	Issuer *x509.Certificate
}

func (s ListSource) key() ListKey { return ListKey{s.URL, sha256.Sum256(s.Issuer.Raw)} }

// StoredList is a list as a ListStore keeps it. It needs no trust: who takes it
// out verifies it again.
type StoredList struct {
	ListSource
	ThisUpdate, NextUpdate time.Time
	FetchedAt              time.Time // when the source was last asked and had nothing newer
	DER                    []byte
}

// ListStore shares lists between nodes. Its methods may be called from many
// goroutines; a failure costs a download and nothing else.
type ListStore interface {
	// Latest gives the newest list kept; DER is nil unless its ThisUpdate lies
	// after have. Without any it gives the zero value.
	Latest(ctx context.Context, key ListKey, have time.Time) (StoredList, error)
	// Keep takes a list in. One with an older ThisUpdate than what is kept
	// changes nothing, the same one only FetchedAt.
	Keep(ctx context.Context, l StoredList) error
	// Known lists what was fetched after since, without DER.
	Known(ctx context.Context, since time.Time) ([]StoredList, error)
}

type cachedCRL struct {
	crl     *CRL
	issuer  *x509.Certificate
	fetched time.Time
	used    time.Time
}

func (l *cachedCRL) size() int64 { return int64(len(l.crl.Raw) + 4*len(l.crl.index)) }

func (c *Checker) askCRL(ctx context.Context, url string, cert, issuer *x509.Certificate) (*Evidence, error) {
	crl, err := c.crl(ctx, ListSource{url, issuer})
	if err != nil {
		return nil, err
	}
	if err := crl.Covers(cert); err != nil {
		return nil, err
	}
	return crl.about(cert, issuer, url), nil
}

// crl gives the issuer's verified, fresh list, from memory if young enough. Many
// callers at once cause one download.
func (c *Checker) crl(ctx context.Context, src ListSource) (*CRL, error) {
	key := src.key()
	old := c.cachedList(key)
	if old != nil && c.young(old) {
		return old.crl, nil
	}
	usable := old != nil && c.fresh(old.crl.ThisUpdate, old.crl.NextUpdate, 0) == nil
	if usable && c.resting(src.URL) {
		return old.crl, nil
	}
	crl, err := c.loadList(ctx, src, c.cfg.Timeout, false)
	if err != nil && usable && ctx.Err() == nil {
		return old.crl, nil
	}
	return crl, err
}

// young: fetched a short while ago, and within its own time.
func (c *Checker) young(l *cachedCRL) bool {
	now := c.cfg.Now()
	return now.Sub(l.fetched) < c.cfg.CRLMaxAge && now.Before(l.crl.NextUpdate)
}

func (c *Checker) cachedList(key ListKey) *cachedCRL {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.crls[key]
	if l != nil {
		l.used = c.cfg.Now()
	}
	return l
}

// loadList brings a newer list from the store or, if another node has not done
// so lately, from its source. The download outlives the caller that happened to
// start it.
func (c *Checker) loadList(ctx context.Context, src ListSource, timeout time.Duration, asked bool) (*CRL, error) {
	key := src.key()
	shared := context.WithoutCancel(ctx)
	name := hex.EncodeToString(key.Issuer[:]) + src.URL
	ch := c.load.DoChan(name, func() (any, error) {
		if crl := c.fromStore(shared, src); crl != nil && !asked {
			return crl, nil
		}
		crl, err := c.download(shared, src, timeout)
		if err != nil {
			c.letRest(src.URL)
		}
		return crl, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*CRL), nil
	}
}

// fromStore takes over what another node has fetched; nil when the source must
// be asked.
func (c *Checker) fromStore(ctx context.Context, src ListSource) *CRL {
	if c.cfg.Store == nil {
		return nil
	}
	key := src.key()
	old := c.cachedList(key)
	var have time.Time
	if old != nil {
		have = old.crl.ThisUpdate
	}
	stored, err := c.cfg.Store.Latest(ctx, key, have)
	if err != nil || stored.FetchedAt.IsZero() || stored.FetchedAt.After(c.cfg.Now().Add(c.cfg.Skew)) {
		return nil
	}
	l := old
	if stored.DER != nil {
		crl, err := c.readList(stored.DER, src.Issuer)
		if err != nil {
			return nil
		}
		l = &cachedCRL{crl: crl, issuer: src.Issuer}
	}
	if l == nil {
		return nil
	}
	crl, err := c.adopt(key, &cachedCRL{crl: l.crl, issuer: src.Issuer, fetched: stored.FetchedAt})
	if err != nil || !c.young(&cachedCRL{crl: crl, fetched: stored.FetchedAt}) {
		return nil
	}
	return crl
}

func (c *Checker) download(ctx context.Context, src ListSource, timeout time.Duration) (*CRL, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, err := c.cfg.Fetch.Get(ctx, src.URL, "application/pkix-crl", c.cfg.MaxCRLBytes)
	if err != nil {
		return nil, err
	}
	crl, err := c.readList(raw, src.Issuer)
	if err != nil {
		return nil, err
	}
	now := c.cfg.Now()
	kept, err := c.adopt(src.key(), &cachedCRL{crl: crl, issuer: src.Issuer, fetched: now})
	if err != nil {
		return nil, err
	}
	if c.cfg.Store != nil {
		_ = c.cfg.Store.Keep(ctx, StoredList{src, kept.ThisUpdate, kept.NextUpdate, now, kept.Raw}) // the next node downloads it itself
	}
	return kept, nil
}

// readList reads, verifies and dates a list.
func (c *Checker) readList(raw []byte, issuer *x509.Certificate) (*CRL, error) {
	crl, err := ParseCRL(raw)
	if err != nil {
		return nil, err
	}
	if crl.base != nil {
		return nil, errors.New("a delta where a complete list is expected")
	}
	if err := crl.Verify(issuer); err != nil {
		return nil, err
	}
	return crl, c.fresh(crl.ThisUpdate, crl.NextUpdate, 0)
}

// adopt remembers a list. An older one than the one at hand would forget
// revocations and is refused, and so is one whose number and date contradict each
// other, until the one at hand has run out. The same one again is kept as it was
// parsed.
func (c *Checker) adopt(key ListKey, l *cachedCRL) (*CRL, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.crls[key]; old != nil && old.crl != l.crl {
		over := c.fresh(old.crl.ThisUpdate, old.crl.NextUpdate, 0) != nil
		switch {
		case l.crl.same(old.crl):
			l.crl = old.crl
		case l.crl.newer(old.crl), over && l.crl.ThisUpdate.After(old.crl.ThisUpdate):
		default:
			return nil, errors.New("older than the list already seen")
		}
	}
	if err := c.fresh(l.crl.ThisUpdate, l.crl.NextUpdate, 0); err != nil {
		return nil, err
	}
	l.used = c.cfg.Now()
	c.crls[key] = l
	c.evict(key)
	return l.crl, nil
}

// evict keeps the bounds: the list not used for the longest time goes first, the
// configured ones and the newcomer stay.
func (c *Checker) evict(newcomer ListKey) {
	stay := map[ListKey]bool{newcomer: true}
	for _, l := range c.cfg.Lists {
		stay[l.key()] = true
	}
	for {
		var total int64
		var oldest *ListKey
		for k, l := range c.crls {
			total += l.size()
			if !stay[k] && (oldest == nil || l.used.Before(c.crls[*oldest].used)) {
				oldest = &k
			}
		}
		if oldest == nil || len(c.crls) <= c.cfg.CacheCRLs && total <= c.cfg.CacheCRLBytes {
			return
		}
		delete(c.crls, *oldest)
	}
}

// ListState is what Refresh found of one list.
type ListState struct {
	URL        string
	Anchor     string // AnchorID of the issuer
	Number     string // decimal; empty when the list has none
	ThisUpdate time.Time
	NextUpdate time.Time
	Entries    int
	Renewed    bool  // a newer list was fetched
	Err        error // the source could not give a newer one; an older one serves until its NextUpdate
}

// forgetLists is when a list that could not be fetched any more is left out.
const forgetLists = 30 * 24 * time.Hour

// Refresh asks for newer lists: those configured, those that certificates have
// named on this node and, with a Store, on any node. One node's leader job calls
// it often; each list is asked for when half of CRLMaxAge has gone by, or less
// than a tenth of its own time is left. Lists are never older afterwards.
func (c *Checker) Refresh(ctx context.Context) ([]ListState, error) {
	sources, err := c.sources(ctx)
	var states []ListState
	for _, src := range sources {
		if ctx.Err() != nil {
			return states, errors.Join(err, ctx.Err())
		}
		states = append(states, c.refresh(ctx, src))
	}
	return states, err
}

// refreshTimeout bounds one download in the background, where nobody waits.
const refreshTimeout = 2 * time.Minute

func (c *Checker) refresh(ctx context.Context, src ListSource) ListState {
	st := ListState{URL: src.URL, Anchor: AnchorID(src.Issuer)}
	if c.cfg.Store != nil {
		c.fromStore(ctx, src)
	}
	old := c.cachedList(src.key())
	if old == nil || c.due(old) {
		var crl *CRL
		if crl, st.Err = c.loadList(ctx, src, refreshTimeout, true); st.Err == nil {
			st.Renewed = old == nil || crl != old.crl
		}
	}
	if l := c.cachedList(src.key()); l != nil {
		st.ThisUpdate, st.NextUpdate, st.Entries = l.crl.ThisUpdate, l.crl.NextUpdate, l.crl.Len()
		if l.crl.Number != nil {
			st.Number = l.crl.Number.String()
		}
	}
	return st
}

func (c *Checker) due(l *cachedCRL) bool {
	now := c.cfg.Now()
	life := l.crl.NextUpdate.Sub(l.crl.ThisUpdate)
	return now.Sub(l.fetched) >= c.cfg.CRLMaxAge/2 || now.After(l.crl.NextUpdate.Add(-life/10))
}

// sources gathers every list worth refreshing, once.
func (c *Checker) sources(ctx context.Context) ([]ListSource, error) {
	seen := make(map[ListKey]ListSource)
	for _, l := range c.cfg.Lists {
		seen[l.key()] = l
	}
	c.mu.Lock()
	for k, l := range c.crls {
		seen[k] = ListSource{k.URL, l.issuer}
	}
	c.mu.Unlock()
	var err error
	if c.cfg.Store != nil {
		var known []StoredList
		if known, err = c.cfg.Store.Known(ctx, c.cfg.Now().Add(-forgetLists)); err != nil {
			err = fmt.Errorf("certpath: stored lists: %w", err)
		}
		for _, l := range known {
			if l.Issuer != nil && len(httpOnly([]string{l.URL})) == 1 {
				seen[l.key()] = l.ListSource
			}
		}
	}
	out := make([]ListSource, 0, len(seen))
	for _, l := range seen {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b ListSource) int { return strings.Compare(a.URL, b.URL) })
	return out, err
}
