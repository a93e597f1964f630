package collateral

import (
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// keep puts genuine items that are usable under name, in memory and in the
// directory. It reports whether there was one that is not older than what is held,
// whether anything is held, and whether there was one that is older.
func (c *Cache) keep(name string, genuine []item, now time.Time) (kept, held, older bool) {
	usable := slices.DeleteFunc(slices.Clone(genuine), func(x item) bool { return !x.usable(now, c.cfg.StaleGrace) })
	for i := range usable {
		usable[i] = usable[i].clone()
	}
	after, older := c.put(name, usable, now)
	if older {
		c.count(&c.stats.Older)
	}
	if c.dir != nil && len(usable) > 0 {
		c.store(name, now)
	}
	kept = slices.ContainsFunc(usable, func(x item) bool { return slices.ContainsFunc(after, x.same) })
	return kept, len(after) > 0, older
}

// clone returns x with memory of its own: who gave it may use its own again.
func (x item) clone() item {
	x.Collateral = evidence.Collateral{Data: slices.Clone(x.Data), Issuer: slices.Clone(x.Issuer)}
	x.der = nil // was looked at, and Data has it
	return x
}

// put merges items into what is held under name, in memory. It returns what is held
// now, and whether there was an item that is older.
func (c *Cache) put(name string, items []item, now time.Time) (after []item, older bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[name]
	if e == nil {
		e = &entry{name: name}
	}
	after = merge(e.items, items, c.floor)
	for _, x := range items {
		if !slices.ContainsFunc(after, x.same) {
			older = true
		}
	}
	if len(after) == 0 {
		return nil, older
	}
	e.items, e.answer = after, nil
	if e.place == nil {
		e.due = e.next(now, true)
		e.place = c.listOf(e).PushFront(e)
		c.entries[name] = e
	}
	c.stats.Bytes -= e.bytes
	e.bytes = int64(len(name))
	for _, x := range after {
		e.bytes += x.size()
	}
	c.stats.Bytes += e.bytes
	if after[0].kind.document() {
		c.advance(now)
	}
	c.evict(e)
	return after, older
}

// evict forgets what was not used for longest, VEKs first, but not last.
func (c *Cache) evict(last *entry) {
	for len(c.entries) > c.cfg.MaxEntries || c.stats.Bytes > c.cfg.MaxBytes {
		oldest := c.veks.Back()
		if oldest == nil || oldest.Value == any(last) {
			oldest = c.status.Back()
		}
		if oldest == nil || oldest.Value == any(last) {
			return
		}
		e := oldest.Value.(*entry)
		c.listOf(e).Remove(e.place)
		delete(c.entries, e.name)
		c.stats.Bytes -= e.bytes
	}
}

// merge returns what to hold of held and of fresh, newest first.
func merge(held, fresh []item, floor uint64) []item {
	if len(fresh) == 0 {
		return held
	}
	if fresh[0].kind == CRL {
		return newestLists(held, fresh)
	}
	items := slices.Clone(held)
	for _, x := range fresh {
		items = slices.DeleteFunc(items, func(y item) bool { return string(x.Data) == string(y.Data) })
		items = append(items, x)
	}
	sortNewest(items)
	if items[0].kind.document() {
		return newestDocuments(items, floor)
	}
	return slices.Clip(items[:min(len(items), maxSame)])
}

// sortNewest puts the newest first. Of equals that is the one that came last: its
// issuer chain may have been renewed.
func sortNewest(items []item) {
	slices.Reverse(items)
	slices.SortStableFunc(items, func(a, b item) int { return b.compare(a) })
}

// newestLists returns fresh, unless the newest list is in held. All lists of one
// answer stay together: which of several of AMD's is for which key nobody can tell.
func newestLists(held, fresh []item) []item {
	fresh = slices.Clone(fresh)
	sortNewest(fresh)
	if len(held) > 0 && held[0].compare(fresh[0]) > 0 {
		return held
	}
	return slices.Clip(fresh[:min(len(fresh), maxSame)])
}

// newestDocuments returns, of items with the newest first, the newest of the
// evaluation number that is served and that of the highest.
func newestDocuments(items []item, floor uint64) (kept []item) {
	for _, x := range items {
		n := x.number.Uint64()
		if n >= floor && (len(kept) == 0 || n == floor && kept[len(kept)-1].number.Uint64() != n) {
			kept = append(kept, x)
		}
	}
	return kept
}
