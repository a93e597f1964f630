package cca_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

// ceiling is the most that one hostile token may cost, in bytes.
const ceiling = 512 << 10

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// However a token is made, it costs no more than a bounded multiple of the
// longest one that is looked at.
func TestMemoryCeiling(t *testing.T) {
	p := ccatest.NewPlatform()
	v := trusting(t, p.Anchor())
	payload := func(b []byte) ccatest.Realm {
		return ccatest.Realm{PlatformToken: ccatest.Signing{Payload: func([]byte) []byte { return b }}}
	}
	token := func(b string) ccatest.Realm {
		return ccatest.Realm{RealmToken: ccatest.Signing{Token: func([]byte) []byte { return []byte(wire.TagSign1 + b) }}}
	}
	huge := bytes.Repeat([]byte{0x80}, 60<<10)
	hostile := map[string]ccatest.Realm{
		"64 MB": {Raw: func([]byte) []byte { return make([]byte, 64<<20) }},
		"64 MB behind a tag": {Raw: func([]byte) []byte {
			return append([]byte(wire.TagCMW+"\x9a\x04\x00\x00\x00"), make([]byte, 64<<20)...)
		}},
		"2^64 bytes announced":     payload([]byte("\x5b\xff\xff\xff\xff\xff\xff\xff\xff")),
		"2^64 elements announced":  payload([]byte("\x9b\xff\xff\xff\xff\xff\xff\xff\xff")),
		"2^64 pairs announced":     payload([]byte("\xbb\xff\xff\xff\xff\xff\xff\xff\xff")),
		"2^63 pairs announced":     payload([]byte("\xbb\x80\x00\x00\x00\x00\x00\x00\x00")),
		"arrays in arrays":         payload(bytes.Repeat([]byte{0x81}, 60<<10)),
		"60000 empty arrays":       payload(append([]byte{0x99, 0xf0, 0x00}, huge...)),
		"1000 empty arrays":        payload(append([]byte{0x99, 0x03, 0xe8}, huge[:1000]...)),
		"1000 arrays side by side": payload([]byte("\xa1\x19\x27\x0f\x84" + strings.Repeat("\x98\xff"+strings.Repeat("\x00", 255), 4))),
		"a long text":              payload(append([]byte{0xa1, 0x00, 0x79, 0xf0, 0x00}, bytes.Repeat([]byte{'a'}, 60<<10)...)),
		"headers":                  token("\x84\x59\xf0\x00" + strings.Repeat("\x81", 60<<10) + "\xa0\x40\x40"),
		"half a thousand keys":     inPlatform(func(m ccatest.Map) ccatest.Map { return many(m, 400) }),
		"a long configuration":     inPlatform(with(wire.Config, make([]byte, 60<<10))),
		"good":                     {},
	}
	for name, r := range hostile {
		ev := p.Token(r, evidence.Binding{})
		if n := allocated(func() { _, _ = v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe()) }); n > ceiling {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}
}

// many returns m with n more pairs.
func many(m ccatest.Map, n int) ccatest.Map {
	for i := range n {
		m = append(m, ccatest.Pair{Key: fmt.Sprint("x", i), Value: int64(i)})
	}
	return m
}

// Names of senders do not reach errors.
func TestErrorsHaveNoEvidence(t *testing.T) {
	p := ccatest.NewPlatform()
	v := trusting(t, p.Anchor())
	for _, f := range claimFaults() {
		_, err := v.Verify(t.Context(), p.Token(f.realm, evidence.Binding{}), evidence.UncheckedBindingUnsafe())
		if err == nil || len(err.Error()) > 200 || strings.Contains(err.Error(), "2099") || strings.Contains(err.Error(), "md5") {
			t.Errorf("%s: %v", f.claim, err)
		}
	}
	if _, err := cca.ParseToken([]byte(wire.TagCMW + "\x63abc")); err == nil || strings.Contains(err.Error(), "abc") {
		t.Error(err)
	}
}
