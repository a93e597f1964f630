package brokerd

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/internal/filelock"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/keywrap"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

// files are where the parts of the state are.
type files struct {
	dir, db, keys, token, id, checkpoints string
}

// stateDir returns the state directory of this user, and makes it.
func stateDir(simulated bool) (string, error) {
	dir, err := cli.StateDir()
	if err != nil {
		return "", fmt.Errorf("%w, or -db, -attestation-key and -owner-token-file", err)
	}
	if simulated {
		dir = filepath.Join(dir, "simulated")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, nil
}

// files returns where everything is that o leaves open.
func (o Options) files() (files, error) {
	dir, err := stateDir(o.TrustSimulated != "")
	if err != nil {
		return files{}, err
	}
	f := files{
		dir: dir, db: filepath.Join(dir, "broker.db"), keys: filepath.Join(dir, "keys.json"),
		token: filepath.Join(dir, "owner.token"), id: filepath.Join(dir, "broker.id"),
	}
	if o.DB != "" {
		f.db = o.DB
	}
	if o.AttestationKey != "" && !strings.HasPrefix(o.AttestationKey, "pkcs11:") {
		f.keys = o.AttestationKey
	}
	if o.OwnerTokenFile != "" {
		f.token = o.OwnerTokenFile
	}
	if f.checkpoints = o.Checkpoints; f.checkpoints == "" {
		f.checkpoints = filepath.Join(filepath.Dir(f.keys), "checkpoints")
	}
	return f, nil
}

// keys returns the keys of the broker, which are made if there are none. A token
// holds the attestation key, and nothing else yet.
func (o Options) keys(ctx context.Context, f files, t tokens) (*keyfile.File, error) {
	k, err := keyfile.Read(f.keys)
	if err == nil && strings.HasPrefix(o.AttestationKey, "pkcs11:") && !slices.ContainsFunc(k.Entries(), inToken) {
		return nil, fmt.Errorf("-attestation-key: %s has keys already, and none in a token: add one with broker key add -in-token", f.keys)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if k, err = keyfile.New(); err != nil {
		return nil, err
	}
	now := time.Now()
	kid := "k" + now.UTC().Format("20060102")
	if strings.HasPrefix(o.AttestationKey, "pkcs11:") {
		if err = t.generate(ctx, o.AttestationKey); err == nil {
			err = k.AddToken(v1.DefaultTenant, kid, keywrap.MLKEM1024P384, o.AttestationKey, now)
		}
	} else {
		err = k.Add(v1.DefaultTenant, kid, keywrap.MLKEM1024P384, now)
	}
	if err == nil {
		err = k.AddRequest("r"+kid[1:], now)
	}
	if err != nil {
		return nil, err
	}
	if err := k.Create(f.keys); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return keyfile.Read(f.keys)
}

func inToken(e keyfile.Entry) bool { return e.Token != "" && !e.Retired }

// newToken returns a bearer token of 256 random bits.
func newToken() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ReadToken returns the token in a file that nobody else can read.
func ReadToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s: others may read it; chmod 600", path)
	}
	b, err := cli.ReadFile(path, 4<<10)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("%s: empty", path)
	}
	return token, nil
}

// ownerToken makes sure that the token in the file is one of the default tenant. One
// that was removed stays so: then it returns a warning.
func ownerToken(ctx context.Context, path string, d *database) (warning string, err error) {
	err = cli.CreateFile(path, []byte(newToken()+"\n"), 0o600)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	token, err := ReadToken(path)
	if err != nil {
		return "", err
	}
	digest := v1.TokenDigest(token)
	tenant, err := d.Tenant(ctx, digest)
	switch {
	case err == nil && tenant != v1.DefaultTenant:
		return "", fmt.Errorf("%s: a token of tenant %s, not of %s", path, tenant, v1.DefaultTenant)
	case err == nil || !errors.Is(err, store.NotFound):
		return "", err
	}
	removed, err := d.removed(ctx, digest)
	switch {
	case err != nil:
		return "", err
	case removed:
		return "the token in the owner's token file was removed, and is nobody's; delete the file to have a new one made", nil
	}
	return "", d.AddTenant(ctx, v1.DefaultTenant, digest)
}

// removed reports whether a token of the default tenant was removed, which the
// record knows for ever.
func (d *database) removed(ctx context.Context, token [32]byte) (bool, error) {
	for after := uint64(0); ; {
		es, err := d.Record(ctx, v1.DefaultTenant, teebroker.Decisions, after, 1000)
		if err != nil || len(es) == 0 {
			return false, err
		}
		for _, e := range es {
			var act store.Act
			if e.Kind != store.KindTokenEnd {
				continue
			}
			if err := strictjson.UnmarshalKnown(e.Body, &act); err != nil {
				return false, err
			}
			if act.Digest == token {
				return true, nil
			}
		}
		after = es[len(es)-1].Seq
	}
}

// writeID leaves the broker id where guests and owners can be given it from. It is
// no secret; who can write there can pass off another broker as this one.
func writeID(path string, id [32]byte) error {
	text, err := strictjson.Digest(id).MarshalJSON()
	if err != nil {
		return err
	}
	want := strings.Trim(string(text), `"`) + "\n"
	if b, err := os.ReadFile(path); err == nil && string(b) == want {
		return nil
	}
	return cli.WriteFile(path, []byte(want), 0o644)
}

// addKey makes an attestation key of tenant, unless it has one.
func (o Options) addKey(ctx context.Context, tenant string, f files, t tokens) error {
	unlock, err := filelock.Lock(f.keys)
	if err != nil {
		return err
	}
	defer unlock()
	k, err := keyfile.Read(f.keys)
	if err != nil {
		return err
	}
	set, err := k.Keys(t.opener(ctx))
	if err != nil {
		return err
	}
	if _, err := set.Published(ctx, tenant); err == nil {
		return nil
	}
	if err := k.Add(tenant, "k"+time.Now().UTC().Format("20060102"), keywrap.MLKEM1024P384, time.Now()); err != nil {
		return err
	}
	return k.Replace(f.keys)
}
