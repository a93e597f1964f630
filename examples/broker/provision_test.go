package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// needs skips a test without programs that CI has.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil && os.Getenv("CI") == "" {
			t.Skipf("SKIPPED, NOT PASSED: no %s: %v", name, err)
		}
	}
}

var brokerURL = regexp.MustCompile(`TEEBROKER_URL=(http://[^ ;]+)`)

// unreliable is what is before a broker, for whose answers to the first two
// registrations of epochs nobody waits: the first does not even get there.
func unreliable(t *testing.T, broker string) string {
	t.Helper()
	to, err := url.Parse(broker)
	if err != nil {
		t.Fatal(err)
	}
	pass, begun := httputil.NewSingleHostReverseProxy(to), 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/epochs/") {
			if begun++; begun == 2 {
				pass.ServeHTTP(httptest.NewRecorder(), r)
			}
			panic(http.ErrAbortHandler)
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// An owner makes the vTPM of a guest and its disk; the guest that attests gets into them,
// boot after boot, and nobody else does: not after another boot, not with another disk, not
// with the directory of another guest.
func TestProvision(t *testing.T) {
	needs(t, "swtpm", "cryptsetup")
	p := newPrograms(t)
	suggested, stop := p.serve("-trust-simulated", sim)
	if out, status := p.sh("set -e\n" + script(suggested)); status != 0 {
		t.Fatalf("%d\n%s", status, out)
	}
	var export, release string
	for line := range strings.Lines(strings.ReplaceAll(script(suggested), "\\\n", "")) {
		switch {
		case strings.Contains(line, "export"):
			export = strings.TrimSpace(line) + "; "
		case strings.Contains(line, "release"):
			release = strings.TrimSpace(line)
		}
	}
	const id = "7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"
	const which = " -instance " + id + " -identity state/teebroker/simulated/broker.id"
	kernel := []byte("what is booted\n")
	if err := os.WriteFile(filepath.Join(p.dir, "kernel"), kernel, 0o644); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(kernel)
	pcr := sha256.Sum256(append(make([]byte, 32), sum[:]...))
	made := export + "owner provision -ek ecc -new-image 5M -out guest" + which
	p.must(made, 2, "-pcr is required")
	p.must(strings.ReplaceAll(made, id, strings.Replace(id, "7d", "8d", 1))+" -allow-any-boot", 1, "no-instance")
	made += fmt.Sprintf(" -pcr 9=%x", pcr)
	p.must(made+" -identity kernel", 2, "not a broker id")
	p.must("ls -A | grep -c provision", 1, "0") // nothing half made
	flaky := unreliable(t, brokerURL.FindStringSubmatch(export)[1])
	p.must(made+" -broker "+flaky, 2, "guest is whole, and not registered; call this again") // it did not get there
	p.must("cp guest/wrapped.json first.json", 0, "")
	p.must(made+" -broker "+flaky, 2, "guest is whole, and not registered; call this again") // or the answer was lost
	p.must(made+" && cmp first.json guest/wrapped.json", 0, "CURRENT, epoch 1, mode boot")
	p.must(made, 0, "CURRENT, epoch 1, mode boot") // again: it is there, and registered
	p.must(strings.Replace(made, "-out guest", "-out other", 1), 2, "of another directory")

	start := export + "owner authorize -purpose vtpm -instance " + id + " && "
	unlock := strings.Replace(strings.ReplaceAll(release, "-purpose disk", ""), "attester release", "attester unlock", 1) + " -state guest"
	p.must(start+unlock+" -measure 9=kernel -image kernel", 1, "not the disk of this guest")
	p.must(export+"owner epoch -purpose vtpm -instance "+id, 0, "PENDING") // a wrong disk confirms nothing
	p.must(start+unlock+" -measure 9=kernel -proof-pcr 15 -out pass", 0, "the passphrase opens guest/disk.luks")
	p.must("cryptsetup open --test-passphrase --key-file pass guest/disk.luks", 0, "")
	p.must(start+unlock+" -measure 9=pass", 1, "for what was booted")
	p.must(start+unlock, 1, "for what was booted")
	p.must(start+unlock+" -measure 9=kernel -json", 0, `"disk": "tried"`)
	p.must("cp -r guest yesterday && "+start+unlock+" -measure 9=kernel", 0, "")
	p.must(strings.Replace(start+unlock, "-state guest", "-state yesterday", 1)+" -measure 9=kernel", 2, "does not have the state")
	p.must("cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file pass guest/disk.luks", 0, "")
	p.must(start+unlock+" -measure 9=kernel", 1, "its header is another")
	checkLog(t, p, stop())
}
