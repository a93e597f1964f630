package kds_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/kds/kdstest"
	"github.com/teebroker/teebroker/snp/snptest"
)

// Nobody is asked for anything about evidence that a look at it refuses.
func TestNothingIsAskedForWhatALookRefuses(t *testing.T) {
	chip := vendor().Chip(snp.Turin)
	other, err := evidence.NewBinding([]byte("another nonce"))
	if err != nil {
		t.Fatal(err)
	}
	fault := func(at int, b byte) snptest.Guest {
		return snptest.Guest{Fault: func(r []byte) []byte { r[at] ^= b; return r }}
	}
	cut := func(to int) snptest.Guest {
		return snptest.Guest{Fault: func(r []byte) []byte { return append(r, 0)[:to] }}
	}
	with := func(items ...evidence.Item) func(*evidence.Evidence) {
		return func(ev *evidence.Evidence) { ev.Items = items }
	}
	masked := vendor().Chip(snp.Turin)
	masked.MaskChipKey = true
	nameless := vendor().Chip(snp.Turin)
	nameless.MaskChipID = true
	for _, tt := range []struct {
		name string
		chip *snptest.Chip
		g    snptest.Guest
		edit func(*evidence.Evidence)
		want evidence.Binding
		err  error
	}{
		{"another nonce", chip, snptest.Guest{}, nil, other, evidence.NotBound},
		{"no nonce", chip, snptest.Guest{}, nil, evidence.Binding{}, evidence.NotBound},
		{"a byte short", chip, cut(1183), nil, want, evidence.Malformed},
		{"a byte long", chip, cut(1185), nil, want, evidence.Malformed},
		{"nothing", chip, cut(0), nil, want, evidence.Malformed},
		{"version 9", chip, fault(0, 9^5), nil, want, evidence.Unsupported},
		{"another signature algorithm", chip, fault(0x34, 3), nil, want, evidence.Unsupported},
		{"a reserved byte", chip, fault(0x4C, 1), nil, want, evidence.Malformed},
		{"a family of nobody", chip, fault(0x188, 0x80), nil, want, evidence.Unsupported},
		{"a TCB with a reserved byte", chip, fault(0x180+5, 1), nil, want, evidence.Malformed},
		{"no signature", masked, snptest.Guest{}, nil, want, evidence.BadSignature},
		{"no chip", nameless, snptest.Guest{}, nil, want, evidence.Unavailable},
		{"another format", chip, snptest.Guest{}, func(ev *evidence.Evidence) { ev.Format = "tdx-quote" }, want, evidence.Unsupported},
		{"layers", chip, snptest.Guest{}, func(ev *evidence.Evidence) { ev.Layers = make([]evidence.Evidence, 1) }, want, evidence.Malformed},
		{"an item of no type", chip, snptest.Guest{}, with(evidence.Item{Type: "x"}), want, evidence.Malformed},
		{"a broken table", chip, snptest.Guest{}, with(evidence.Item{Type: snp.CertTable, Data: []byte("table")}), want, evidence.Malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := kdstest.New(vendor())
			ev := bare(tt.chip, tt.g)
			if tt.edit != nil {
				tt.edit(&ev)
			}
			_, err := verifier(t, source(t, s)).Verify(t.Context(), ev, tt.want)
			if !errors.Is(err, tt.err) {
				t.Errorf("%v, want %v", err, tt.err)
			}
			if n := s.Requests(); n != 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// What comes with the evidence and fits is not asked for, and what evidence has in
// it can't lead anywhere: whatever bit of it is flipped, only names of package snp
// are asked for, at most one for a VCEK, and it is the one of the chip in the report.
func TestOnlyTheChipInTheReport(t *testing.T) {
	chip := vendor().Chip(snp.Milan)
	genuine := bare(chip, snptest.Guest{})
	unsure := evidence.UncheckedBindingUnsafe()
	s := kdstest.New(vendor())
	v := verifier(t, source(t, s))
	if _, err := v.Verify(t.Context(), chip.Report(snptest.Guest{}, want), want); err != nil {
		t.Fatal(err)
	}
	if n := s.Requests(); n != 1 {
		t.Errorf("%d requests with the VCEK at hand, want 1 for the list", n)
	}
	const tcb, id = 0x180, 0x1A0 // REPORTED_TCB, CHIP_ID: AMD 56860, ATTESTATION_REPORT
	for bit := 0; bit < 8*len(genuine.Raw); bit += 7 {
		s := kdstest.New(vendor())
		ev := genuine
		ev.Raw = bytes.Clone(genuine.Raw)
		ev.Raw[bit/8] ^= 1 << (bit % 8)
		if _, err := verifier(t, source(t, s)).Verify(t.Context(), ev, unsure); err == nil {
			t.Errorf("bit %d flipped: accepted", bit)
		}
		raw := ev.Raw
		at := snp.TCB{Line: snp.Milan, Bootloader: raw[tcb], TEE: raw[tcb+1], Firmware: raw[tcb+6], Microcode: raw[tcb+7]}
		vcek := s.Requests(snp.VCEKName(snp.ChipID(raw[id:]), at))
		if lists := s.Requests(snp.CRLName(snp.Milan, snp.VCEK)); vcek > 1 || lists > 1 || s.Requests() != vcek+lists {
			t.Errorf("bit %d flipped: %d requests, %d for the chip and %d for lists", bit, s.Requests(), vcek, lists)
		}
	}
}

// A stranger who makes up chips uses up the budget for certificates and nothing
// else: those whose certificate comes along verify.
func TestFloodOfChips(t *testing.T) {
	s := kdstest.New(vendor())
	src := impatient(t, s)
	v := verifier(t, src)
	chip := vendor().Chip(snp.Milan)
	for i := range 500 {
		ev := bare(chip, snptest.Guest{Edit: func(r []byte) { copy(r[0x1A0:], fmt.Sprint("made up ", i)) }})
		if _, err := v.Verify(t.Context(), ev, want); !errors.Is(err, evidence.Unavailable) {
			t.Fatal(err)
		}
	}
	if n := s.Requests(); n > 10 {
		t.Errorf("%d requests", n)
	}
	if _, err := v.Verify(t.Context(), chip.Report(snptest.Guest{}, want), want); err != nil {
		t.Error(err)
	}
}

// One who makes up chips leaves something to the others, where it is known who asks.
func TestFloodFromOnePeer(t *testing.T) {
	s := kdstest.New(vendor())
	v := verifier(t, impatient(t, s))
	chip := vendor().Chip(snp.Milan)
	stranger := evidence.FromPeer(t.Context(), "192.0.2.1")
	for i := range 500 {
		ev := bare(chip, snptest.Guest{Edit: func(r []byte) { copy(r[0x1A0:], fmt.Sprint("made up ", i)) }})
		if _, err := v.Verify(stranger, ev, want); !errors.Is(err, evidence.Unavailable) {
			t.Fatal(err)
		}
	}
	if n := s.Requests(); n != 3 {
		t.Errorf("%d requests for one peer, want 3", n)
	}
	if _, err := v.Verify(stranger, bare(chip, snptest.Guest{}), want); !errors.Is(err, evidence.Unavailable) {
		t.Errorf("the same peer: %v", err)
	}
	if _, err := v.Verify(evidence.FromPeer(t.Context(), "192.0.2.2"), bare(chip, snptest.Guest{}), want); err != nil {
		t.Errorf("another peer: %v", err)
	}
}
