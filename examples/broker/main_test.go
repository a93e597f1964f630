package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bin has the three programs, and sim a simulated platform, whose keys take seconds
// to make: once for all tests.
var bin, sim string

func TestMain(m *testing.M) { os.Exit(withPrograms(m.Run)) }

// withPrograms builds the programs as a user would.
func withPrograms(run func() int) int {
	dir, err := os.MkdirTemp("", "broker-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	bin, sim = filepath.Join(dir, "bin"), filepath.Join(dir, "sim")
	if out, err := exec.Command("go", "build", "-o", bin+"/", ".", "../owner", "../attester").CombinedOutput(); err != nil {
		panic(string(out))
	}
	if out, err := exec.Command(filepath.Join(bin, "attester"), "show", "-tee", "snp", "-simulate", sim).CombinedOutput(); err != nil {
		panic(string(out))
	}
	return run()
}

// programs are the programs and a user with nothing yet.
type programs struct {
	*testing.T
	dir string
	env []string
}

func newPrograms(t *testing.T) *programs {
	p := &programs{T: t, dir: t.TempDir()}
	p.env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(p.dir, "state"), "PATH="+bin+":"+os.Getenv("PATH"))
	return p
}

// sh runs a command line and returns what it printed and its exit status.
func (p *programs) sh(line string) (string, int) {
	p.Helper()
	cmd := exec.CommandContext(p.Context(), "sh", "-c", line)
	cmd.Dir, cmd.Env = p.dir, p.env
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		p.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (p *programs) must(line string, status int, holds string) {
	p.Helper()
	if out, got := p.sh(line); got != status || !strings.Contains(out, holds) {
		p.Fatalf("%s\nexit status %d, want %d and %q in\n%s", line, got, status, holds, out)
	}
}

// serve starts broker serve, waits for what it suggests, and returns it and what
// stops the broker and returns its log.
func (p *programs) serve(args ...string) (suggested string, stop func() string) {
	p.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "broker"), append([]string{"serve", "-listen", "127.0.0.1:0"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var log bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stderr = p.dir, p.env, &log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		p.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	stopped := false
	stop = func() string {
		if !stopped {
			stopped = true
			cancel()
			_ = cmd.Wait() // it was told to stop
			if !cmd.ProcessState.Success() {
				p.Errorf("broker: %v\n%s", cmd.ProcessState, log.String())
			}
		}
		return log.String()
	}
	p.Cleanup(func() { stop() })
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		suggested += lines.Text() + "\n"
		if strings.Contains(lines.Text(), "sha256sum") {
			return suggested, stop
		}
	}
	p.Fatalf("broker serve ended:\n%s\n%s", suggested, stop())
	return "", nil
}

// script returns the suggested commands, without what they explain.
func script(suggested string) string {
	var b strings.Builder
	for line := range strings.Lines(suggested) {
		if strings.HasPrefix(line, "  ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// commands returns of the suggested ones what an owner exports, to be followed by a
// command, and the release.
func commands(suggested string) (export, release string) {
	for line := range strings.Lines(strings.ReplaceAll(script(suggested), "\\\n", "")) {
		switch {
		case strings.Contains(line, "export"):
			export = strings.TrimSpace(line) + "; "
		case strings.Contains(line, "release"):
			release = strings.TrimSpace(line)
		}
	}
	return export, release
}

// What a new user does: start the broker, and type what it suggests. It ends in the
// secret, for one guest key, once, and the record is whole.
func TestTwoTerminals(t *testing.T) {
	p := newPrograms(t)
	suggested, stop := p.serve("-trust-simulated", sim)
	out, status := p.sh("set -e\n" + script(suggested))
	if status != 0 {
		t.Fatalf("%d\n%s", status, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	given, got := lines[len(lines)-1], lines[len(lines)-2] // sha256sum, and what the attester printed
	if sum, _, _ := strings.Cut(given, " "); len(sum) != 64 || !strings.HasPrefix(got, sum) {
		t.Fatalf("not the secret:\n%s", out)
	}
	export, release := commands(suggested)
	const instance = " -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"
	p.must(release, 1, "refused: denied") // another guest has another key
	p.must(export+"owner status"+instance, 0, "1 of 1 used")
	p.must(export+"owner record -chain refusals", 0, "other-key")
	p.must(export+"owner hold -purpose disk"+instance, 1, "no-instance") // it has no epochs
	p.must(export+"owner status -tenant acme"+instance, 1, "forbidden")
	p.must(export+"owner policy explain -name first -in guest.json", 0, "0 verdicts would change of 1")
	p.must(`sed 's/"allow_smt": true/"allow_smt": false/' guest.json > strict.json; `+export+"owner policy explain -name first -in strict.json", 1, "1 verdicts would change")

	// A wrapped secret, presented by the guest; and wrapped anew.
	id := filepath.Join("state", "teebroker", "simulated", "broker.id")
	p.must(export+"owner wrap -purpose disk -in secret.bin -out key.wrapped -keep -identity "+id+instance, 0, "registered")
	p.must(export+"owner authorize -uses 2"+instance, 0, "OPEN")
	p.must(release+" -wrapped key.wrapped -out got.bin && cmp got.bin secret.bin", 0, "")
	p.must(export+"owner rewrap", 0, "1 blobs")
	p.must(export+"owner authorize"+instance, 0, "OPEN")
	p.must(release+" -wrapped key.wrapped", 1, "denied") // not the registered one any more
	p.must(release+" -out got.bin && cmp got.bin secret.bin", 0, "")

	// Another tenant, without a restart.
	p.must("broker tenant add -simulated -name acme -token-file acme.token && broker tenant list -simulated", 0, "acme\ndefault\n")
	p.must(export+"owner status -tenant acme -token-file acme.token"+instance, 1, "no-instance")
	p.must("broker tenant remove -simulated -token-file acme.token && "+export+"owner policy get -tenant acme -token-file acme.token", 1, "unauthenticated")

	log := stop()
	checkLog(t, p, log)
	p.must("broker audit -simulated", 0, "whole")
	p.must(export+"owner status"+instance, 2, "can't be reached")
	// What was released stays released, and a restart makes no new keys.
	if again, _ := p.serve("-trust-simulated", sim); !strings.Contains(again, "attester release") {
		t.Error(again)
	}
	p.must("broker serve -listen 127.0.0.1:0 -db state/teebroker/simulated/broker.db -attestation-key state/teebroker/simulated/keys.json", 2, "marked otherwise, for ever")
}

// checkLog holds the log to be JSON without a token, key or secret in it.
func checkLog(t *testing.T, p *programs, log string) {
	t.Helper()
	for line := range strings.Lines(log) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	state := filepath.Join(p.dir, "state", "teebroker", "simulated")
	for _, name := range []string{"owner.token", "keys.json", "broker.db"} {
		path := filepath.Join(state, name)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	token, err := os.ReadFile(filepath.Join(state, "owner.token"))
	if err != nil || strings.Contains(log, strings.TrimSpace(string(token))) {
		t.Errorf("the token is in the log, or nowhere: %v", err)
	}
}

// The audit finds what was done to a record by hand.
func TestAuditFinds(t *testing.T) {
	p := newPrograms(t)
	suggested, stop := p.serve("-trust-simulated", sim)
	if out, status := p.sh("set -e\n" + script(suggested)); status != 0 {
		t.Fatal(out)
	}
	_, release := commands(suggested)
	p.must(release, 1, "refused: denied") // which is in a chain of its own
	stop()
	db := filepath.Join(p.dir, "state", "teebroker", "simulated", "broker.db")
	for i, tt := range []struct{ sql, want string }{
		{"UPDATE entries SET body = CAST(replace(CAST(body AS TEXT), 'disk', 'dusk') AS BLOB) WHERE kind = 'release'", "was changed"},
		{"DELETE FROM entries WHERE seq = 3", "follows entry 2"},
		{"DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)", "its head says"},
		{"DELETE FROM releases", "there is no release"},
		{"UPDATE authorizations SET used = 0", "than they count"},
	} {
		copied := filepath.Join(p.dir, fmt.Sprintf("copy-%d.db", i))
		edit(t, db, copied, tt.sql)
		p.must("broker audit -simulated -db "+copied, 1, tt.want)
	}
	p.must("broker audit -simulated -json", 0, `"ok": true`)
	kept := " -checkpoints " + filepath.Join(p.dir, "state", "teebroker", "simulated", "checkpoints")
	p.must("broker audit -simulated"+kept, 0, "4 checkpoints and 0 receipts are in it") // two chains, here and in the database
	cut := filepath.Join(p.dir, "cut.db")
	edit(t, db, cut, "DELETE FROM entries WHERE chain = 'refusals'; DELETE FROM heads WHERE chain = 'refusals'; DELETE FROM checkpoints WHERE chain = 'refusals'")
	p.must("broker audit -simulated -db "+cut, 0, "whole")
	p.must("broker audit -simulated -db "+cut+kept, 1, "of refusals of tenant default was seen, and is missing")
	p.must("broker audit -simulated -checkpoints "+p.dir, 2, "nothing there that could be meant")
	p.must("broker audit -simulated -checkpoints guest.json", 2, "not a file of checkpoints to use")
	p.must("broker audit -simulated -receipts guest.json", 1, "not a receipt of this broker")
	p.must("broker audit -simulated -db none.db", 2, "-db")
	p.must("broker audit -db "+db, 2, "broker.id")
}

func TestRefusesToServe(t *testing.T) {
	p := newPrograms(t)
	if err := os.WriteFile(filepath.Join(p.dir, "open.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, want string }{
		{"-require-hsm", "-require-hsm"},
		{"-listen :0", "without -tls-cert"},
		{"-listen 0.0.0.0:0", "without -tls-cert"},
		{"-tls-cert x", "go together"},
		{"-allow-sample-evidence-unsafe", "only together with -trust-simulated"},
		{"-attestation-key open.json", "key file"},
		{"-policy /dev", "no policies"},
		{"-policy none", "-policy"},
		{"-collateral none", "-collateral"},
		{"-trust-simulated open.json", "-trust-simulated"},
		{"extra", "unexpected argument"},
		{"-owner-token-file open.json", "others may read it"},
	} {
		p.must("broker serve -listen 127.0.0.1:0 "+tt.args, 2, tt.want)
	}
	p.must("TEEBROKER_REQUIRE_HSM=true broker serve -listen 127.0.0.1:0", 2, "-require-hsm")
	p.must("broker version", 0, "teebroker")
	p.must("broker serve -h", 0, "two terminals")
}
