package main

import (
	"strings"
	"testing"
)

// An instance with an owner key, with the programs: the token alone gives nothing of
// it, with the key everything is as before, and another key takes its place.
func TestOrders(t *testing.T) {
	p := newPrograms(t)
	suggested, stop := p.serve("-trust-simulated", sim)
	var export, release, put, register string
	for line := range strings.Lines(strings.ReplaceAll(script(suggested), "\\\n", "")) {
		switch {
		case strings.Contains(line, "export"):
			export = strings.TrimSpace(line) + "; "
		case strings.Contains(line, "attester release"):
			release = strings.TrimSpace(line)
		case strings.Contains(line, "policy put"):
			put = strings.TrimSpace(line)
		case strings.Contains(line, "owner register"):
			register = strings.TrimSpace(line)
		}
	}
	if out, status := p.sh("set -e\n" + script(suggested)); status != 0 {
		t.Fatalf("%d\n%s", status, out)
	}
	const all = " -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"
	const disk = all + " -purpose disk"
	const key, next = " -order-key owner.key", " -order-key next.key"
	p.must("owner key -order-key owner.key && ls -l owner.key && owner key -order-key next.key", 0, "-rw-------")
	p.must(export+"owner status"+all, 0, "none: the token is enough")
	p.must(export+register+key, 1, "is not ordered by the owner key")
	p.must(export+put+key, 0, "stored")
	p.must(export+register+key, 0, "generation")
	p.must(export+"owner status"+all+" | grep -F \"$(owner key -order-key owner.key)\"", 0, "owner key")
	p.must(export+"owner policy get -name first | sed 's/\"version\": *\"[^\"]*\"/\"version\": \"changed\"/' > changed.json && grep changed changed.json", 0, "")
	for _, act := range []string{
		register, "owner policy put -name first -in changed.json", "owner authorize" + disk, "owner secret put -in guest.json" + disk,
	} {
		p.must(export+act, 1, "-order-key FILE")
	}
	p.must(release, 1, "denied") // the registration ended what was authorized
	p.must(export+"owner authorize"+next+disk, 2, "has another owner key, or none")
	p.must(export+"head -c 32 /dev/urandom > s && owner secret put -in s"+disk+key+" && owner authorize"+disk+key, 0, "")
	p.must(release+" -out got && cmp got s", 0, "")
	p.must("chmod 640 owner.key && "+export+"owner authorize"+disk+key, 2, "others can read it")
	p.must("chmod 600 owner.key && "+export+put+next, 0, "stored")
	p.must(export+register+key+" -new-order-key next.key", 0, "generation")
	p.must(export+"owner authorize"+disk+key, 2, "has another owner key, or none")
	p.must(export+"owner authorize"+disk+next, 0, "")
	p.must(release+" -out got && cmp got s", 0, "")
	checkLog(t, p, stop())
	p.must("broker audit -simulated", 0, "whole")
}
