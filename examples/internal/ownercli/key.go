package ownercli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/cli"
)

const aboutKey = `
Make an owner key, unless the file is there, and say what instances call it.

An instance that is registered with -order-key takes orders of that key only: whoever
has the token, or writes to the broker's database, can stop it and nothing else. The
broker never has the key. Who loses it can't change the instance any more, so keep a
copy where nobody gets at it:

  owner key -order-key owner.key
  export TEEBROKER_ORDER_KEY_FILE=owner.key
  owner policy put -name production -in policy.json
  owner register -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -policy production

Another key takes its place by an order of it: owner policy put with the new key for
every policy, and then owner register -new-order-key.`

func keyCommand() cli.Command {
	return cli.Command{Name: "owner key", About: aboutKey, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s := &service{}
		fs.StringVar(&s.order, "order-key", "", "the key is in this `FILE`, PEM of mode 0600")
		fs.BoolVar(&s.json, "json", false, "print one JSON object")
		return func(args []string, stdout io.Writer) (bool, error) {
			if len(args) != 0 {
				return false, cli.Usagef("unexpected argument %q", args[0])
			}
			if err := missing("order-key", s.order); err != nil {
				return false, err
			}
			if err := makeOrderKey(s.order); err != nil {
				return false, err
			}
			key, err := readOrderKey(s.order)
			if err != nil {
				return false, err
			}
			id, err := teebroker.OrderKey(key)
			if err != nil {
				return false, err
			}
			text := base64.RawURLEncoding.EncodeToString(id[:])
			r := line("%s", text)
			r.json = map[string]string{"owner_key": text}
			return true, s.print(stdout, r)
		}
	}}
}

// makeOrderKey makes a key in a file unless there is one.
func makeOrderKey(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)
	if err := cli.CreateFile(path, text, 0o600); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil // somebody else's, which is as good
}

// readOrderKey returns the owner key in a file that is nobody else's to read.
func readOrderKey(path string) (*ecdsa.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: others can read it: chmod 600, and take another key if somebody may have", path)
	}
	text, err := cli.ReadFile(path, 16<<10)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, fmt.Errorf("%s: not the PEM of one private key, as owner key makes it", path)
	}
	defer clear(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: not a private key", path)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, fmt.Errorf("%s: not an ECDSA key on P-384", path)
	}
	return key, nil
}

// ownerKey returns how instances call the key of -order-key; zero without.
func ownerKey(path string) ([32]byte, error) {
	if path == "" {
		return [32]byte{}, nil
	}
	key, err := readOrderKey(path)
	if err != nil {
		return [32]byte{}, err
	}
	return teebroker.OrderKey(key)
}
