package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

// Whatever a file holds there is an answer, and it is yes to nothing but the
// one report that the certificate is of.
func FuzzJudge(f *testing.F) {
	report := vectors.Read(f, "snp/oak-turin-oc.report.bin")
	endorsed := trust{
		source:         collateral.Fixed{},
		items:          []evidence.Item{{Type: snp.VEK, Data: vectors.Read(f, "snp/oak-turin-oc.vek.der")}},
		now:            time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		skipRevocation: true,
	}
	f.Add(report)
	f.Add(report[:1183])
	f.Add(vectors.Read(f, "tdx/quotes/gtg_sample_v5.bin"))
	f.Add(vectors.Read(f, "cca/tf-rmm-legacy-1222.cbor"))
	f.Add([]byte{0xd9, 0x03, 0x8b, 0xa2})
	f.Add(bytes.Repeat([]byte{0xa7}, 1184))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := judge(t.Context(), input{tee: detect(raw), raw: raw, trust: endorsed})
		if err != nil {
			t.Fatal(err)
		}
		if r.yes() != bytes.Equal(raw, report) {
			t.Errorf("yes is %v: %s", r.yes(), r.Detail)
		}
		if !r.yes() && r.Reason == "" {
			t.Error("a no without a reason")
		}
	})
}

// Whatever is in a folder, it is no error, and what is taken from it can be used:
// logs by the type that they are of, anchors by their keys.
func FuzzCollect(f *testing.F) {
	for _, name := range []string{
		"tdx/ccel/gcp_cos113_ccel_data.bin", "tdx/ccel/dstack_quote_report.json",
		"cca/ta-02-ok.json", "cca/ta-02-bad.json", "cca/ta-tfa.json", "cca/key-rust-cca-token-02.pub.pem", "cca/rv.json",
	} {
		f.Add(vectors.Read(f, name))
	}
	f.Add([]byte(`[{"imr": 0}]`))
	f.Fuzz(func(t *testing.T, file []byte) {
		for _, tee := range tees() {
			var got trust
			if err := tee.collect(&got, endorsement{path: "file", data: file}); err != nil {
				t.Errorf("%s: %v", tee.name, err)
			}
			for _, i := range got.items {
				if tee.name != "tdx" || i.Type != tdx.CCEL && i.Type != tdx.RuntimeLog || !bytes.Equal(i.Data, file) {
					t.Errorf("%s: an item of type %q", tee.name, i.Type)
				}
			}
			for _, a := range got.cca.anchors {
				if tee.name != "cca" || a.Key == nil {
					t.Errorf("%s: an anchor %v", tee.name, a)
				}
			}
		}
	})
}

// Whatever is in a folder, an Item of it is a certificate or a table.
func FuzzItem(f *testing.F) {
	for _, name := range []string{"oak-turin-oc.vek.der", "oak-turin-oc.chain.pem", "veraison-tsm-vcek.auxblob.bin", "oak-turin-oc.report.bin"} {
		f.Add(vectors.Read(f, "snp/"+name))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		item, ok := itemIn(file)
		if ok != (item.Type == snp.VEK || item.Type == snp.CertTable) || ok != (len(item.Data) > 0) {
			t.Errorf("%v: %q of %d bytes", ok, item.Type, len(item.Data))
		}
	})
}
