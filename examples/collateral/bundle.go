package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp"
)

func bundleCommand() cli.Command {
	return cli.Command{
		Name: "collateral bundle", Args: "PATH…",
		About: `
Pack what is under PATH into one signed file, for a site without a network.

PATH are folders and files as inspect takes them. The key is of ECDSA on P-384;
the site gets its public half by a way that it trusts:

  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out site.key
  openssl pkey -in site.key -pubout -out site.pub
  collateral bundle -key site.key -out site.bundle /var/lib/collateral

Other documents go along by name, such as trust anchors of Arm CCA and TCB floors:

  collateral bundle -key site.key -out site.bundle \
      -file cca-anchors.json=anchors.json -file tcb-floors.json=floors.json DIR

Each bundle has a sequence higher than the one before: if none is given, the time
in seconds.`,
		Setup: setupBundle,
	}
}

// packing is the command line.
type packing struct {
	key, out string
	sequence uint64
	files    map[string][]byte
}

func setupBundle(fs *flag.FlagSet) cli.Action {
	o := packing{files: map[string][]byte{}}
	fs.StringVar(&o.key, "key", "", "sign with the private key in the file `PEM`")
	fs.StringVar(&o.out, "out", "", "write the bundle to `FILE`")
	fs.Uint64Var(&o.sequence, "sequence", 0, "`NUMBER` of the bundle (default seconds since 1970)")
	fs.Func("file", "`NAME=PATH` of a document to go along; may be given again", o.addFile)
	return func(args []string, stdout io.Writer) (bool, error) {
		if o.key == "" || o.out == "" {
			return false, cli.Usagef("-key and -out are required")
		}
		if len(args) == 0 && len(o.files) == 0 {
			return false, cli.Usagef("nothing to pack: no PATH after the flags")
		}
		return true, o.pack(args, stdout)
	}
}

// addFile reads a file that is to go along.
func (o *packing) addFile(arg string) error {
	name, path, ok := strings.Cut(arg, "=")
	if _, again := o.files[name]; !ok || again {
		return errors.New("not NAME=PATH, or a name that is taken")
	}
	b, err := cli.ReadFile(path, maxFile)
	if err == nil {
		err = checkFile(name, b)
	}
	o.files[name] = b
	return err
}

// checkFile parses the files that verifiers know by name.
func checkFile(name string, b []byte) (err error) {
	switch name {
	case collateral.CCAAnchorsFile:
		_, err = cca.ParseAnchors(b)
	case collateral.TCBFloorsFile:
		_, err = snp.DecodeTCBFloors(b)
	}
	return err
}

func (o *packing) pack(paths []string, stdout io.Writer) error {
	signer, err := readSigner(o.key)
	if err != nil {
		return err
	}
	files, err := collateral.Dir(paths...)
	if err != nil {
		return err
	}
	now := time.Now()
	c := collateral.Contents{Sequence: o.sequence, Created: now, Collateral: files.Fixed(), Files: o.files}
	if c.Sequence == 0 {
		c.Sequence = uint64(now.Unix())
	}
	b, err := collateral.MakeBundle(signer, c)
	if err != nil {
		return err
	}
	opened, err := collateral.OpenBundle(b, signer.Public())
	if err != nil {
		return fmt.Errorf("the bundle does not open: %w", err)
	}
	if err := cli.WriteFile(o.out, b, 0o644); err != nil {
		return err
	}
	s := &summary{Path: o.out}
	s.addBundle(opened)
	s.add(opened.Forecast(), now, 0)
	for path, names := range files.All() {
		if len(names) == 0 {
			s.Ignored = append(s.Ignored, path)
		}
	}
	page := cli.NewPage(stdout)
	page.Line(cli.Cell{Text: "done", Style: cli.Good}, cli.Cell{Text: fmt.Sprintf("%s has %d bytes", o.out, len(b))})
	s.print(page)
	_, err = page.WriteTo(stdout)
	return err
}
