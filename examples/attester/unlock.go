package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/proof"
	"github.com/teebroker/teebroker/provision"
	"github.com/teebroker/teebroker/vtpm"
)

const aboutUnlock = `
Open what owner provision made: the state of the TPM, and with it the disk.

Asks the broker for the key of the state in -state, confirms the boot, starts the
TPM (swtpm), has it unseal the passphrase, and opens the disk with that
(cryptsetup). The header of the disk is compared with the one that the state names,
before the boot is confirmed and before the passphrase is given to any program:

  attester unlock -tee snp -broker https://broker.example:8443 -tenant default \
    -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -identity broker.id \
    -state /var/lib/guest -image /dev/vda2 -name root

-name makes the open disk /dev/mapper/NAME, for which one has to be root; without it the
passphrase is only tried. With -tpm the TPM is there for the guest's own programs, such as a Keylime agent. A simulated guest boots nothing that measures itself: -measure does it for
its firmware. -proof-pcr shows first of all, in a PCR, which release the guest started for.
This is what an SVSM and the guest's own boot do between them: docs/provision.md.
Exit status: 0 open, 1 refused by the broker or by what was compared, 2 out of reach.`

// unlock is one guest that opens what its owner made.
type unlock struct {
	release
	image, name, work string
	measure           []measured
	proof             int    // PCR, or -1
	socket            string // where the TPM is served, or ""
	stdout            io.Writer

	ek    [32]byte
	agent string
}

// measured is a file that goes into a PCR.
type measured struct {
	pcr  int
	file string
}

func unlockCommand(m machine) cli.Command {
	return cli.Command{Name: "attester unlock", About: aboutUnlock, Env: releaseEnv, Setup: unlockSetup(m, sleep)}
}

func unlockSetup(m machine, sleep func(context.Context, time.Duration) error) func(*flag.FlagSet) cli.Action {
	return func(fs *flag.FlagSet) cli.Action {
		u := &unlock{release: release{guest: guestFlags(fs), machine: m, sleep: sleep}}
		u.inspect, u.use = u.check, u.open
		u.flags(fs)
		fs.StringVar(&u.purpose, "purpose", "vtpm", "`NAME` of the secret that is the key of the state")
		fs.StringVar(&u.state, "state", "", "`DIR` that owner provision made")
		fs.StringVar(&u.image, "image", "", "the disk is this `FILE` or device (default the one in -state, if there is one)")
		fs.StringVar(&u.name, "name", "", "open the disk as /dev/mapper/`NAME`")
		fs.StringVar(&u.out, "out", "", "write the passphrase to `FILE`, mode 0600, for what opens the disk instead")
		fs.StringVar(&u.work, "work", guestMemory(), "`DIR` for the files of the running TPM, in the memory of the guest")
		fs.Func("measure", "extend a PCR with the SHA-256 of a file, as `INDEX=FILE`", u.setMeasure)
		fs.StringVar(&u.socket, "tpm", "", "go on running the TPM, at the Unix socket `PATH`, until a signal ends it; its state is saved then")
		fs.IntVar(&u.proof, "proof-pcr", -1, "show the release in this PCR, `INDEX` 0 to 15 of SHA-256")
		return u.act
	}
}

// guestMemory is a directory that is in memory, where there is one.
func guestMemory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}

func (u *unlock) setMeasure(s string) error {
	index, file, ok := strings.Cut(s, "=")
	n, err := strconv.Atoi(index)
	if !ok || err != nil || n < 0 || n > 23 || file == "" {
		return errors.New("want INDEX=FILE, of a PCR from 0 to 23")
	}
	u.measure = append(u.measure, measured{n, file})
	return nil
}

func (u *unlock) act(args []string, stdout io.Writer) (bool, error) {
	switch {
	case len(args) != 0:
		return false, cli.Usagef("unexpected argument %q", args[0])
	case u.guest.tee == "" || u.broker == "" || u.guest.instance == nil || u.state == "" || u.identity == "":
		return false, cli.Usagef("-tee, -broker, -instance, -identity and -state are required")
	case u.proof >= 0 && !u.pcr().CanProve():
		return false, cli.Usagef("-proof-pcr has to be 0 to 15")
	}
	if u.image == "" {
		if image := filepath.Join(u.state, provision.ImageFile); exists(image) {
			u.image = image
		}
	}
	u.stdout = stdout
	yes, err := u.answer(stdout, func(io.Writer, []byte, released) error { return nil }) // open told all
	var refused provision.Error
	if errors.As(err, &refused) && refused != provision.ErrConfig {
		return false, u.no(stdout, err)
	}
	return yes, err
}

func (u *unlock) pcr() vtpm.PCR { return vtpm.PCR{Bank: vtpm.SHA256, Index: u.proof} }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (u *unlock) guestOf() provision.Guest {
	return provision.Guest{Tenant: u.guest.tenant, Instance: *u.guest.instance, Purpose: u.purpose}
}

