package v1

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// What was sealed has one form: what is read of it is written as it was, and nothing
// else is read.
func FuzzSealed(f *testing.F) {
	good := asked{PathNonce, [replySize]byte{1}, []byte(`{"profile":"v1"}`)}.encode()
	long := bytes.Clone(good)
	binary.BigEndian.PutUint32(long[1+replySize:], 1<<32-1)
	for _, b := range [][]byte{
		nil, good, good[:len(good)-1], append(bytes.Clone(good), 0), append(bytes.Clone(good), make([]byte, len(good))...), long,
		asked{PathRelease, [replySize]byte{2}, make([]byte, leastSealed)}.encode(),
		said{status: 200, kind: "application/json", body: []byte("{}")}.encode(),
		said{status: 503, retryAfter: 1, kind: problemKind, body: []byte("{}")}.encode(),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		if a, err := parseAsked(plain); err == nil && !bytes.Equal(a.encode(), plain) {
			t.Errorf("asked %q with %d bytes of body", a.path, len(a.body))
		}
		if s, err := parseSaid(plain); err == nil && (!bytes.Equal(s.encode(), plain) || s.status < 200 || s.status > 599) {
			t.Errorf("said %d with %d bytes of body", s.status, len(s.body))
		}
	})
}

// A byte that is changed makes another text of what was sealed, or none.
func TestSealedForm(t *testing.T) {
	good := asked{PathConfirm, [replySize]byte{1}, []byte("{}")}
	plain := good.encode()
	if a, err := parseAsked(plain); err != nil || a.path != good.path || a.reply != good.reply || string(a.body) != "{}" || len(plain) != 16<<10 {
		t.Fatalf("%+v, %v", a, err)
	}
	for at := range plain {
		bad := bytes.Clone(plain)
		bad[at] ^= 1
		a, err := parseAsked(bad)
		if err == nil && a.path == good.path && a.reply == good.reply && bytes.Equal(a.body, good.body) {
			t.Errorf("byte %d counts for nothing", at)
		}
		if err == nil && at > 100 {
			t.Errorf("byte %d of what fills up is taken", at)
		}
	}
	for _, n := range []int{0, 1, 50, len(plain) - 1} {
		if _, err := parseAsked(plain[:n]); err == nil {
			t.Errorf("%d bytes are taken", n)
		}
	}
	for name, s := range map[string]said{
		"a status that is none": {status: 100}, "another": {status: 600}, "to come back in years": {status: 503, retryAfter: maxRetryAfter + 1},
	} {
		if _, err := parseSaid(s.encode()); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
