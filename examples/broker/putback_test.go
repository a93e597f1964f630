package main

import (
	"path/filepath"
	"testing"
)

// Yesterday's database is put back, with the programs: the broker releases nothing
// on it, the owner's record has a gap, and the audit says what is missing.
func TestPutBack(t *testing.T) {
	p := newPrograms(t)
	suggested, stop := p.serve("-trust-simulated", sim)
	if out, status := p.sh("set -e\n" + script(suggested)); status != 0 {
		t.Fatalf("%d\n%s", status, out)
	}
	stop()
	state := filepath.Join(p.dir, "state", "teebroker", "simulated")
	db := filepath.Join(state, "broker.db")
	p.must("cp "+db+" yesterday.db", 0, "")
	suggested, stop = p.serve("-trust-simulated", sim)
	export, release := commands(suggested)
	const instance = " -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"
	p.must(export+"owner authorize -uses 2"+instance, 0, "OPEN")
	p.must(release, 0, "")
	p.must(export+"owner record", 0, "whole 8 entries")
	stop()
	p.must("cp "+db+" today.db && cp yesterday.db "+db, 0, "")

	suggested, stop = p.serve("-trust-simulated", sim)
	export, release = commands(suggested)
	p.must(release+" -timeout 2s", 2, "unavailable") // it asks again until then
	p.must(export+"owner authorize"+instance, 2, "unavailable")
	p.must(export+"owner record", 1, "has a gap: the broker signed entry 8, and does not show it")
	checkLog(t, p, stop())
	p.must("broker audit -simulated", 0, "whole 1 tenants")
	owner := filepath.Join(p.dir, "state", "teebroker", "owner")
	p.must("broker audit -simulated -checkpoints "+filepath.Join(state, "checkpoints")+","+owner, 1, "entry 8 of decisions of tenant default was seen, and is missing")

	p.must("cp today.db "+db, 0, "")
	suggested, stop = p.serve("-trust-simulated", sim)
	export, release = commands(suggested)
	p.must(release, 0, "")
	p.must(export+"owner record -after 8", 0, "whole 1 entries")
	stop()
	p.must("broker audit -simulated -checkpoints "+filepath.Join(state, "checkpoints")+","+owner, 0, "whole 1 tenants")
}
