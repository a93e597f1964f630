package vtpm_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// parsed fails t unless err is one of this format, or there is none.
func parsed(t *testing.T, err error) {
	t.Helper()
	var e *evidence.Error
	if err == nil {
		return
	}
	if !errors.As(err, &e) || e.Format != vtpm.Format || e.Reason == "" || e.Check == "" {
		t.Errorf("%v", err)
	}
}

func FuzzParseQuote(f *testing.F) {
	for _, d := range []*vtpmtest.TPM{rsaTPM(), eccTPM()} {
		raw, _ := d.Quote(vtpmtest.Quote{}, sixtyFour(f))
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, err := vtpm.ParseQuote(raw)
		parsed(t, err)
		if err == nil && len(q.Selection) == 0 {
			t.Error("a quote of no PCR")
		}
	})
}

func FuzzParsePublic(f *testing.F) {
	for _, d := range []*vtpmtest.TPM{rsaTPM(), eccTPM()} {
		f.Add(d.EK())
		f.Add(d.AK())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := vtpm.ParsePublic(b)
		parsed(t, err)
		if err == nil && !bytes.Equal(p.Marshal(), b) {
			t.Error("is not what it was parsed from")
		}
	})
}

func FuzzParseServices(f *testing.F) {
	f.Add(vtpmtest.Table(vtpmtest.VTPM(eccTPM()), vtpmtest.UEFIMM()))
	f.Add(vtpmtest.VTPM(rsaTPM()).Manifest)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := vtpm.ParseServices(b)
		parsed(t, err)
		_, err = vtpm.ParseManifest(b)
		parsed(t, err)
	})
}

func FuzzParseHCL(f *testing.F) {
	a := vtpmtest.Azure{TPM: rsaTPM(), Report: func(evidence.Binding) evidence.Evidence { return evidence.Evidence{} }}
	f.Add(item(a.Evidence(vtpmtest.Quote{}, sixtyFour(f)), vtpm.HCL))
	for name := range genuineBlobs() {
		f.Add(vectors.Read(f, "snp/"+name+".hcl.bin"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := vtpm.ParseHCL(b)
		parsed(t, err)
		if err == nil && (a.AK == nil || !bytes.Contains(b, a.Runtime)) {
			t.Error("no AK, or other runtime data")
		}
	})
}

// Logs are parsed of quotes that are good but for them.
func FuzzLogs(f *testing.F) {
	want := sixtyFour(f)
	l := newLogged(events(), files()...)
	ev, v := baseless(l.tpm, want), believing(f)
	good, list := vtpmtest.EventLog(l.events...), vtpmtest.IMAList(l.files...)
	f.Add(good, list)
	f.Fuzz(func(t *testing.T, log, ima []byte) {
		got, err := v.Verify(t.Context(), with(with(ev, vtpm.EventLog, log), vtpm.IMAList, ima), want)
		parsed(t, err)
		c, ok := vtpm.ClaimsOf(got)
		if !ok {
			return
		}
		// What is vouched for is what was measured, whatever else a list has.
		n := 0
		for e := range c.IMA.All() {
			if e.Path != l.files[n].Path {
				t.Errorf("entry %d is %q", n, e.Path)
			}
			n++
		}
		for _, e := range c.Events {
			if e.Data != nil && !bytes.Contains(good, e.Data) {
				t.Errorf("an event of %q", e.Data)
			}
		}
	})
}

func FuzzDecodeReferenceValues(f *testing.F) {
	f.Add([]byte(`{"links":["ak"],"pcrs":[{"bank":"sha256","index":7,"values":"*"}],"ima":{"files":{"/":"*"}}}`), true)
	f.Fuzz(func(t *testing.T, object []byte, partial bool) {
		rv, err := vtpm.DecodeReferenceValues(object, partial)
		if err == nil {
			rv.Appraise(nil)
		}
	})
}

func FuzzSplitCredential(f *testing.F) {
	ek, err := vtpm.ParsePublic(eccTPM().EK())
	if err != nil {
		f.Fatal(err)
	}
	blob, err := vtpm.MakeCredential(ek, ek.Name, []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob)
	f.Fuzz(func(t *testing.T, blob []byte) {
		id, encrypted, err := vtpm.SplitCredential(blob)
		if err == nil && len(id)+len(encrypted)+12 != len(blob) {
			t.Error("something is left out")
		}
	})
}