// check looks at the state before the boot is confirmed: a wrong disk costs nothing.
func (u *unlock) check(value []byte) ([32]byte, error) {
	s, err := provision.ParseState(value, u.guestOf())
	if err != nil {
		return [32]byte{}, err
	}
	defer s.Clear()
	if u.image != "" {
		err = s.CheckDisk(context.Background(), u.image, u.work)
	}
	return s.EK, err
}

// open starts the TPM and opens the disk. What the TPM remembers is saved, also if the
// disk stays closed: its counters don't go back.
func (u *unlock) open(ctx context.Context, st *state.State, digest [32]byte) ([]byte, error) {
	value := st.Value()
	defer clear(value)
	s, err := provision.ParseState(value, u.guestOf())
	if err != nil {
		return nil, err
	}
	defer s.Clear()
	t, err := s.Start(ctx, u.work)
	if err != nil {
		return nil, err
	}
	defer t.Close() // again, after Stop
	passphrase, err := u.unseal(ctx, s, t, digest)
	deliver := func() error {
		defer clear(passphrase)
		return u.deliver(passphrase)
	}
	switch {
	case err != nil:
		clear(passphrase)
	case u.socket == "":
		err = deliver()
	default:
		err = serveTPM(u.socket, t, deliver)
	}
	// Also when the time to ask a broker is over.
	return nil, errors.Join(err, u.save(context.WithoutCancel(ctx), st, t))
}

// unseal has t unseal the passphrase, and opens the disk with it.
func (u *unlock) unseal(ctx context.Context, s *provision.State, t *provision.TPM, digest [32]byte) ([]byte, error) {
	if u.proof >= 0 {
		if err := proof.Extend(t, u.pcr(), &digest); err != nil {
			return nil, err
		}
	}
	for _, m := range u.measure {
		b, err := cli.ReadFile(m.file, 1<<30)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		if err := t.ExtendPCR(vtpm.PCR{Bank: vtpm.SHA256, Index: m.pcr}, sum[:]); err != nil {
			return nil, err
		}
	}
	ek, err := vtpm.ParsePublic(t.EK())
	if err == nil {
		u.ek = s.EK
		u.agent, err = vtpm.AgentID(ek.Key)
	}
	if err != nil {
		return nil, err
	}
	sealed, err := cli.ReadFile(filepath.Join(u.state, provision.SealedFile), 64<<10)
	if err != nil {
		return nil, err
	}
	passphrase, err := t.Unseal(sealed)
	if err != nil || u.image == "" {
		return passphrase, err
	}
	return passphrase, s.OpenDisk(ctx, u.image, u.work, u.name, passphrase)
}

// save ends the TPM and keeps its state.
func (u *unlock) save(ctx context.Context, st *state.State, t *provision.TPM) error {
	next, err := t.Stop()
	if err != nil {
		return err
	}
	defer next.Clear()
	value, err := next.Marshal()
	if err != nil {
		return err
	}
	defer clear(value)
	return st.Save(ctx, value)
}

// unlocked is what -json prints.
type unlocked struct {
	Epoch uint64         `json:"epoch"`
	EK    strictjson.Hex `json:"ek_sha256"`
	Agent string         `json:"agent"` // of Keylime, with the uuid "hash_ek"
	Disk  string         `json:"disk"`  // "open", "tried" or "none"
	Out   string         `json:"out,omitempty"`
}

// deliver tells what is open.
func (u *unlock) deliver(passphrase []byte) error {
	if u.out != "" {
		if err := cli.WriteFile(u.out, passphrase, 0o600); err != nil {
			return err
		}
	}
	v := unlocked{u.confirmed, u.ek[:], u.agent, "none", u.out}
	text := "the passphrase is unsealed, and there is no disk"
	switch {
	case u.image != "" && u.name != "":
		v.Disk, text = "open", "the disk is open as /dev/mapper/"+u.name
	case u.image != "":
		v.Disk, text = "tried", "the passphrase opens "+u.image
	}
	if u.json {
		return cli.WriteJSON(u.stdout, v)
	}
	p := cli.NewPage(u.stdout)
	p.Line(cli.Cell{Text: text, Style: cli.Good})
	p.Table("TPM", [][]cli.Cell{
		{{Text: "EK", Style: cli.Dim}, {Text: fmt.Sprintf("%x", u.ek)}},
		{{Text: "agent", Style: cli.Dim}, {Text: u.agent}},
		{{Text: "epoch", Style: cli.Dim}, {Text: strconv.FormatUint(v.Epoch, 10)}},
	})
	_, err := p.WriteTo(u.stdout)
	return err
}

// no says what did not fit.
func (u *unlock) no(stdout io.Writer, err error) error {
	if u.json {
		return cli.WriteJSON(stdout, map[string]any{"refused": err.Error()})
	}
	p := cli.NewPage(stdout)
	p.Line(cli.Cell{Text: "refused: " + err.Error(), Style: cli.Bad})
	_, err = p.WriteTo(stdout)
	return err
}
