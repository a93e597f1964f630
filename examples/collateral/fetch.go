package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/kds"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/pcs"
)

func fetchCommand() cli.Command {
	return cli.Command{
		Name: "collateral fetch", Args: "[EVIDENCE…]",
		About: `
Fetch what is missing or due from AMD and Intel, into a folder.

What to fetch follows from EVIDENCE, which is verified along the way: the VCEK and
lists for a report of SEV-SNP, and for a quote of TDX all that its platform needs:

  collateral fetch -out /var/lib/collateral report.bin quote.bin

Or it is said: lists of AMD's lines, all that is for Intel's kinds of platforms,
VCEKs by name. What is in the folder is renewed when it is due, so that this may run
often, and a broker may use the folder at the same time:

  collateral fetch -out /var/lib/collateral -lines Milan,Genoa -fmspc 90c06f000000
  collateral fetch -out /var/lib/collateral

Nothing that is in the folder is ever replaced by what is older, or not genuine. The
answer is no if evidence is not genuine or a vendor does not have what was named.`,
		Setup: setupFetch,
	}
}

// fetching is the command line.
type fetching struct {
	out      string
	kds, pcs string
	update   string
	names    cli.List
	lines    []string // names that -lines stands for
	fmspcs   []string // likewise
	roots    cli.List
}

