package main

import (
	"bytes"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/examples/internal/cli"
)

func inspectCommand() cli.Command {
	return cli.Command{
		Name: "collateral inspect", Args: "PATH",
		About: `
Tell what ends when, and fail if anything ends soon.

PATH is a folder or file with collateral, as verify -endorsements takes it, the
folder of a cache, or a bundle. What ends first is first; the answer is no if
anything ends within the time given, or when is not known:

  collateral inspect -within 14d /var/lib/collateral
  collateral inspect -keys site.pub -json site.bundle

It reads what things say of themselves. Whether they are genuine tells verify.`,
		Setup: setupInspect,
	}
}

// inspection is the command line.
type inspection struct {
	within span
	now    time.Time
	keys   cli.List
	json   bool
}

func setupInspect(fs *flag.FlagSet) cli.Action {
	o := inspection{within: span(14 * day), now: time.Now()}
	fs.Var(&o.within, "within", "the answer is no if anything ends within this `TIME`")
	fs.Func("at", "look ahead from this `TIME`, such as 2026-06-01T00:00:00Z (default now)", func(s string) (err error) {
		o.now, err = time.Parse(time.RFC3339, s)
		return err
	})
	fs.Var(&o.keys, "keys", "files `PEM,…` with the public keys that may have signed a bundle")
	fs.BoolVar(&o.json, "json", false, "print one JSON object")
	return func(args []string, stdout io.Writer) (bool, error) {
		if len(args) != 1 {
			return false, cli.Usagef("want one PATH after the flags, got %d arguments", len(args))
		}
		s, err := o.inspect(args[0])
		if err != nil {
			return false, err
		}
		return s.write(stdout, o.json)
	}
}

func (o *inspection) inspect(path string) (*summary, error) {
	s := &summary{Path: path}
	raw, is, err := bundleAt(path)
	switch {
	case err != nil:
		return nil, err
	case is:
		keys, err := readKeys(o.keys)
		if err != nil {
			return nil, err
		}
		b, err := open(path, raw, 0, keys)
		if err != nil {
			return nil, err
		}
		s.addBundle(b)
		s.add(b.Forecast(), o.now, o.within)
	default:
		files, err := collateral.Dir(path)
		if err != nil {
			return nil, err
		}
		for path, names := range files.All() {
			if len(names) == 0 {
				s.Ignored = append(s.Ignored, path)
			}
		}
		s.add(files.Forecast(), o.now, o.within)
	}
	if len(s.Entries) == 0 {
		return nil, fmt.Errorf("%s: no collateral", path)
	}
	return s, nil
}

// bundleAt returns the bundle that path is, or false if it looks like none.
func bundleAt(path string) ([]byte, bool, error) {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() {
		return nil, false, err
	}
	b, err := cli.ReadFile(path, collateral.MaxBundle)
	return b, bytes.HasPrefix(b, []byte("eyJ")), err // a header of JSON in base64url
}

// open opens a bundle, of which there must be a key.
func open(path string, raw []byte, since uint64, keys []crypto.PublicKey) (*collateral.Bundle, error) {
	if len(keys) == 0 {
		return nil, cli.Usagef("%s is a bundle: -keys is required", path)
	}
	b, err := collateral.OpenBundleSince(raw, since, keys...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// isNo reports whether err says that a bundle is not to be used, and not that it
// can't be read.
func isNo(err error) bool {
	return errors.Is(err, collateral.ErrUnsigned) || errors.Is(err, collateral.ErrRollback)
}
