package vtpm_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// logged is a guest with a TPM of its own, and what its PCRs were extended with.
type logged struct {
	tpm    *vtpmtest.TPM
	events []vtpmtest.Event
	files  []vtpmtest.IMAEntry
}

func newLogged(events []vtpmtest.Event, files ...vtpmtest.IMAEntry) *logged {
	l := &logged{tpm: vtpmtest.NewTPM(vtpmtest.ECC, nil, nil), events: events}
	vtpmtest.Apply(l.tpm, events...)
	l.files = append([]vtpmtest.IMAEntry{vtpmtest.BootAggregate(l.tpm)}, files...)
	vtpmtest.Measure(l.tpm, l.files...)
	return l
}

func events() []vtpmtest.Event {
	return []vtpmtest.Event{
		{Index: 0, Data: []byte("firmware")},
		{Index: 7, Data: []byte("secure boot is on")},
		{Index: 0, Type: vtpmtest.NoAction, Data: []byte("nobody measures this")},
		{Index: 7, Data: []byte("the key")},
		{Index: 4, Data: []byte("description of an image"), Digest: imageDigest},
		{Index: 14, Data: []byte("of a PCR that is not quoted")},
	}
}

// imageDigest is the digest of what the log does not have.
func imageDigest(a vtpm.Alg) []byte {
	d := sha256.Sum256([]byte("the image"))
	if a == vtpm.SHA384 {
		return slices.Concat(d[:], d[:16])
	}
	return d[:]
}

func files() []vtpmtest.IMAEntry {
	return []vtpmtest.IMAEntry{
		{Path: "/usr/bin/bash", Content: []byte("bash")},
		{Path: "/usr/bin/with a space", Content: []byte("space"), Signature: []byte{3, 2, 4}},
		{Path: "/usr/bin/unsigned", Content: []byte("unsigned"), Signature: []byte{}},
	}
}

// verify returns what becomes of a quote of l with items.
func (l *logged) verify(t testing.TB, q vtpmtest.Quote, items ...evidence.Item) (*vtpm.Claims, error) {
	t.Helper()
	w, want := theWorld(), sixtyFour(t)
	got, err := w.newVerifier(t, l.tpm).Verify(t.Context(), w.svsm(l.tpm).Evidence(q, want, items...), want)
	c, _ := vtpm.ClaimsOf(got)
	return c, err
}

func eventLog(b []byte) evidence.Item { return evidence.Item{Type: vtpm.EventLog, Data: b} }
func imaList(b []byte) evidence.Item  { return evidence.Item{Type: vtpm.IMAList, Data: b} }

// Of a log there is only what was hashed, and only of quoted PCRs.
func TestEventLog(t *testing.T) {
	l := newLogged(events())
	for _, bank := range []vtpm.Alg{vtpm.SHA256, vtpm.SHA384} {
		q := vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: bank, PCRs: []int{0, 4, 7}}}}
		c, err := l.verify(t, q, eventLog(vtpmtest.EventLog(l.events...)))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range c.Events {
			got = append(got, fmt.Sprintf("%v %d %q", e.PCR, len(e.Digest), e.Data))
		}
		n := map[vtpm.Alg]int{vtpm.SHA256: 32, vtpm.SHA384: 48}[bank]
		want := []string{
			fmt.Sprintf(`%v.0 %d "firmware"`, bank, n), fmt.Sprintf(`%v.7 %d "secure boot is on"`, bank, n),
			fmt.Sprintf(`%v.7 %d "the key"`, bank, n), fmt.Sprintf(`%v.4 %d ""`, bank, n),
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
	}
	both := vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: vtpm.SHA256, PCRs: []int{7}}, {Bank: vtpm.SHA384, PCRs: []int{0}}}}
	c, err := l.verify(t, both, eventLog(vtpmtest.EventLog(l.events...)))
	if err != nil || len(c.Events) != 1 || c.Events[0].Bank != vtpm.SHA384 {
		t.Errorf("of two banks: %v, %v", c, err)
	}
}

func TestStartupLocality(t *testing.T) {
	start := vtpmtest.Event{Type: vtpmtest.NoAction, Data: []byte("StartupLocality\x00\x03")}
	tpm := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	tpm.SetPCR(vtpm.SHA256, 0, append(make([]byte, 31), 3))
	es := []vtpmtest.Event{start, {Index: 0, Data: []byte("firmware")}}
	vtpmtest.Apply(tpm, es...)
	l := &logged{tpm: tpm}
	if _, err := l.verify(t, vtpmtest.Quote{}, eventLog(vtpmtest.EventLog(es...))); err != nil {
		t.Error(err)
	}
	_, err := l.verify(t, vtpmtest.Quote{}, eventLog(vtpmtest.EventLog(es[1])))
	refusal(t, false, err, "event-log", evidence.BadSignature)
	_, err = l.verify(t, vtpmtest.Quote{}, eventLog(vtpmtest.EventLog(es[1], start)))
	refusal(t, false, err, "event-log", evidence.Malformed)
}

