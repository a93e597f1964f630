package brokerd

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func base64URL(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// commands returns how the other programs are started: as this one was.
func commands() string {
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, "go-build") {
		return "go run ./examples/"
	}
	return ""
}

// exampleInstance is the instance of the suggestions.
const exampleInstance = "7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"

// suggest returns the commands that end in the secret.
func (o Options) suggest(f files, url string) string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("Serving at %s; the state is in %s.", url, f.dir)
	if o.TrustSimulated == "" {
		line("\nIt trusts genuine hardware only. To try it without any, stop it and start:\n\n  %sbroker serve -trust-simulated sim", o.Commands)
	}
	line("\nIn another terminal, as owner of the tenant \"default\":\n")
	line("  export TEEBROKER_URL=%s TEEBROKER_OWNER_TOKEN_FILE=%s TEEBROKER_IDENTITY_FILE=%s", quote(url), quote(f.token), quote(f.id))
	simulate := "-tee snp"
	if o.TrustSimulated != "" {
		simulate += " -simulate " + quote(absolute(o.TrustSimulated))
		line("  %sattester show %s -instance %s > guest.json", o.Commands, simulate, exampleInstance)
		line("  %sowner policy put -name first -in guest.json", o.Commands)
	} else {
		line("  %sowner policy put -name first -in POLICY.json    # docs/policy.md", o.Commands)
	}
	line("  %sowner register -instance %s -policy first", o.Commands, exampleInstance)
	line("  head -c 32 /dev/urandom > secret.bin")
	line("  %sowner secret put -instance %s -purpose disk -in secret.bin", o.Commands, exampleInstance)
	line("  %sowner authorize -instance %s -purpose disk", o.Commands, exampleInstance)
	line("\nand then, as the guest, which gets the secret once:\n")
	line("  %sattester release %s -broker %s -tenant default -instance %s -purpose disk \\", o.Commands, simulate, quote(url), exampleInstance)
	line("    -identity %s", quote(f.id))
	line("  sha256sum secret.bin")
	return b.String()
}

func absolute(path string) string {
	if p, err := filepath.Abs(path); err == nil {
		return p
	}
	return path
}

// quote quotes s for a shell if it has to be.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._:-[]") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
