package vtpm_test

import (
	"fmt"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// A result shares no memory with the evidence, and evidence is not modified.
func TestOwnsItsMemory(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	l := newLogged(events(), files()...)
	logs := []evidence.Item{eventLog(vtpmtest.EventLog(l.events...)), imaList(vtpmtest.IMAList(l.files...))}
	for name, ev := range map[string]evidence.Evidence{
		"SVSM": w.svsm(l.tpm).Evidence(vtpmtest.Quote{}, want, logs...), "Azure": w.azure().Evidence(vtpmtest.Quote{}, want),
	} {
		before := fmt.Sprint(ev)
		c, got := claimsOf(t, w.newVerifier(t, l.tpm), ev, want)
		if fmt.Sprint(ev) != before {
			t.Errorf("%s: the evidence was modified", name)
		}
		said := func() (s string) {
			for name, value := range c.All() {
				s += fmt.Sprintln(name, value)
			}
			if c.IMA != nil {
				for e := range c.IMA.All() {
					s += fmt.Sprintln(e)
				}
			}
			return s + fmt.Sprint(c.Events, got.Signed, c.Quote, c.Azure())
		}
		is := said()
		for _, b := range append([][]byte{ev.Raw}, data(ev.Items)...) {
			for i := range b {
				b[i] ^= 0xFF
			}
		}
		if said() != is {
			t.Errorf("%s: the result changes with the evidence", name)
		}
	}
}

func data(is []evidence.Item) (bs [][]byte) {
	for _, i := range is {
		bs = append(bs, i.Data)
	}
	return bs
}
