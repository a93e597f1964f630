package snp_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// GUIDs as printed in AMD 56421.
const (
	vcekGUID = "\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd"
	vlekGUID = "\xa8\x07\x4b\xc2\xa2\x5a\x48\x3e\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1"
	arkGUID  = "\xc0\xb4\x06\xa4\xa8\x03\x49\x52\x97\x43\x3f\xb6\x01\x4c\xd0\xae"
	crlGUID  = "\x92\xf8\x1b\xc3\x58\x11\x4d\x3d\x97\xff\xd1\x9f\x88\xdc\x67\xea"
)

type entry struct {
	guid string
	data []byte
}

// certTable returns the table of es.
func certTable(es ...entry) []byte {
	b := make([]byte, 24*(len(es)+1))
	for i, e := range es {
		copy(b[24*i:], e.guid)
		binary.LittleEndian.PutUint32(b[24*i+16:], uint32(len(b)))
		binary.LittleEndian.PutUint32(b[24*i+20:], uint32(len(e.data)))
		b = append(b, e.data...)
	}
	return b
}

// otherGUID returns a GUID that nobody defined.
func otherGUID(i int) string { return string(bytes.Repeat([]byte{byte(i + 1)}, 16)) }

func TestCertTable(t *testing.T) {
	g := genuineReport(t, "lunal-genoa-v5")
	der := g.vek(t)
	vcek := entry{vcekGUID, der}
	many := func(n int) (es []entry) {
		for i := range n - 1 {
			es = append(es, entry{otherGUID(i), nil})
		}
		return append(es, vcek)
	}
	edited := func(at int, n uint32) []byte {
		b := certTable(vcek)
		binary.LittleEndian.PutUint32(b[at:], n)
		return b
	}
	for _, c := range []struct {
		claim string
		table []byte
		ok    bool
	}{
		{"one entry", certTable(vcek), true},
		{"unknown entries are ignored", certTable(entry{otherGUID(0), []byte("x")}, vcek), true},
		{"ARK and CRL are ignored", certTable(entry{arkGUID, []byte("not mine")}, entry{crlGUID, []byte("nor this")}, vcek), true},
		{"bytes that no entry names are ignored", append(certTable(vcek), 1, 2, 3), true},
		{"32 entries", certTable(many(32)...), true},
		{"33 entries", certTable(many(33)...), false},
		{"an entry twice", certTable(vcek, vcek), false},
		{"an unknown entry twice", certTable(vcek, entry{otherGUID(0), nil}, entry{otherGUID(0), nil}), false},
		{"no end", certTable(vcek)[:24], false},
		{"a part of an entry", certTable(vcek)[:40], false},
		{"a payload in the entries", edited(16, 24), false},
		{"a payload behind the table", edited(16, 0x10000), false},
		{"a payload longer than the table", edited(20, uint32(len(der)+1)), false},
		{"offset and length that overflow 32 bits", edited(20, 0xFFFFFFFF), false},
		{"an offset of 32 bits", edited(16, 0xFFFFFFFF), false},
		{"more than 64 KiB", append(certTable(vcek), make([]byte, 64<<10)...), false},
	} {
		t.Run(c.claim, func(t *testing.T) {
			ev := evidence.Evidence{Format: snp.Format, Raw: g.report(t), Items: []evidence.Item{{Type: snp.CertTable, Data: c.table}}}
			got, err := g.verifier(t, nil).Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe())
			if c.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantRefused(t, got, err, evidence.Malformed, "items")
		})
	}
}

func TestItems(t *testing.T) {
	g := genuineReport(t, "lunal-genoa-v5")
	vek := evidence.Item{Type: snp.VEK, Data: g.vek(t)}
	for _, c := range []struct {
		claim string
		items []evidence.Item
	}{
		{"an unknown type", []evidence.Item{vek, {Type: "x"}}},
		{"no type", []evidence.Item{vek, {}}},
		{"two VEKs", []evidence.Item{vek, vek}},
		{"two tables", []evidence.Item{vek, {Type: snp.CertTable}, {Type: snp.CertTable}}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			ev := evidence.Evidence{Format: snp.Format, Raw: g.report(t), Items: c.items}
			got, err := g.verifier(t, nil).Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe())
			wantRefused(t, got, err, evidence.Malformed, "items")
		})
	}
}