// Logs that are not what happened, and logs that are none.
func TestEventLogRefused(t *testing.T) {
	l := newLogged(events())
	changed := func(edit func([]vtpmtest.Event) []vtpmtest.Event) []byte {
		return vtpmtest.EventLog(edit(slices.Clone(l.events))...)
	}
	good := vtpmtest.EventLog(l.events...)
	for name, tt := range map[string]struct {
		log    []byte
		reason evidence.Reason
	}{
		"an event dropped":           {changed(func(es []vtpmtest.Event) []vtpmtest.Event { return es[1:] }), ""},
		"the first of PCR 7 dropped": {changed(func(es []vtpmtest.Event) []vtpmtest.Event { return slices.Delete(es, 1, 2) }), evidence.BadSignature},
		"two swapped":                {changed(func(es []vtpmtest.Event) []vtpmtest.Event { es[1], es[3] = es[3], es[1]; return es }), evidence.BadSignature},
		"one added":                  {changed(func(es []vtpmtest.Event) []vtpmtest.Event { return append(es, es[0]) }), evidence.BadSignature},
		"another content":            {changed(func(es []vtpmtest.Event) []vtpmtest.Event { es[1].Data = []byte("off"); return es }), evidence.BadSignature},
		"PCR 24":                     {vtpmtest.EventLog(vtpmtest.Event{Index: 24}), evidence.Malformed},
		"PCR 17":                     {vtpmtest.EventLog(vtpmtest.Event{Index: 17}), evidence.Malformed},
		"PCR of 32 bits":             {vtpmtest.EventLog(vtpmtest.Event{Index: 1 << 31}), evidence.Malformed},
		"nothing":                    {nil, evidence.Malformed},
		"cut short":                  {good[:len(good)-1], evidence.Malformed},
		"text":                       {[]byte("Spec ID Event03"), evidence.Malformed},
		"without our banks":          {bytes.Replace(bytes.Replace(good, []byte{0x0B, 0, 32, 0}, []byte{0x12, 0, 32, 0}, 1), []byte{0x0C, 0, 48, 0}, []byte{0x13, 0, 48, 0}, 1), evidence.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := l.verify(t, vtpmtest.Quote{}, eventLog(tt.log))
			if tt.reason == "" { // the only one of its PCR: that PCR is not vouched for by the log
				if err != nil || slices.ContainsFunc(c.Events, func(e vtpm.Event) bool { return e.Index == 0 }) {
					t.Errorf("%v", err)
				}
				return
			}
			refusal(t, c != nil, err, "event-log", tt.reason)
		})
	}
	_, err := l.verify(t, vtpmtest.Quote{}, eventLog(make([]byte, vtpm.MaxEventLogSize+1)))
	refusal(t, false, err, "items", evidence.Malformed)
}

// What the type of an event, or its description, says is not in any claim.
func TestOnlyHashedContent(t *testing.T) {
	l := newLogged(events())
	lie := slices.Clone(l.events)
	for i := range lie {
		if lie[i].Type != vtpmtest.NoAction {
			lie[i].Type = 0x80000001
		}
	}
	lie[4].Data = []byte("another description")
	honest, err := l.verify(t, vtpmtest.Quote{}, eventLog(vtpmtest.EventLog(l.events...)))
	if err != nil {
		t.Fatal(err)
	}
	lied, err := l.verify(t, vtpmtest.Quote{}, eventLog(vtpmtest.EventLog(lie...)))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := fmt.Sprint(honest.Events), fmt.Sprint(lied.Events); a != b {
		t.Errorf("a description that nobody hashed changes the events:\n%s\n%s", a, b)
	}
}

func TestIMA(t *testing.T) {
	l := newLogged(events(), append(files(), vtpmtest.IMAEntry{Path: "/x", Violation: true})...)
	list := vtpmtest.IMAList(l.files...)
	later := append(bytes.Clone(list), vtpmtest.IMAList(vtpmtest.IMAEntry{Path: "/after/the/quote"})...)
	for name, list := range map[string][]byte{"the list": list, "read after the quote": later} {
		for _, bank := range []vtpm.Alg{vtpm.SHA256, vtpm.SHA384} {
			q := vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: bank, PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}}}
			c, err := l.verify(t, q, imaList(list))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var got []string
			for e := range c.IMA.All() {
				got = append(got, fmt.Sprintf("%s %s %d %v", e.Path, e.Algorithm, len(e.Digest), e.Violation))
			}
			want := []string{
				"boot_aggregate sha256 32 false", "/usr/bin/bash sha256 32 false", "/usr/bin/with a space sha256 32 false",
				"/usr/bin/unsigned sha256 32 false", "  0 true",
			}
			if !slices.Equal(got, want) || c.IMA.Entries != 5 || c.IMA.Violations != 1 || c.IMA.BootAggregate != (bank == vtpm.SHA256) {
				t.Errorf("%s, %v: %q, %+v", name, bank, got, c.IMA)
			}
			for range c.IMA.All() {
				break // and nothing panics
			}
		}
	}
	// Without PCR 9 nobody knows what the boot aggregate is of.
	c, err := l.verify(t, vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: vtpm.SHA256, PCRs: []int{0, 10}}}}, imaList(list))
	if err != nil || c.IMA.BootAggregate {
		t.Errorf("%v, boot aggregate %v", err, c)
	}
}

