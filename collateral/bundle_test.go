package collateral_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/jws"
)

var _ evidence.Source = (*collateral.Bundle)(nil)

const bundleType = "teebroker-bundle-1+jws"

// siteKey is who signs bundles.
var siteKey = sync.OnceValue(func() *ecdsa.PrivateKey { return keyOn(elliptic.P384()) })

func keyOn(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func contents() collateral.Contents {
	return collateral.Contents{
		Sequence: 7, Created: now.Add(time.Millisecond),
		Collateral: collateral.Fixed{
			milanCRL: {amdList(now, 30), amdList(now.AddDate(0, 0, -1), 30)},
			pckName:  {{Data: []byte("data"), Issuer: []byte("issuer")}},
		},
		Files: map[string][]byte{"b.json": []byte("{}"), "a": {0, 1}},
	}
}

func bundle(t testing.TB, c collateral.Contents) []byte {
	t.Helper()
	b, err := collateral.MakeBundle(siteKey(), c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBundle(t *testing.T) {
	c := contents()
	raw := bundle(t, c)
	other := keyOn(elliptic.P384())
	b, err := collateral.OpenBundleSince(raw, 7, &other.PublicKey, &siteKey().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw) // it does not keep what it was given
	if b.Sequence() != 7 || !b.Created().Equal(now) {
		t.Errorf("%d of %v", b.Sequence(), b.Created())
	}
	for name, want := range c.Collateral {
		got, err := b.Get(t.Context(), name)
		if err != nil || !slices.EqualFunc(got, want, func(x, y evidence.Collateral) bool {
			return bytes.Equal(x.Data, y.Data) && bytes.Equal(x.Issuer, y.Issuer)
		}) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	refuses(t, b, rootName, evidence.ErrNotFound)
	if files := maps.Collect(b.Files()); !maps.Equal(files, map[string]int{"a": 2, "b.json": 2}) {
		t.Errorf("files: %v", files)
	}
	for range b.Files() {
		break
	}
	f, ok := b.File("a")
	if !ok || !bytes.Equal(f, []byte{0, 1}) {
		t.Errorf("a: %v, %v", f, ok)
	}
	f[0] = 9
	if f, _ := b.File("a"); f[0] != 0 {
		t.Error("files are shared")
	}
	if _, ok := b.File("c"); ok {
		t.Error("a file that is not there")
	}
	refuses(t, &collateral.Bundle{}, milanCRL, evidence.ErrNotFound)
	if _, ok := new(collateral.Bundle).File("a"); ok {
		t.Error("the zero Bundle has files")
	}
}

// The same contents make the same bytes, but for the signature.
func TestBundleDeterministic(t *testing.T) {
	c := contents()
	_, one, _ := bytes.Cut(bundle(t, c), []byte("\n"))
	_, two, _ := bytes.Cut(bundle(t, c), []byte("\n"))
	if !bytes.Equal(one, two) {
		t.Error("another body each time")
	}
}

// sealed returns body with a statement in front of it, as anyone could sign.
func sealed(t testing.TB, key crypto.Signer, typ, body string, say func(map[string]any)) []byte {
	t.Helper()
	sum := sha512.Sum384([]byte(body))
	said := map[string]any{"sequence": 1, "created": now, "size": len(body), "sha384": sum[:]}
	said["sha384"] = strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(jsonText(t, sum[:])), "=")
	if say != nil {
		say(said)
	}
	payload, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.Sign(key, typ, payload)
	if err != nil {
		t.Fatal(err)
	}
	return append(append(token, '\n'), body...)
}

func jsonText(t testing.TB, v any) (s string) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const emptyBody = `{"collateral":[],"files":[]}`

func TestOpenBundleRefuses(t *testing.T) {
	good := bundle(t, contents())
	site := []crypto.PublicKey{&siteKey().PublicKey}
	if _, err := collateral.OpenBundle(sealed(t, siteKey(), bundleType, emptyBody, nil), site...); err != nil {
		t.Fatal(err)
	}
	token, body, _ := bytes.Cut(good, []byte("\n"))
	pub25519, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	unsigned, malformed := collateral.ErrUnsigned, error(nil)
	for name, tt := range map[string]struct {
		b    []byte
		keys []crypto.PublicKey
		want error // nil: any
	}{
		"no keys":                   {good, nil, unsigned},
		"another key":               {good, []crypto.PublicKey{&keyOn(elliptic.P384()).PublicKey}, unsigned},
		"a key on P-256":            {good, []crypto.PublicKey{&keyOn(elliptic.P256()).PublicKey}, unsigned},
		"a key of another kind":     {good, []crypto.PublicKey{pub25519}, unsigned},
		"a nil key":                 {good, []crypto.PublicKey{nil}, unsigned},
		"a nil key of its type":     {good, []crypto.PublicKey{(*ecdsa.PublicKey)(nil)}, unsigned},
		"an empty key":              {good, []crypto.PublicKey{&ecdsa.PublicKey{}}, unsigned},
		"a private key":             {good, []crypto.PublicKey{siteKey()}, unsigned},
		"nothing":                   {nil, site, unsigned},
		"no signature":              {body, site, unsigned},
		"an empty signature":        {append([]byte("\n"), body...), site, unsigned},
		"the signature only":        {token, site, unsigned},
		"no content":                {append(bytes.Clone(token), '\n'), site, unsigned},
		"content cut":               {good[:len(good)-1], site, unsigned},
		"more content":              {append(bytes.Clone(good), ' '), site, unsigned},
		"another content":           {append(append(bytes.Clone(token), '\n'), emptyBody...), site, unsigned},
		"a long first line":         {append(bytes.Repeat([]byte("a"), 5000), good...), site, unsigned},
		"too large":                 {make([]byte, collateral.MaxBundle+1), site, unsigned},
		"signed for something else": {sealed(t, siteKey(), "teebroker-receipt+jws", emptyBody, nil), site, unsigned},
		"another version":           {sealed(t, siteKey(), "teebroker-bundle-2+jws", emptyBody, nil), site, unsigned},
		"another size":              {sealed(t, siteKey(), bundleType, emptyBody, func(m map[string]any) { m["size"] = 1 }), site, unsigned},
		"no digest":                 {sealed(t, siteKey(), bundleType, emptyBody, func(m map[string]any) { delete(m, "sha384") }), site, unsigned},
		"no sequence":               {sealed(t, siteKey(), bundleType, emptyBody, func(m map[string]any) { delete(m, "sequence") }), site, malformed},
		"no creation":               {sealed(t, siteKey(), bundleType, emptyBody, func(m map[string]any) { delete(m, "created") }), site, malformed},
		"more in the statement":     {sealed(t, siteKey(), bundleType, emptyBody, func(m map[string]any) { m["x"] = 1 }), site, malformed},
		"content not JSON":          {sealed(t, siteKey(), bundleType, `hello`, nil), site, malformed},
		"unknown member":            {sealed(t, siteKey(), bundleType, `{"collateral":[],"files":[],"x":1}`, nil), site, malformed},
		"trailing data":             {sealed(t, siteKey(), bundleType, emptyBody+"{}", nil), site, malformed},
		"null":                      {sealed(t, siteKey(), bundleType, `{"collateral":null,"files":[]}`, nil), site, malformed},
		"no name":                   {sealed(t, siteKey(), bundleType, `{"collateral":[{"data":"AA"}],"files":[]}`, nil), site, malformed},
		"no data":                   {sealed(t, siteKey(), bundleType, `{"collateral":[{"name":"a","data":""}],"files":[]}`, nil), site, malformed},
		"a record of a cache":       {sealed(t, siteKey(), bundleType, `{"collateral":[{"collateral":"teebroker/1","name":"a","data":"AA"}],"files":[]}`, nil), site, malformed},
		"a name with a line break":  {sealed(t, siteKey(), bundleType, `{"collateral":[{"name":"a\n","data":"AA"}],"files":[]}`, nil), site, malformed},
		"a file twice":              {sealed(t, siteKey(), bundleType, `{"collateral":[],"files":[{"name":"a","data":""},{"name":"a","data":"AA"}]}`, nil), site, malformed},
		"many files":                {sealed(t, siteKey(), bundleType, manyFiles(257), nil), site, malformed},
	} {
		b, err := collateral.OpenBundle(tt.b, tt.keys...)
		if err == nil || b != nil || tt.want != nil && !errors.Is(err, tt.want) || tt.want == nil && errors.Is(err, unsigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := collateral.OpenBundle(sealed(t, siteKey(), bundleType, manyFiles(256), nil), site...); err != nil {
		t.Errorf("256 files: %v", err)
	}
}

func manyFiles(n int) string {
	var files []string
	for i := range n {
		files = append(files, fmt.Sprintf(`{"name":"%d","data":""}`, i))
	}
	return `{"collateral":[],"files":[` + strings.Join(files, ",") + `]}`
}

// Whatever byte is changed, a bundle does not open.
func TestBundleBits(t *testing.T) {
	c := contents()
	c.Collateral = collateral.Fixed{pckName: {{Data: []byte("data")}}}
	good := bundle(t, c)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if b, err := collateral.OpenBundle(bad, &siteKey().PublicKey); err == nil || b != nil {
			t.Errorf("byte %d changed: opens", i)
		}
	}
}

func TestBundleRollback(t *testing.T) {
	raw := bundle(t, contents()) // 7
	for sequence, want := range map[uint64]error{0: nil, 6: nil, 7: nil, 8: collateral.ErrRollback} {
		b, err := collateral.OpenBundleSince(raw, sequence, &siteKey().PublicKey)
		if !errors.Is(err, want) || (b == nil) != (want != nil) {
			t.Errorf("since %d: %v", sequence, err)
		}
	}
}

func TestMakeBundleRefuses(t *testing.T) {
	for name, change := range map[string]func(*collateral.Contents){
		"no sequence":         func(c *collateral.Contents) { c.Sequence = 0 },
		"no creation":         func(c *collateral.Contents) { c.Created = time.Time{} },
		"no name":             func(c *collateral.Contents) { c.Collateral[""] = one("a") },
		"a long name":         func(c *collateral.Contents) { c.Collateral[strings.Repeat("a", 513)] = one("a") },
		"no data":             func(c *collateral.Contents) { c.Collateral["a"] = one("") },
		"much data":           func(c *collateral.Contents) { c.Collateral["a"] = one(strings.Repeat("a", 1<<20+1)) },
		"a file without name": func(c *collateral.Contents) { c.Files[""] = nil },
		"a large file":        func(c *collateral.Contents) { c.Files["x"] = make([]byte, 4<<20+1) },
		"too much": func(c *collateral.Contents) {
			for i := range 64 {
				c.Collateral[fmt.Sprint(i)] = one(strings.Repeat("a", 1<<20))
			}
		},
	} {
		c := contents()
		change(&c)
		if b, err := collateral.MakeBundle(siteKey(), c); err == nil || b != nil {
			t.Errorf("%s: made", name)
		}
	}
	if _, err := collateral.MakeBundle(keyOn(elliptic.P256()), contents()); err == nil {
		t.Error("signed on P-256")
	}
}
