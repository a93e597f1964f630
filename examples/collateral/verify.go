package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/examples/internal/cli"
)

func verifyCommand() cli.Command {
	return cli.Command{
		Name: "collateral verify", Args: "BUNDLE",
		About: `
Tell whether a bundle is signed by a key you know, and whether what is in it is genuine.

Genuine is what the vendors' roots stand behind: each certificate, list and
document is checked. When it ends tells inspect.

  collateral verify -keys site.pub site.bundle

A site that has had a bundle takes no earlier one:

  collateral verify -keys site.pub -since 1780272000 site.bundle

With -out what is genuine goes into a folder, for programs that read files. Files
that go along are in the folder files in it:

  collateral verify -keys site.pub -out /var/lib/collateral site.bundle

Such a folder knows the sequence of the bundle that filled it, and takes no earlier
one whatever -since says.`,
		Setup: setupVerify,
	}
}

// verdict is what verify prints.
type verdict struct {
	Path     string     `json:"path"`
	OK       bool       `json:"ok"`
	Reason   string     `json:"reason,omitempty"`
	Sequence uint64     `json:"sequence,omitempty"`
	Created  *time.Time `json:"created,omitempty"`
	Entries  int        `json:"entries"`
	Forged   []string   `json:"forged,omitempty"` // what no root stands behind, and why
	Files    []file     `json:"files,omitempty"`
}

func setupVerify(flags *flag.FlagSet) cli.Action {
	var keyPaths, roots cli.List
	flags.Var(&keyPaths, "keys", "files `PEM,…` with the public keys that may have signed it")
	flags.Var(&roots, "roots", "files `PEM,…` with the trust anchors to use instead of the vendors'")
	since := flags.Uint64("since", 0, "the answer is no for a sequence below this `NUMBER`")
	out := flags.String("out", "", "put what is genuine into the folder `DIR`, as fetch does")
	asJSON := flags.Bool("json", false, "print one JSON object")
	return func(args []string, stdout io.Writer) (bool, error) {
		if len(args) != 1 {
			return false, cli.Usagef("want one BUNDLE after the flags, got %d arguments", len(args))
		}
		keys, err := readKeys(keyPaths)
		if err != nil {
			return false, err
		}
		trusted, err := readAnchors(roots)
		if err != nil {
			return false, err
		}
		raw, err := cli.ReadFile(args[0], collateral.MaxBundle)
		if err != nil {
			return false, err
		}
		had, err := sequenceOf(*out)
		if err != nil {
			return false, err
		}
		v := &verdict{Path: args[0]}
		b, err := open(args[0], raw, max(*since, had), keys)
		switch {
		case isNo(err):
			v.Reason = err.Error()
		case err != nil:
			return false, err
		default:
			if err := v.judge(b, trusted, *out); err != nil {
				return false, err
			}
		}
		return v.OK, v.write(stdout, *asJSON)
	}
}

// judge looks at all that b has, and puts it into the folder out, unless that is "".
func (v *verdict) judge(b *collateral.Bundle, trusted anchors, out string) error {
	created := b.Created()
	v.Sequence, v.Created = b.Sequence(), &created
	v.Entries = len(b.Forecast())
	// In memory first: of what a folder has already, nothing in b is looked at.
	for _, dir := range slices.Compact([]string{"", out}) {
		if err := v.keep(b, trusted, dir); err != nil {
			return err
		}
	}
	for name, size := range b.Files() {
		v.Files = append(v.Files, file{name, size})
		content, _ := b.File(name)
		if err := checkFile(name, content); err != nil {
			v.note(fmt.Errorf("%s: %w", name, err))
		}
	}
	if v.OK = len(v.Forged) == 0; !v.OK {
		v.Reason = fmt.Sprintf("%d things in it are not genuine", len(v.Forged))
		return nil
	}
	return unpack(b, out)
}

// keep puts what of b is genuine into the folder dir, or in memory if that is "",
// and notes what is not.
func (v *verdict) keep(b *collateral.Bundle, trusted anchors, dir string) error {
	// A Cache keeps what is genuine, and reports what is not.
	cache, err := collateral.NewCache(collateral.CacheConfig{
		Upstream: b, AMD: trusted.amd, Intel: trusted.intel, Dir: dir, Report: v.note,
	})
	if err != nil {
		return err
	}
	defer cache.Close()
	for _, e := range b.Forecast() {
		_, err := cache.Get(context.Background(), e.Name)
		if errors.Is(err, collateral.ErrOlder) {
			v.note(fmt.Errorf("%s: %w", e.Name, err))
		}
	}
	return nil
}

// note adds what is not genuine, once.
func (v *verdict) note(err error) {
	if text := err.Error(); !slices.Contains(v.Forged, text) {
		v.Forged = append(v.Forged, text)
	}
}

// sequenceFile is where a folder has the sequence of the bundle that filled it.
const sequenceFile = "sequence"

// sequenceOf returns the sequence of the bundle that filled the folder out, or 0.
func sequenceOf(out string) (uint64, error) {
	if out == "" {
		return 0, nil
	}
	path := filepath.Join(out, sequenceFile)
	b, err := cli.ReadFile(path, 32)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: not a number", path)
	}
	return n, nil
}

// unpack writes the files of b into the folder files in out, unless that is "". The
// sequence is first: who is interrupted goes on with this bundle or a later one.
func unpack(b *collateral.Bundle, out string) error {
	if out == "" {
		return nil
	}
	if err := cli.WriteFile(filepath.Join(out, sequenceFile), fmt.Appendf(nil, "%d\n", b.Sequence()), 0o600); err != nil {
		return err
	}
	for name := range b.Files() {
		if filepath.Base(name) != name || strings.HasPrefix(name, ".") || !filepath.IsLocal(name) {
			return fmt.Errorf("%q can't be the name of a file", name)
		}
		content, _ := b.File(name)
		if err := os.MkdirAll(filepath.Join(out, "files"), 0o700); err != nil {
			return err
		}
		if err := cli.WriteFile(filepath.Join(out, "files", name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (v *verdict) write(w io.Writer, asJSON bool) error {
	if asJSON {
		return cli.WriteJSON(w, v)
	}
	page := cli.NewPage(w)
	if v.OK {
		page.Line(cli.Cell{Text: "yes", Style: cli.Good}, cli.Cell{Text: fmt.Sprintf("signed, and all of %d genuine", v.Entries)})
	} else {
		page.Line(cli.Cell{Text: "no", Style: cli.Bad}, cli.Cell{Text: v.Reason})
	}
	var rows [][]cli.Cell
	for _, f := range v.Forged {
		rows = append(rows, []cli.Cell{{Text: f, Style: cli.Bad}})
	}
	page.Table("Not genuine", rows)
	s := summary{Sequence: v.Sequence, Created: v.Created, Files: v.Files}
	s.print(page)
	_, err := page.WriteTo(w)
	return err
}
