package main

import (
	"path/filepath"
	"testing"
)

// A guest with state that its host can copy and put back, with the programs: a
// restored disk opens nothing until its owner recovers it, and then what ran
// before is given up.
func TestEpochs(t *testing.T) {
	p := newPrograms(t)
	suggested, stop := p.serve("-trust-simulated", sim)
	if out, status := p.sh("set -e\n" + script(suggested)); status != 0 {
		t.Fatalf("%d\n%s", status, out)
	}
	export, release := commands(suggested)
	const which = " -purpose vtpm -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"
	id := filepath.Join("state", "teebroker", "simulated", "broker.id")
	boot := func(dir, more string) string {
		return export + "owner authorize" + which + " && " + release + " -purpose vtpm -state " + dir + more
	}
	p.must("mkdir disk && head -c 32 /dev/urandom > first.key", 0, "")
	p.must(export+"owner wrap -epochs boot -initial -in first.key -out first.wrapped -identity "+id+which, 0, "CURRENT, epoch 1 of 1, mode boot")
	p.must(release+" -purpose vtpm", 1, "denied") // nothing is authorized
	p.must("echo one > one; echo two > two", 0, "")
	p.must(boot("disk", " -state-in one"), 0, "")
	p.must("cp -r disk yesterday", 0, "")
	p.must(boot("disk", " -out got && cmp got one"), 0, "")
	p.must(boot("disk", " -state-in two"), 0, "")
	p.must(export+"owner epoch"+which, 0, "CURRENT, epoch 4 of 4")
	p.must(boot("yesterday", ""), 2, "the disk does not have the state that the broker names")
	p.must(export+"owner hold"+which, 0, "HELD")
	p.must(boot("disk", ""), 1, "refused: held")
	p.must(export+"owner resume"+which, 0, "PENDING")
	p.must(boot("disk", " -out got && cmp got two"), 0, "")
	const all = " -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"
	p.must(export+"owner resume"+all, 2, "no purpose of this instance has epochs to resume")
	p.must(export+"owner wrap -epochs write -initial -purpose other -in first.key -out other.wrapped -identity "+id+all, 0, "CURRENT")
	p.must(export+"owner hold"+all+" | sort | tr -s '\\n ' ' '", 0, "other HELD, epoch 1 of 1, mode write vtpm HELD")
	p.must(export+"owner resume"+which, 0, "CURRENT")
	p.must(export+"owner resume -json"+all+" | tr -d ' \\n'", 0, `{"purposes":{"other":{"mode":"write","state":"CURRENT"`) // vtpm was
	p.must(export+"owner recover -epoch 1"+all, 2, "-purpose is needed, one of other, vtpm")
	p.must(export+"owner retire -purpose other"+all, 0, "RETIRED")
	p.must(export+"owner epoch"+all, 0, "other")
	p.must(export+"owner recover -epoch 99"+which, 1, "not-authorized")
	p.must(export+"owner recover -epoch 2"+all, 0, "CURRENT") // the only one that is not retired
	p.must(boot("disk", ""), 2, "the disk does not have")
	p.must(boot("yesterday", " -out got && cmp got one"), 0, "")
	p.must(export+"owner record", 0, "recover")
	p.must(export+"owner retire"+which, 0, "RETIRED")
	p.must(boot("yesterday", ""), 1, "refused: denied")
	checkLog(t, p, stop())
	p.must("broker audit -simulated", 0, "whole")
}
