package activation

import "testing"

// What is kept is parsed strictly: what decodes encodes to what decodes to the same.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		`{"v":1,"tenant":"acme","instance":"00000000-0000-0000-0000-000000000001","generation":1,"ek":"AA","agent_id":"a","ak":"AA","secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","chip":"01","expires":"2026-01-01T00:00:00Z"}`,
		`{}`, `{"v":2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeSession(b)
		if err != nil {
			return
		}
		if k.Version != sessionVersion {
			t.Fatalf("version %d", k.Version)
		}
		again, err := k.encode()
		if err != nil {
			return // a year that JSON has no text for
		}
		if _, err := decodeSession(again); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}
