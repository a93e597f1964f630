package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
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

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/teebroker/teebroker/provision"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
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

// runsTPM boots a guest twice that goes on with its TPM, which is the one that its owner
// was told of, and remembers how often it started.
func (p *programs) runsTPM(authorize, unlock string) {
	p.Helper()
	var about provision.About
	if err := json.Unmarshal(p.read("guest/provisioned.json"), &about); err != nil {
		p.Fatal(err)
	}
	var resets [2]uint32
	for i := range resets {
		p.must(authorize, 0, "")
		socket := filepath.Join(p.dir, fmt.Sprintf("tpm%d", i))
		cmd := exec.CommandContext(p.Context(), "sh", "-c", unlock+" -json -tpm "+socket)
		cmd.Dir, cmd.Env = p.dir, p.env
		out, err := cmd.StdoutPipe()
		if err != nil {
			p.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			p.Fatal(err)
		}
		var told map[string]any
		if err := json.NewDecoder(out).Decode(&told); err != nil || told["agent"] != about.Agent {
			p.Errorf("%v, %v", told, err)
		}
		resets[i] = p.speaks(socket, about)
		if err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil {
			p.Errorf("the guest that ran the TPM: %v", err)
		}
	}
	if resets[1] <= resets[0] {
		p.Errorf("%d resets, and then %d", resets[0], resets[1])
	}
}

// speaks speaks to the TPM at a socket, and returns how often it started.
func (p *programs) speaks(socket string, about provision.About) uint32 {
	p.Helper()
	tpm, err := linuxudstpm.Open(socket)
	if err != nil {
		p.Fatal(err)
	}
	defer tpm.Close()
	d, err := vtpmtest.Over(tpm, vtpmtest.ECC)
	if err != nil || !bytes.Equal(d.EK(), about.EK) {
		p.Fatalf("EK: %v", err)
	}
	clock, err := tpm2.ReadClock{}.Execute(tpm)
	if err != nil {
		p.Fatal(err)
	}
	return clock.CurrentTime.ClockInfo.ResetCount
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
	p.runsTPM(strings.TrimSuffix(start, " && "), export+"exec "+unlock+" -measure 9=kernel")
	p.must("cp -r guest yesterday && "+start+unlock+" -measure 9=kernel", 0, "")
	p.must(strings.Replace(start+unlock, "-state guest", "-state yesterday", 1)+" -measure 9=kernel", 2, "does not have the state")
	p.must("cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file pass guest/disk.luks", 0, "")
	p.must(start+unlock+" -measure 9=kernel", 1, "its header is another")
	checkLog(t, p, stop())
}
