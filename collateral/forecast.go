package collateral

import (
	"cmp"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// Expiry is when the last of what answers to a name ends, by its own words.
type Expiry struct {
	Name string
	Kind Kind

	// Ends is NotAfter of a VEK, nextUpdate of a list, and of a document its
	// nextUpdate or the end of its issuer chain if that is earlier. It is zero for
	// what can't be read: nobody knows when that ends, or whether it has.
	Ends time.Time
}

// Left returns the time from now until e ends, negative if it has ended.
func (e Expiry) Left(now time.Time) time.Duration { return e.Ends.Sub(now) }

// A Forecast is what expires when, what ends first in front. A metric may be made
// of each, or of the first of each Kind.
type Forecast []Expiry

// Before returns the part of f that ends before t.
func (f Forecast) Before(t time.Time) Forecast {
	n, _ := slices.BinarySearchFunc(f, t, func(e Expiry, t time.Time) int { return e.Ends.Compare(t) })
	return f[:n:n]
}

// Forecast returns what of c's memory expires when. What is not in use any more is
// part of it until it is forgotten.
func (c *Cache) Forecast() Forecast {
	c.mu.Lock()
	defer c.mu.Unlock()
	var f Forecast
	for name, e := range c.entries {
		var cs []evidence.Collateral
		for _, x := range e.items {
			cs = append(cs, x.Collateral)
		}
		f = append(f, expiry(name, cs))
	}
	return f.sorted()
}

// Forecast returns what of f expires when.
func (f *Files) Forecast() Forecast { return f.found.Forecast() }

// Forecast returns what of f expires when.
func (f Fixed) Forecast() Forecast {
	var all Forecast
	for name, cs := range f {
		if len(cs) > 0 {
			all = append(all, expiry(name, cs))
		}
	}
	return all.sorted()
}

func (f Forecast) sorted() Forecast {
	slices.SortFunc(f, func(a, b Expiry) int { return cmp.Or(a.Ends.Compare(b.Ends), cmp.Compare(a.Name, b.Name)) })
	return f
}

// expiry returns when the last of cs ends.
func expiry(name string, cs []evidence.Collateral) Expiry {
	last := Expiry{Name: name}
	for _, c := range cs {
		if x, ok := read(c); ok && !x.end().Before(last.Ends) {
			last.Kind, last.Ends = x.kind, x.end()
		}
	}
	return last
}

// end returns when x ends, with the chain that it can't be verified without.
func (x item) end() time.Time {
	end := x.ends
	if x.kind.document() {
		for _, c := range certificatesOf(x.Issuer) {
			if c.NotAfter.Before(end) {
				end = c.NotAfter
			}
		}
	}
	return end
}
