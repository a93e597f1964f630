package ownercli

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/owner"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/provision"
	"github.com/teebroker/teebroker/store"
)

const aboutProvision = `
Make the vTPM of an instance, with what it unseals, and register its state key.

A new TPM (swtpm) seals a passphrase for boots that leave the PCRs -pcr as given. Its
state is sealed under a new key, which is wrapped to the broker's attestation key and
begins the epochs of the purpose. The directory -out goes with the guest's disk; nothing in it opens without a
release. The guest undoes it with attester unlock:

  owner provision -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -identity broker.id \
    -pcr 7=65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e234eb3068 \
    -new-image 8G -out guest

-image names a LUKS2 disk that you have, which -passphrase opens (cryptsetup). With neither, the
passphrase is for what the guest makes of it. Whatever interrupts it: call it again in the
same way, and it goes on with what is there.`

// provisioning is one call of owner provision.
type provisioning struct {
	*service
	instanceFlag
	cfg                    provision.Config
	out, identity          string
	passphrase, mode, kind string
}

func provisionCommand() cli.Command {
	return cli.Command{Name: "owner provision", About: aboutProvision, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		p := &provisioning{service: serviceFlags(fs)}
		p.register(fs)
		fs.StringVar(&p.out, "out", "", "make the directory `DIR`")
		fs.StringVar(&p.identity, "identity", "", "the broker id is in this `FILE`")
		fs.StringVar(&p.cfg.Purpose, "purpose", "vtpm", "`NAME` of the secret that is the state key")
		fs.StringVar(&p.mode, "epochs", "boot", "`MODE` of the purpose: boot or write")
		fs.Func("pcr", "seal to this PCR of SHA-256, `INDEX=HEX`; may be given again", p.setPCR)
		fs.BoolVar(&p.cfg.AllowAnyBoot, "allow-any-boot", false, "seal to no PCR: whatever is booted after the launch measurement gets the passphrase")
		fs.StringVar(&p.kind, "ek", "rsa", "endorsement key: `KIND` rsa (2048) or ecc (P-256)")
		fs.StringVar(&p.cfg.Image, "image", "", "the disk is this `FILE` with LUKS2, which is not changed")
		fs.Func("new-image", "make a disk of `SIZE` bytes, or with K, M or G, in -out", p.setSize)
		fs.StringVar(&p.passphrase, "passphrase", "", "the passphrase is in this `FILE`, byte for byte (default a new one that nobody sees)")
		return p.command(p.run)
	}}
}

func (p *provisioning) setPCR(s string) error {
	index, text, ok := strings.Cut(s, "=")
	n, err1 := strconv.Atoi(index)
	b, err2 := hex.DecodeString(strings.ToLower(text))
	if !ok || err1 != nil || err2 != nil || len(b) != 32 {
		return errors.New("want INDEX=HEX, with 32 bytes in hexadecimal")
	}
	p.cfg.PCRs = append(p.cfg.PCRs, provision.PCR{Index: n, Value: [32]byte(b)})
	return nil
}

