package v1_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// Whatever a guest sealed, the answer is one that it opens, or a refusal in the
// clear because it says nothing of whom to answer.
func FuzzSealed(f *testing.F) {
	w := newWorld(f, func(_ *world, c *teebroker.Config, s *v1.Config) {
		c.RequestKeys, s.PerSource, s.Observe = requestKeys(f), v1.Rate{Burst: 1 << 30, Every: time.Nanosecond}, nil
	})
	sealer := (&owned{world: w}).sealer()
	framed := func(path string, body []byte) []byte {
		b := append(make([]byte, 33, 16<<10), byte(0))
		b[0] = 1
		b = append(binary.BigEndian.AppendUint32(b[:33], uint32(len(path))), path...)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
		return b[:cap(b)]
	}
	good := framed(v1.PathNonce, []byte(`{"profile":"v1"}`))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), 0))
	f.Add(framed(v1.PathRelease, []byte(`{}`)))
	f.Add(framed(v1.PathSealed, nil))
	long := bytes.Clone(good)
	binary.BigEndian.PutUint32(long[33:], 1<<32-1)
	f.Add(long)
	f.Fuzz(func(t *testing.T, plain []byte) {
		sealed, answer, err := v1.SealPlainUnsafe(sealer, plain, [32]byte(append(bytes.Clone(plain), make([]byte, 33)...)[1:]))
		if err != nil {
			return // too long
		}
		req := httptest.NewRequestWithContext(t.Context(), "POST", v1.PathSealed, bytes.NewReader(sealed))
		rec := httptest.NewRecorder()
		w.server.ServeHTTP(rec, req)
		_, err = answer.Open(rec.Body.Bytes())
		var p *v1.Problem
		switch {
		case rec.Code == 200 && err != nil && !errors.As(err, &p):
			t.Fatalf("not to open: %v", err)
		case rec.Code == 400:
			if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Code != "malformed-request" {
				t.Fatalf("%s", rec.Body)
			}
		case rec.Code != 200:
			t.Fatal(rec.Code)
		}
	})
}

// Whatever answers a guest, nothing is opened that was not sealed for it.
func FuzzSealedAnswer(f *testing.F) {
	w := newWorld(f, func(_ *world, c *teebroker.Config, _ *v1.Config) { c.RequestKeys = requestKeys(f) })
	o := &owned{world: w}
	sealed, answer, err := o.sealer().Seal(v1.PathNonce, nil)
	w.check(err)
	_, good := o.postSealed(sealed)
	want, err := answer.Open(good)
	w.check(err)
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"v":1,"salt":"AA","ct":"AA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := answer.Open(b); err == nil && !bytes.Equal(got, want) || err != nil && bytes.Equal(b, good) {
			t.Errorf("%q: %q, %v", b, got, err)
		}
	})
}
