// Package lru is a bounded memory of what was derived from exact bytes.
package lru

import (
	"container/list"
	"sync"
)

// Cache remembers the values last used. It is safe for concurrent use. Make one
// with [New].
type Cache[K comparable, V any] struct {
	mu    sync.Mutex
	limit int
	order *list.List // of entry[K, V]; the one used last is in front
	at    map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// New returns a Cache of at most limit values, which must be positive.
func New[K comparable, V any](limit int) *Cache[K, V] {
	return &Cache[K, V]{limit: limit, order: list.New(), at: map[K]*list.Element{}}
}

// Get returns the value last put under key, or false.
func (c *Cache[K, V]) Get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.at[key]
	if !ok {
		var none V
		return none, false
	}
	c.order.MoveToFront(e)
	return e.Value.(entry[K, V]).value, true
}

// Put remembers value under key and forgets what was not used for longest.
func (c *Cache[K, V]) Put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.at[key]; ok {
		e.Value = entry[K, V]{key, value}
		c.order.MoveToFront(e)
		return
	}
	if c.order.Len() >= c.limit {
		oldest := c.order.Back()
		delete(c.at, oldest.Value.(entry[K, V]).key)
		c.order.Remove(oldest)
	}
	c.at[key] = c.order.PushFront(entry[K, V]{key, value})
}
