package epoch_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/teebroker/teebroker/internal/epoch"
)

// The bytes of section 7, spelled out.
func TestMAC(t *testing.T) {
	key := bytes.Repeat([]byte{9}, 32)
	c := epoch.Confirm{Release: releaseID(1), Epoch: 2, Seq: 3, Settled: true, State: digest(4)}
	text := func(label, tail string) []byte {
		b, err := hex.DecodeString(label +
			"00000010" + "01000000000000000000000000000000" + "0000000000000002" + "0000000000000003" + "01" +
			"00000020" + "0400000000000000000000000000000000000000000000000000000000000000" + tail)
		if err != nil {
			t.Fatal(err)
		}
		h := hmac.New(sha256.New, key)
		h.Write(b)
		return h.Sum(nil)
	}
	confirm := "00000014" + hex.EncodeToString([]byte("teebroker/v1/confirm"))
	confirmed := "00000016" + hex.EncodeToString([]byte("teebroker/v1/confirmed"))
	if got := c.MAC(key, nil); !bytes.Equal(got, text(confirm, "00000000")) {
		t.Errorf("%x", got)
	}
	if got := c.MAC(key, []byte{5}); !bytes.Equal(got, text(confirm, "0000000105")) {
		t.Errorf("%x", got)
	}
	if got := c.Ack(key, nil, "ok"); !bytes.Equal(got, text(confirmed, "00000000"+"000000026f6b")) {
		t.Errorf("%x", got)
	}
	d := epoch.PCRDigest(key, releaseID(1))
	if want := sha256.Sum256(append(make([]byte, 32), d[:]...)); epoch.PCRValue(d) != want {
		t.Error("not what a TPM computes")
	}
}

// Every field counts: no MAC of one confirm is that of another, or of an ack.
func TestMACsDiffer(t *testing.T) {
	key := bytes.Repeat([]byte{9}, 32)
	base := epoch.Confirm{Release: releaseID(1), Epoch: 2, Seq: 3, State: digest(4)}
	seen := map[string]string{}
	add := func(what string, m []byte) {
		if was, ok := seen[string(m)]; ok {
			t.Errorf("%s is %s", what, was)
		}
		seen[string(m)] = what
	}
	for what, edit := range map[string]func(*epoch.Confirm){
		"base": func(*epoch.Confirm) {}, "release": func(c *epoch.Confirm) { c.Release = releaseID(2) },
		"epoch": func(c *epoch.Confirm) { c.Epoch = 3 }, "seq": func(c *epoch.Confirm) { c.Seq = 2 },
		"settled": func(c *epoch.Confirm) { c.Settled = true }, "state": func(c *epoch.Confirm) { c.State = digest(5) },
	} {
		c := base
		edit(&c)
		add(what, c.MAC(key, nil))
		add(what+", ek", c.MAC(key, []byte{1}))
		add(what+", ack", c.Ack(key, nil, ""))
		add(what+", ack with a result", c.Ack(key, nil, "x"))
	}
}