func setupFetch(fs *flag.FlagSet) cli.Action {
	var o fetching
	fs.StringVar(&o.out, "out", "", "keep what was fetched in the folder `DIR`")
	fs.StringVar(&o.kds, "kds", "", "ask the key server at `URL` (default "+kds.AMD+")")
	fs.StringVar(&o.pcs, "pcs", "", "ask the PCS or PCCS at `URL` (default "+pcs.Intel+")")
	fs.StringVar(&o.update, "update", "", "`SET` of TCB Info and QE identity to ask for: early or standard (default the service's)")
	fs.Func("lines", "fetch the lists of AMD's `LINE,…`: Milan, Genoa, Turin", o.addLines)
	fs.Func("fmspc", "fetch all that is for Intel's platforms of kind `HEX,…`", o.addPlatforms)
	fs.Var(&o.names, "names", "fetch what has the vendor's own `NAME,…`, such as /vcek/v1/Milan/…?blSPL=…")
	fs.Var(&o.roots, "roots", "files `PEM,…` with the trust anchors to use instead of the vendors'")
	return func(args []string, stdout io.Writer) (bool, error) {
		if o.out == "" {
			return false, cli.Usagef("-out is required")
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return o.fetch(ctx, args, stdout)
	}
}

func (o *fetching) addLines(arg string) error {
	var names cli.List
	if err := names.Set(arg); err != nil {
		return err
	}
	for _, name := range names {
		i := slices.IndexFunc([]snp.Line{snp.Milan, snp.Genoa, snp.Turin}, func(l snp.Line) bool { return l.String() == name })
		if i < 0 {
			return fmt.Errorf("no line %s", name)
		}
		line := snp.Milan + snp.Line(i)
		o.lines = append(o.lines, snp.CRLName(line, snp.VCEK), snp.CRLName(line, snp.VLEK))
	}
	return nil
}

func (o *fetching) addPlatforms(arg string) error {
	var fmspcs cli.List
	if err := fmspcs.Set(arg); err != nil {
		return err
	}
	o.fmspcs = append(o.fmspcs, tdx.RootCRLName(), tdx.PCKCRLName(tdx.PlatformCA), tdx.PCKCRLName(tdx.ProcessorCA), tdx.QEIdentityName())
	for _, text := range fmspcs {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(tdx.FMSPC{}) {
			return fmt.Errorf("%s is not 6 bytes in hexadecimal", text)
		}
		o.fmspcs = append(o.fmspcs, tdx.TCBInfoName(tdx.FMSPC(b)))
	}
	return nil
}

// services returns a Source that asks both vendors.
func (o *fetching) services() (evidence.Source, error) {
	amd, err := kds.New(kds.Config{BaseURL: o.kds})
	if err != nil {
		return nil, cli.Usagef("-kds: %w", err)
	}
	intel, err := pcs.New(pcs.Config{BaseURL: o.pcs, Update: pcs.Update(o.update)})
	if err != nil {
		return nil, cli.Usagef("-pcs, -update: %w", err)
	}
	return collateral.First(amd, intel), nil
}

// round is one run of fetch.
type round struct {
	cache   *collateral.Cache
	trusted anchors
	rows    [][]cli.Cell
	no      bool    // something is not to be had, or not genuine
	failed  []error // services out of reach, files that can't be written
}

func (o *fetching) fetch(ctx context.Context, files []string, stdout io.Writer) (bool, error) {
	upstream, err := o.services()
	if err != nil {
		return false, err
	}
	r := &round{}
	if r.trusted, err = readAnchors(o.roots); err != nil {
		return false, err
	}
	r.cache, err = collateral.NewCache(collateral.CacheConfig{
		Upstream: upstream, AMD: r.trusted.amd, Intel: r.trusted.intel, Dir: o.out,
		Report: func(err error) {
			r.rows = append(r.rows, []cli.Cell{{Text: "note", Style: cli.Warn}, {Text: err.Error()}})
		},
	})
	if err != nil {
		return false, err
	}
	defer r.cache.Close()
	if err := r.cache.Refresh(ctx); err != nil {
		r.failed = append(r.failed, err)
	}
	for _, name := range slices.Concat(o.lines, o.fmspcs, o.names) {
		r.get(ctx, name)
	}
	for _, file := range files {
		if err := r.verify(ctx, file); err != nil {
			return false, err
		}
	}
	if s := r.cache.Stats(); s.DirErrors > 0 {
		r.failed = append(r.failed, fmt.Errorf("%s: %d files could not be used or written", o.out, s.DirErrors))
	}
	return !r.no, r.write(stdout)
}

// get fetches what has name, unless it is there.
func (r *round) get(ctx context.Context, name string) {
	_, err := r.cache.Get(ctx, name)
	switch {
	case err == nil:
	case errors.Is(err, evidence.ErrNotFound):
		r.no = true
		r.rows = append(r.rows, []cli.Cell{{Text: "none", Style: cli.Bad}, {Text: name}})
	default:
		r.failed = append(r.failed, fmt.Errorf("%s: %w", name, err))
	}
}

// verify verifies the evidence in a file, which makes the Cache fetch what it needs.
func (r *round) verify(ctx context.Context, path string) error {
	raw, err := cli.ReadFile(path, maxFile)
	if err != nil {
		return err
	}
	v, format, err := r.verifier(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	_, err = v.Verify(ctx, evidence.Evidence{Format: format, Raw: raw}, evidence.UncheckedBindingUnsafe())
	switch {
	case err == nil:
		r.rows = append(r.rows, []cli.Cell{{Text: "yes", Style: cli.Good}, {Text: path + " is genuine, with what is in the folder"}})
	case errors.Is(err, evidence.Unavailable) && !errors.Is(err, evidence.ErrNotFound):
		r.failed = append(r.failed, fmt.Errorf("%s: %w", path, err))
	default:
		r.no = true
		r.rows = append(r.rows, []cli.Cell{{Text: "no", Style: cli.Bad}, {Text: fmt.Sprintf("%s: %v", path, err)}})
	}
	return nil
}

// verifier returns who verifies raw, by what it looks like.
func (r *round) verifier(raw []byte) (evidence.Verifier, evidence.Format, error) {
	if _, err := tdx.ParseQuote(raw); err == nil {
		v, err := tdx.NewVerifier(tdx.Config{Anchors: r.trusted.intel, Source: r.cache})
		return v, tdx.Format, err
	}
	if _, err := snp.ParseReport(raw); err != nil {
		return nil, "", errors.New("neither a report of SEV-SNP nor a quote of TDX")
	}
	v, err := snp.NewVerifier(snp.Config{Anchors: r.trusted.amd, Source: r.cache})
	return v, snp.Format, err
}

func (r *round) write(stdout io.Writer) error {
	s := &summary{}
	s.add(r.cache.Forecast(), time.Now(), 0)
	page := cli.NewPage(stdout)
	head, style := "done", cli.Good
	if r.no || r.failed != nil {
		head, style = "not all", cli.Bad
	}
	page.Line(cli.Cell{Text: head, Style: style}, cli.Cell{Text: fmt.Sprintf("%d in the folder, %d asked for", len(s.Entries), r.cache.Stats().Asked)})
	page.Table("What happened", r.rows)
	s.print(page)
	_, err := page.WriteTo(stdout)
	return errors.Join(append(r.failed, err)...)
}
