package teebroker_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// The bytes of section 7, spelled out.
func TestMAC(t *testing.T) {
	key := bytes.Repeat([]byte{9}, 32)
	c := teebroker.Confirm{Release: strictjson.UUID{1}, Epoch: 2, Seq: 3, Settled: true, State: strictjson.Digest{4}}
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
	if got := c.MAC(key); !bytes.Equal(got, text(confirm, "00000000")) {
		t.Errorf("%x", got)
	}
	if got := c.Ack(key, "ok"); !bytes.Equal(got, text(confirmed, "00000000"+"000000026f6b")) {
		t.Errorf("%x", got)
	}
	c.EK = strictjson.Digest{5}
	if got := c.MAC(key); !bytes.Equal(got, text(confirm, "00000020"+"05"+strings.Repeat("00", 31))) {
		t.Errorf("%x", got)
	}
	d := teebroker.PCRDigest(key, strictjson.UUID{1})
	if want := sha256.Sum256(append(make([]byte, 32), d[:]...)); teebroker.PCRValue(d) != want {
		t.Error("not what a TPM computes")
	}
}

// Every field counts: no MAC of one confirm is that of another, or of an ack.
func TestMACsDiffer(t *testing.T) {
	key := bytes.Repeat([]byte{9}, 32)
	base := teebroker.Confirm{Release: strictjson.UUID{1}, Epoch: 2, Seq: 3, State: strictjson.Digest{4}}
	seen := map[string]string{}
	add := func(what string, m []byte) {
		if was, ok := seen[string(m)]; ok {
			t.Errorf("%s is %s", what, was)
		}
		seen[string(m)] = what
	}
	for what, edit := range map[string]func(*teebroker.Confirm){
		"base": func(*teebroker.Confirm) {}, "release": func(c *teebroker.Confirm) { c.Release = strictjson.UUID{2} },
		"epoch": func(c *teebroker.Confirm) { c.Epoch = 3 }, "seq": func(c *teebroker.Confirm) { c.Seq = 2 },
		"settled": func(c *teebroker.Confirm) { c.Settled = true }, "state": func(c *teebroker.Confirm) { c.State = strictjson.Digest{5} },
	} {
		c := base
		edit(&c)
		add(what, c.MAC(key))
		add(what+", ack", c.Ack(key, ""))
		add(what+", ack with a result", c.Ack(key, "x"))
		c.EK = strictjson.Digest{1}
		add(what+", ek", c.MAC(key))
	}
}
