package provision

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// metadata is the JSON of a header that cryptsetup could have made.
const metadata = `{"keyslots":{"0":{"type":"luks2","area":{"type":"raw","offset":"32768","size":"258048","encryption":"aes-xts-plain64"}}},` +
	`"tokens":{},"segments":{"0":{"type":"crypt","offset":"65536","size":"dynamic","encryption":"aes-xts-plain64"}},` +
	`"digests":{},"config":{"json_size":"12288","keyslots_size":"32768"}}`

// header returns a LUKS2 header of 64 KiB with this metadata, and some data.
func header(text string) []byte {
	b := make([]byte, 64<<10+512)
	copy(b, luksMagic+"\x00\x02")
	binary.BigEndian.PutUint64(b[8:], minLUKSArea)
	copy(b[luksBinary:minLUKSArea], text)
	return b
}

func TestParseDisk(t *testing.T) {
	good := header(metadata)
	d, err := ReadDisk(bytes.NewReader(good))
	if err != nil || d.Size != 64<<10 || d.Digest != digest(good[:64<<10]) {
		t.Fatalf("%+v, %v", d, err)
	}
	edit := func(old, new string) []byte {
		if !strings.Contains(metadata, old) {
			t.Fatalf("no %s", old)
		}
		return header(strings.Replace(metadata, old, new, 1))
	}
	after := func(f func(b []byte)) []byte {
		b := header(metadata)
		f(b)
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"cut in the header":    good[:luksBinary],
		"cut in the JSON":      good[:luksBinary+100],
		"cut in the key slots": good[:40<<10],
		"LUKS1":                after(func(b []byte) { b[7] = 1 }),
		"another magic":        after(func(b []byte) { b[0]++ }),
		"a small area":         after(func(b []byte) { binary.BigEndian.PutUint64(b[8:], luksBinary) }),
		"a large area":         after(func(b []byte) { binary.BigEndian.PutUint64(b[8:], 1<<63) }),
		"something after":      after(func(b []byte) { b[minLUKSArea-1] = 1 }),
		"not JSON":             header("{"),
		"twice the same":       header(`{"segments":{},` + metadata[1:]),
		"no data":              edit(`"0":{"type":"crypt"`, `"1":{"type":"crypt"`),
		"two segments":         edit(`"segments":{`, `"segments":{"1":{"type":"crypt","offset":"65536","encryption":"aes"},`),
		"a plain segment":      edit(`"crypt"`, `"linear"`),
		"a null segment":       edit(`"dynamic","encryption":"aes-xts-plain64"`, `"dynamic","encryption":"cipher_null-ecb"`),
		"a null key slot":      edit(`"258048","encryption":"aes-xts-plain64"`, `"258048","encryption":"cipher_null-ecb"`),
		"a key slot of none":   edit(`"258048","encryption":"aes-xts-plain64"`, `"258048"`),
		"no key slots":         header(metadata[:len(`{"keyslots":{`)] + metadata[strings.Index(metadata, `},"tokens"`):]),
		"re-encryption":        edit(`"config":{`, `"config":{"requirements":{"mandatory":["online-reencrypt-v2"]},`),
		"no offset":            edit(`"offset":"65536",`, ``),
		"a detached header":    edit(`"offset":"65536"`, `"offset":"0"`),
		"data in the header":   edit(`"offset":"65536"`, `"offset":"16384"`),
		"a huge header":        edit(`"offset":"65536"`, `"offset":"9999999999999"`),
		"a negative header":    edit(`"offset":"65536"`, `"offset":"-1"`),
	} {
		if d, err := ReadDisk(bytes.NewReader(b)); !errors.Is(err, ErrDisk) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

// The host exchanges the header of the disk: no program is given the passphrase. One of
// its headers is for a passphrase that it need not know, and cryptsetup would take it.
func TestSwappedHeader(t *testing.T) {
	d := deliver(t, Config{Guest: theGuest(), AllowAnyBoot: true, ECC: true, Passphrase: []byte("p"), NewImage: MinImage})
	s, image, dir := d.state(t), filepath.Join(d.dir, ImageFile), t.TempDir()
	if err := s.CheckDisk(t.Context(), image, dir); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	if err := formatLUKS(t.Context(), other, MinImage, []byte("p")); err != nil {
		t.Fatal(err)
	}
	if err := openLUKS(t.Context(), other, image, "", []byte("p")); err != nil {
		t.Fatalf("cryptsetup: %v", err)
	}
	good, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	t.Setenv("PATH", t.TempDir()) // who runs cryptsetup fails otherwise
	bad := map[string][]byte{"another header": swapped, "cut short": good[:1<<20], "no header": {}}
	for name, at := range map[string]uint64{"first header": 20, "JSON": 5000, "second header": 20 << 10, "key slot": 40 << 10, "last byte": s.Disk.Size - 1} {
		b := bytes.Clone(good)
		b[at] ^= 1
		bad[name] = b
	}
	for name, b := range bad {
		path := filepath.Join(dir, "disk")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.OpenDisk(t.Context(), path, work, "", []byte("p")); !errors.Is(err, ErrDisk) {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.CheckDisk(t.Context(), path, work); !errors.Is(err, ErrDisk) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.OpenDisk(t.Context(), image, work, "../x", []byte("p")); !errors.Is(err, ErrConfig) {
		t.Errorf("a name that is a path: %v", err)
	}
	if left, err := os.ReadDir(work); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// A disk that its owner has, with a passphrase that its owner knows.
func TestOwnDisk(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk")
	if err := formatLUKS(t.Context(), image, MinImage, []byte("mine")); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Guest: theGuest(), AllowAnyBoot: true, ECC: true, Passphrase: []byte("mine"), Image: image}
	d := deliver(t, cfg)
	s := d.state(t)
	got, err := start(t, s).Unseal(d.sealed(t))
	if err != nil || s.OpenDisk(t.Context(), image, t.TempDir(), "", got) != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(d.dir, ImageFile)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	cfg.Passphrase = []byte("not mine")
	if _, err := Make(t.Context(), cfg, ""); !errors.Is(err, ErrPassphrase) {
		t.Errorf("another passphrase: %v", err)
	}
	if err := os.Truncate(image, 1<<20); err != nil {
		t.Fatal(err)
	}
	cfg.Passphrase = []byte("mine")
	if _, err := Make(t.Context(), cfg, ""); !errors.Is(err, ErrDisk) {
		t.Errorf("half a disk: %v", err)
	}
}

func FuzzReadDisk(f *testing.F) {
	f.Add([]byte(metadata))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := header(string(text[:min(len(text), minLUKSArea-luksBinary)]))
		d, err := ReadDisk(bytes.NewReader(b))
		if err == nil && (d.Size > uint64(len(b)) || d.Size < 2*minLUKSArea || d.check() != nil) {
			t.Errorf("%+v", d)
		}
	})
}
