package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	if status := run(t.Context(), &out); status != 0 {
		t.Errorf("exit status %d", status)
	}
	for _, want := range []string{
		"snp.policy.debug: got true, want equal false",
		"recorded evidence under a new nonce: refused, not-bound",
		"another instance: refused, not-bound",
		"another recipient key: refused, not-bound",
		"REPORT_DATA changed to fit: refused, bad-signature",
		"after the use is taken: refused, denied",
		"nobody named the simulated platform: refused, untrusted",
		"stored answer, to the byte\n",
		"with a new receipt\n",
		"missing is who signed TCB Info and QE identity",
		"not checked: [tcb]",
		"a TD of the same image, launched as the neighbour: refused, denied",
		"that its host may debug: refused, denied",
		"with the event log of the right one: refused, bad-signature",
		"ms  the owner's TD: it opens the secret\n",
		"a realm of the same image, launched as the neighbour: refused, denied",
		"that is under debug: refused, denied",
		"(CPAK) nobody vouches for: refused, untrusted",
		"(RAK) did not sign: refused, bad-signature",
		"ms  the owner's realm: it opens the secret\n",
		"being lost: the stored answer\n",
		"without the owner's token: refused, unauthenticated",
		"ms  the audit: every entry follows the one before, and one of them is the release\n",
		"at VMPL 2 asks for the vTPM's state itself: refused, denied",
		"yesterday's disk, which attests as ever: refused, epoch-dead",
		"and gets nothing to run: refused, superseded",
		"ms  the backup boots, and goes on from there\n",
		"given up for good: refused, epoch-dead",
		"ms  of all that the host carried it saw sizes and times: messages of one size, sealed to the broker\n",
		"All 54 steps went as they must",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the transcript lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// The transcript notices what does not go as it must.
func TestTranscript(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		err        error
		ok         bool
	}{
		{"accepted as it must be", accepted, nil, true},
		{"refused as it must be", "denied", teebroker.Denied, true},
		{"accepted and must not be", "denied", nil, false},
		{"refused and must not be", accepted, errors.New("x"), false},
		{"refused for another reason", "denied", errors.New("x"), false},
	} {
		var out bytes.Buffer
		tr := &transcript{w: &out}
		if ok := tr.try(tt.name, tt.want, func() error { return tt.err }); ok != tt.ok || (tr.failed == 0) != tt.ok {
			t.Errorf("%s: %v, %d failed", tt.name, ok, tr.failed)
		}
		if strings.Contains(out.String(), "FAILED") == tt.ok {
			t.Errorf("%s: prints %q", tt.name, out.String())
		}
	}
}