func TestIMARefused(t *testing.T) {
	l := newLogged(events(), files()...)
	other := newLogged([]vtpmtest.Event{{Index: 0, Data: []byte("other firmware")}}, files()...)
	foreign := newLogged(events())
	foreign.files = append([]vtpmtest.IMAEntry{{Path: "boot_aggregate", Content: []byte("other")}}, files()...)
	foreign.tpm.SetPCR(vtpm.SHA256, 10, make([]byte, 32))
	vtpmtest.Measure(foreign.tpm, foreign.files...)
	headless := newLogged(events())
	headless.tpm.SetPCR(vtpm.SHA256, 10, make([]byte, 32))
	vtpmtest.Measure(headless.tpm, files()...)
	list := string(vtpmtest.IMAList(l.files...))
	line := func(format string, args ...any) []byte { return []byte(fmt.Sprintf(format, args...) + "\n") }
	zeros := fmt.Sprintf("%040d", 0)
	digest := "sha256:" + fmt.Sprintf("%064d", 0)
	for name, tt := range map[string]struct {
		l      *logged
		list   []byte
		reason evidence.Reason
	}{
		"a file missing":             {l, vtpmtest.IMAList(l.files[:2]...), evidence.BadSignature},
		"the list of another guest":  {l, vtpmtest.IMAList(other.files...), evidence.BadSignature},
		"another path":               {l, bytes.Replace([]byte(list), []byte("bash"), []byte("dash"), 1), evidence.BadSignature},
		"a violation that was none":  {l, append(line("10 %s ima-ng %s x", zeros, digest), list...), evidence.BadSignature},
		"a signature less":           {l, bytes.Replace([]byte(list), []byte(" 030204"), []byte(" "), 1), evidence.BadSignature},
		"another boot aggregate":     {foreign, vtpmtest.IMAList(foreign.files...), evidence.BadSignature},
		"no boot aggregate":          {headless, vtpmtest.IMAList(files()...), evidence.Malformed},
		"nothing":                    {l, nil, evidence.BadSignature},
		"no end of line":             {l, []byte(list[:len(list)-1]), evidence.Malformed},
		"another PCR":                {l, append(line("11 %s ima-ng %s x", zeros, digest), list...), evidence.Malformed},
		"another template":           {l, append(line("10 %s ima %s x", zeros, digest), list...), evidence.Malformed},
		"no path":                    {l, append(line("10 %s ima-ng %s", zeros, digest), list...), evidence.Malformed},
		"an empty path":              {l, append(line("10 %s ima-ng %s ", zeros, digest), list...), evidence.Malformed},
		"a path with a zero":         {l, append(line("10 %s ima-ng %s a\x00b", zeros, digest), list...), evidence.Malformed},
		"an unknown hash":            {l, append(line("10 %s ima-ng md4:00 x", zeros), list...), evidence.Malformed},
		"a digest too short":         {l, append(line("10 %s ima-ng sha256:00 x", zeros), list...), evidence.Malformed},
		"no digest of a template":    {l, append(line("10 00 ima-ng %s x", digest), list...), evidence.Malformed},
		"not hexadecimal":            {l, append(line("10 %s ima-ng sha1:%s x", zeros, bytes.Repeat([]byte("x"), 40)), list...), evidence.Malformed},
		"a signature that is no hex": {l, append(line("10 %s ima-sig %s x y", zeros, digest), list...), evidence.Malformed},
		"half a byte of signature":   {l, append(line("10 %s ima-sig %s x 030", zeros, digest), list...), evidence.Malformed},
		"no room for a signature":    {l, append(line("10 %s ima-sig %s x", zeros, digest), list...), evidence.Malformed},
		"an empty line":              {l, append([]byte("\n"), list...), evidence.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := tt.l.verify(t, vtpmtest.Quote{}, imaList(tt.list))
			refusal(t, c != nil, err, "ima", tt.reason)
		})
	}
	_, err := l.verify(t, vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: vtpm.SHA256, PCRs: []int{0}}}}, imaList([]byte(list)))
	refusal(t, false, err, "ima", evidence.Malformed)
}
