package nonce_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/nonce"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 32))
	f.Add(make([]byte, 33))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := nonce.Parse(b)
		if (err == nil) != (len(b) == 32) || err == nil && !bytes.Equal(n[:], b) {
			t.Errorf("%d bytes: %x, %v", len(b), n, err)
		}
	})
}

// A nonce opens if and only if it has the HMAC of the protocol and its minute
// is still to come.
func FuzzOpen(f *testing.F) {
	key := [32]byte{1, 2, 3}
	minute := func(t time.Time) []byte { return binary.BigEndian.AppendUint32(nil, uint32(t.Unix()/60)) }
	f.Add("v1", append(make([]byte, 12), minute(start.Add(time.Hour))...), []byte{}, start.Unix())
	f.Add("kbs-coco", append(make([]byte, 12), minute(start)...), []byte{}, start.Unix())
	f.Add("", make([]byte, 16), make([]byte, 16), int64(-1))
	f.Add("v1", bytes.Repeat([]byte{0xff}, 16), []byte{}, int64(1)<<62)
	f.Fuzz(func(t *testing.T, profile string, head, tail []byte, now int64) {
		var n nonce.Nonce
		copy(n[:16], head)
		good := sum(key, profile, 7, n)
		if copy(n[16:], tail) == 0 {
			copy(n[16:], good)
		}
		clock := func() time.Time { return time.Unix(now, 0) }
		h := newHMAC(t, nonce.Config{Key: key, Generation: 7, Time: clock})
		ends := time.Unix(int64(binary.BigEndian.Uint32(n[12:16]))*60, 0)
		want := bytes.Equal(n[16:], good) && clock().Before(ends)
		got, err := h.Open(nonce.Profile(profile), n)
		if (err == nil) != want || want && !got.Equal(ends) || !want && (err != nonce.Spent || !got.IsZero()) {
			t.Errorf("Open = %v, %v, want %v", got, err, want)
		}
	})
}

// What V1 binds is well formed, and its transcript can be read back into the
// same fields: no two tuples have one transcript.
func FuzzV1(f *testing.F) {
	ks := keys(f)
	f.Add(make([]byte, 32), []byte{}, "tenant", []byte("0123456789abcdef"), "disk/root", "snp-report", uint8(0), []byte{})
	f.Add(make([]byte, 32), make([]byte, 32), "t", []byte{1}, "p", "vtpm", uint8(3), make([]byte, 32))
	f.Add([]byte{}, make([]byte, 31), "", []byte{}, "", "", uint8(9), make([]byte, 33))
	f.Fuzz(func(t *testing.T, n, broker []byte, tenant string, instance []byte, purpose, format string, key uint8, blob []byte) {
		k := ks[int(key)%len(ks)]
		in := fields{
			Nonce: n, Broker: broker, Tenant: tenant, Instance: append(instance, make([]byte, 16)...)[:16],
			Purpose: purpose, Format: format, Suite: string(k.Suite()), Key: k.Bytes(), Blob: blob,
		}
		b, err := in.bind()
		if err != nil {
			if b != (evidence.Binding{}) {
				t.Error("an error and a Binding")
			}
			return
		}
		if !names.Tenant(tenant) || !names.Purpose(purpose) || len(n) != 32 || len(broker) > 32 || len(blob) > 32 {
			t.Errorf("accepted %+v", in)
		}
		tr := in.transcript("teebroker/v1/release")
		if sum := sha512.Sum512(tr); !bytes.Equal(sum[:], b.Bytes()) {
			t.Error("not the digest of the transcript")
		}
		for i, want := range [][]byte{n, broker, []byte(tenant), in.Instance, []byte(purpose), []byte(format), []byte(in.Suite), in.Key, blob} {
			if i == 0 {
				tr = tr[128:]
			}
			size := binary.BigEndian.Uint32(tr[1:])
			if tr[0] != byte(i+1) || !bytes.Equal(tr[5:5+size], want) {
				t.Fatalf("field %d is read back as %x", i+1, tr[5:5+size])
			}
			tr = tr[5+size:]
		}
		if len(tr) != 0 {
			t.Error("trailing bytes")
		}
	})
}

// A digest is that of the canonical text, or there is none.
func FuzzCoCoDigest(f *testing.F) {
	f.Add("", "n", []byte(ecKey))
	f.Add("\u2028<\x01", "\"", []byte(rsaKey))
	f.Add("\xff", "n", []byte(`{"kty":"EC"}`))
	f.Add("{\"nvidia\":{\"note\":\"<b>&amp;é🔒\"}}\n", "{\"nonce\":\"aa\"}", []byte(`{"\u006bty":"EC","crv":"","alg":"\b\u0001/","x":"","y":"\ud83d\udd12","z":[null]}`))
	f.Fuzz(func(t *testing.T, additional, n string, jwk []byte) {
		primary, err1 := nonce.CoCoDigest(crypto.SHA256, &additional, n, jwk)
		device, err2 := nonce.CoCoDigest(crypto.SHA256, nil, n, jwk)
		if (err1 != nil && primary != nil) || (err2 != nil && device != nil) || err1 == nil && err2 != nil {
			t.Fatalf("%x, %v; %x, %v", primary, err1, device, err2)
		}
		if err2 == nil && (err1 == nil) != utf8.ValidString(additional) {
			t.Errorf("additional evidence %q: %v", additional, err1)
		}
		if err1 != nil {
			return
		}
		var k map[string]any
		if err := json.Unmarshal(jwk, &k); err != nil || !utf8.ValidString(n) {
			t.Fatalf("bound %q: %v", jwk, err)
		}
		doc, sep := `{"additional-evidence":`+canonicalText(additional)+`,"nonce":`+canonicalText(n)+`,"tee-pubkey":`, "{"
		for _, name := range map[any][]string{"EC": {"alg", "crv", "kty", "x", "y"}, "RSA": {"alg", "e", "kty", "n"}}[k["kty"]] {
			doc += sep + canonicalText(name) + ":" + canonicalText(k[name].(string))
			sep = ","
		}
		if want := sha256.Sum256([]byte(doc + "}}")); !bytes.Equal(primary, want[:]) {
			t.Errorf("not the digest of %s}}", doc)
		}
	})
}
