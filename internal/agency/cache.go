package agency

import (
	"errors"
	"sync"
	"time"
)

// cache keeps answers of the store for a short time. It is bounded: when full
// it is emptied, which costs one read a client and nothing else.
type cache[K comparable] struct {
	now  func() time.Time
	mu   sync.RWMutex
	rows map[K]cached
}

type cached struct {
	client *Client // nil: there is none
	until  time.Time
}

func newCache[K comparable](now func() time.Time) *cache[K] {
	return &cache[K]{now: now, rows: make(map[K]cached)}
}

// get answers from the cache or loads. ErrClientUnknown is remembered too, but
// more briefly; other errors are not.
func (c *cache[K]) get(key K, load func() (*Client, error)) (*Client, error) {
	at := c.now()
	c.mu.RLock()
	row, ok := c.rows[key]
	c.mu.RUnlock()
	if ok && at.Before(row.until) {
		if row.client == nil {
			return nil, ErrClientUnknown
		}
		return row.client, nil
	}
	client, err := load()
	switch {
	case err == nil:
		c.put(key, cached{client, at.Add(cacheLife)})
	case errors.Is(err, ErrClientUnknown):
		c.put(key, cached{nil, at.Add(negativeLife)})
	}
	return client, err
}

func (c *cache[K]) put(key K, row cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rows) >= cacheSize {
		clear(c.rows)
	}
	c.rows[key] = row
}

func (c *cache[K]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.rows)
}
