package main

import (
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

func snpTEE() tee {
	return tee{
		name: "snp", title: "AMD SEV-SNP report", format: snp.Format, checks: snp.Checks(),
		looksLike: looksLikeSNP, collect: collectSNP, verifier: snpVerifier, hearsay: snpHearsay,
	}
}

// looksLikeSNP goes by the version, a small little-endian number of four bytes
// with which no other format starts. Whether it is well formed is for the
// Verifier to say.
func looksLikeSNP(raw []byte) bool {
	if len(raw) < 4 {
		return false
	}
	version := binary.LittleEndian.Uint32(raw)
	return version > 0 && version < 256
}

// collectSNP takes the first VEK and the first certificate table as Items. If there
// are more, the Source knows each VEK by the name of its chip.
func collectSNP(t *trust, f endorsement) error {
	if !f.named && !f.known {
		return nil
	}
	item, ok := itemIn(f.data)
	if ok && !slices.ContainsFunc(t.items, func(i evidence.Item) bool { return i.Type == item.Type }) {
		t.items = append(t.items, item)
	}
	return nil
}

// itemIn returns file itself if it is a certificate table, or the first VEK in a
// file of certificates, or false.
func itemIn(file []byte) (evidence.Item, bool) {
	if _, err := snp.TableVEKs(file); err == nil {
		return evidence.Item{Type: snp.CertTable, Data: file}, true
	}
	for _, c := range certificatesIn(file) {
		if n := c.Subject.CommonName; n == "SEV-VCEK" || n == "SEV-VLEK" {
			return evidence.Item{Type: snp.VEK, Data: c.Raw}, true
		}
	}
	return evidence.Item{}, false
}

func snpVerifier(t trust, _ []byte) (evidence.Verifier, error) {
	anchors := snp.AMD()
	if t.anchors != nil {
		var err error
		if anchors, err = snpAnchors(t.anchors); err != nil {
			return nil, err
		}
	}
	return snp.NewVerifier(snp.Config{
		Anchors:              anchors,
		Source:               t.source,
		Time:                 func() time.Time { return t.now },
		SkipRevocationUnsafe: t.skipRevocation,
	})
}

// snpAnchors returns those of anchors that are AMD's by name, by Line.
func snpAnchors(anchors []anchor) (found []snp.Anchors, err error) {
	for line := snp.Milan; line <= snp.Turin; line++ {
		name := line.String()
		a := snp.Anchors{Line: line}
		for _, want := range []struct {
			name string
			der  *[]byte
		}{{"ARK-" + name, &a.ARK}, {"SEV-" + name, &a.ASK}, {"SEV-VLEK-" + name, &a.ASVK}} {
			if *want.der, err = only(anchors, want.name); err != nil {
				return nil, err
			}
		}
		if a.ARK != nil {
			found = append(found, a)
		}
	}
	if found == nil {
		return nil, errors.New("-roots: no ARK of AMD")
	}
	return found, nil
}

// ofAMD reports whether a certificate is called as those of AMD are.
func ofAMD(name string) bool {
	return strings.HasPrefix(name, "ARK-") || strings.HasPrefix(name, "SEV-")
}

func snpHearsay(raw []byte) (iter.Seq2[string, evidence.Value], error) {
	r, err := snp.ParseReport(raw)
	if err != nil {
		return nil, err
	}
	return r.All(), nil
}