func (p *provisioning) setSize(s string) error {
	shift := map[byte]int{'K': 10, 'M': 20, 'G': 30}
	digits, by := s, 0
	if s != "" && shift[s[len(s)-1]] != 0 {
		digits, by = s[:len(s)-1], shift[s[len(s)-1]]
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > 1<<(62-by) {
		return errors.New("want a number of bytes, such as 8G")
	}
	p.cfg.NewImage = n << by
	return nil
}

func (p *provisioning) check() error {
	switch {
	case p.kind != "rsa" && p.kind != "ecc":
		return cli.Usagef("-ek has to be rsa or ecc")
	case p.mode != "boot" && p.mode != "write":
		return cli.Usagef("-epochs has to be boot or write")
	case len(p.cfg.PCRs) == 0 && !p.cfg.AllowAnyBoot:
		return cli.Usagef("-pcr is required, or -allow-any-boot")
	case p.cfg.Image != "" && p.passphrase == "":
		return cli.Usagef("-image needs -passphrase")
	}
	return missing("instance", p.text(), "out", p.out, "identity", p.identity)
}

func (p *provisioning) run(ctx context.Context, c *v1.Client) (result, error) {
	if err := p.check(); err != nil {
		return result{}, err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	p.cfg.Tenant, p.cfg.Instance, p.cfg.ECC, p.cfg.Progress = p.tenant, p.id, p.kind == "ecc", cli.Progress()
	if p.passphrase != "" {
		b, err := readSecret(p.passphrase, provision.MaxPassphrase)
		if err != nil {
			return result{}, err
		}
		defer clear(b)
		p.cfg.Passphrase = b
	}
	// Whether there is an instance, before the long work.
	if _, err := c.Instance(ctx, p.id); err != nil {
		return result{}, err
	}
	w, about, err := p.load(ctx, c)
	if err != nil {
		return result{}, err
	}
	status, err := p.begin(ctx, c, w)
	if err != nil {
		return result{}, fmt.Errorf("%s is whole, and not registered; call this again: %w", p.out, err)
	}
	return provisioned(p.out, about, status), nil
}

// load returns what is in -out, which it makes unless an earlier call did.
func (p *provisioning) load(ctx context.Context, c *v1.Client) (keywrap.Wrapped, provision.About, error) {
	if _, err := os.Lstat(p.out); err == nil {
		p.cfg.Progress("going on with " + p.out)
		return provision.Load(p.out, p.cfg.Guest)
	}
	if s, err := c.Epoch(ctx, p.id, p.cfg.Purpose); err == nil {
		return keywrap.Wrapped{}, provision.About{}, fmt.Errorf("%s of %s has a state already: %s, epoch %d, of another directory", p.cfg.Purpose, p.text(), s.State, s.Epoch)
	} else if !errors.Is(err, teebroker.NoInstance) {
		return keywrap.Wrapped{}, provision.About{}, err
	}
	id, err := cli.ReadBrokerID(p.identity)
	if err != nil {
		return keywrap.Wrapped{}, provision.About{}, err
	}
	keys, err := c.Keys(ctx, p.tenant)
	if err != nil {
		return keywrap.Wrapped{}, provision.About{}, err
	}
	key, err := ownerKey(p.order)
	if err != nil {
		return keywrap.Wrapped{}, provision.About{}, err
	}
	return provision.Provision(ctx, p.cfg, owner.Blob{Keys: keys, Broker: id, Time: time.Now(), Owner: key}, p.out)
}

// begin registers w, unless an earlier call did, whose answer may have been lost.
func (p *provisioning) begin(ctx context.Context, c *v1.Client, w keywrap.Wrapped) (store.EpochStatus, error) {
	p.cfg.Progress("registering the state key")
	s, err := c.Epoch(ctx, p.id, p.cfg.Purpose)
	switch {
	case errors.Is(err, teebroker.NoInstance):
		return c.Begin(ctx, p.id, p.cfg.Purpose, v1.Epochs{Mode: p.mode, Number: provision.FirstEpoch}, w)
	case err == nil && s.Blob != w.Digest():
		return s, fmt.Errorf("%s of %s has another state: %s, epoch %d", p.cfg.Purpose, p.text(), s.State, s.Epoch)
	}
	return s, err
}

// provisioned is what the command prints.
func provisioned(out string, about provision.About, status store.EpochStatus) result {
	return result{map[string]any{"out": out, "provisioned": about, "epochs": status}, func(p *cli.Page) {
		p.Line(cli.Cell{Text: "in " + out, Style: cli.Good}, cli.Cell{Text: fmt.Sprintf("%s, epoch %d, mode %s", status.State, status.Epoch, status.Mode)})
		rows := [][]cli.Cell{
			{{Text: "EK", Style: cli.Dim}, {Text: hex.EncodeToString(about.EKDigest)}},
			{{Text: "agent", Style: cli.Dim}, {Text: about.Agent}},
			{{Text: "PCRs", Style: cli.Dim}, {Text: fmt.Sprint(about.PCRs)}},
		}
		if about.Disk != nil {
			rows = append(rows, []cli.Cell{{Text: "disk", Style: cli.Dim}, {Text: hex.EncodeToString(about.Disk.Digest[:])}})
		}
		p.Table("TPM", rows)
	}}
}
