package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/uuid"

	"github.com/teebroker/teebroker/snp/snptest"
)

// Each explanation is of evidence that we accept and go-sev-guest refuses, and of
// nothing else than what it names.
func TestEachExplanation(t *testing.T) {
	l := testLab(t)
	nothing := func(*testCase) {}
	withVEK := func(name string) func(*testCase) {
		return func(c *testCase) {
			for _, e := range c.base.world.pool {
				if e.name == name {
					c.vek, c.key = e, e.key
					c.conform()
					return
				}
			}
			t.Fatalf("no endorsement %s", name)
		}
	}
	set := func(at int, bytes ...byte) func(*testCase) {
		return func(c *testCase) { copy(c.report[at:], bytes) }
	}
	withLists := func(name string) func(*testCase) {
		return func(c *testCase) {
			for _, l := range c.base.world.lists {
				if l.name == name {
					c.lists = l
					return
				}
			}
			t.Fatalf("no lists %s", name)
		}
	}
	seen := map[string]bool{}
	for i, x := range []struct {
		name   string
		base   string
		change func(*testCase) // before signing
		table  func(*testCase) // after it
	}{
		{"processor model", "Bergamo, version 5, VCEK", nothing, nil},
		{"processor model", "Milan, version 3, VLEK", set(offsetModel, 0x0F), nil},
		{"stepping above 15", "Milan, version 3, VCEK", set(offsetStepping, 0x10), nil},
		{"product name of version 2", "Genoa, version 2, VCEK", nothing, nil},
		{"product name of version 2", "Milan, version 2, VLEK", withVEK("Milan VLEK for product Milan-B1"), nil},
		{"platform-info bit", "Milan, version 3, VCEK", set(offsetPlatformInfo, 1<<6), nil},
		{"platform-info bit", "Milan, version 3, VCEK", set(offsetPlatformInfo+7, 0x80), nil},
		{"security version above 127", "Milan, version 3, VCEK", withVEK("Milan VCEK for an SNP of 0xFF"), nil},
		{"firmware build alone", "Genoa, version 5, VLEK", set(offsetCurrent, 2, 56, 1, 0, 40, 55, 1), nil},
		{"firmware version order", "Genoa, version 5, VLEK", set(offsetCurrent, 40, 55, 1, 0, 2, 56, 1), nil},
		{"firmware version order", "Genoa, version 5, VLEK", set(offsetCurrent, 40, 55, 1, 0, 41, 55, 1), nil},
		{"ASK revoked, VLEK used", "Genoa, version 5, VLEK", withLists("ASKs revoked"), nil},
		{"PEM", "Genoa, version 3, VCEK", nothing, func(c *testCase) { c.entries[0].Data = toPEM("CERTIFICATE", c.entries[0].Data) }},
		{"PEM", "Genoa, version 3, VCEK", nothing, func(c *testCase) { c.entries[0].Data = append(toPEM("CERTIFICATE", c.entries[0].Data), 0) }},
		{"PEM list", "Genoa, version 3, VCEK", withLists("in PEM"), nil},
		{"other table entry", "Genoa, version 3, VCEK", nothing, func(c *testCase) { c.entries[0].GUID = uuid.MustParse(abi.VlekGUID) }},
		{"other table entry", "Genoa, version 3, VLEK", nothing, func(c *testCase) {
			c.entries[0].GUID = uuid.MustParse(abi.VcekGUID)
			c.entries = append(c.entries, snptest.Entry{GUID: uuid.MustParse(abi.VlekGUID), Data: c.base.world.pool[0].der})
		}},
	} {
		t.Run(fmt.Sprint(i, " ", x.name), func(t *testing.T) {
			seen[x.name] = true
			c := l.baseCase(t, x.base)
			x.change(c)
			sign(c.report, c.key)
			c.fillTable()
			if x.table != nil {
				x.table(c)
			}
			if r := l.judge(c); r.class != onlyWeAccept || r.detail != x.name {
				t.Errorf("we say %v, it says %v: %q", r.ours, r.theirs, r.detail)
			}
		})
	}
	for _, x := range explanations() {
		if !seen[x.name] {
			t.Errorf("no case for %q", x.name)
		}
	}
}

// baseCase returns the case that a simulated base is by itself.
func (l *lab) baseCase(t *testing.T, name string) *testCase {
	t.Helper()
	for _, b := range l.simulated {
		if strings.HasSuffix(b.name, name) {
			return b.unchanged()
		}
	}
	t.Fatalf("no base %s", name)
	return nil
}

// A clock that moved, lists and all, is the same clock for both.
func TestSameClock(t *testing.T) {
	c := testLab(t).baseCase(t, "Milan, version 3, VCEK")
	for at, valid := range map[time.Time]bool{
		now().AddDate(0, 0, -1):                   true,
		now().AddDate(0, 0, -1).Add(-time.Second): false,
		now().AddDate(7, 0, 0):                    true,
		now().AddDate(7, 0, 0).Add(time.Second):   false,
	} {
		c.at = at
		if o, th := ours(c), theirs(c); (o == nil) != valid || (th == nil) != valid {
			t.Errorf("at %v: we say %v, it says %v", at, o, th)
		}
	}
}
