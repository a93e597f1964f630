package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"github.com/google/go-tpm/tpm2"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/activation"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/vtpm"
)

const aboutAgent = `
After boot: show the broker which TPM this guest has, and have its attestation key
bound.

The SVSM vouches for the endorsement key of its vTPM in a report that is asked for with
the broker's nonce. The broker answers with a credential that only this TPM can open,
while it has the attestation key. From then on the broker believes quotes by that key:

  attester agent -tee snp -broker https://broker.example:8443 -tenant default \
    -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -identity broker.id

The TPM is /dev/tpmrm0 unless -tpm names another device or the socket of one. With
-tpm-state a swtpm is started on the state in that directory, which is made at first
use. As a guest of a simulated platform, whose SVSM is simulated too:

  attester agent -tee snp -simulate sim -tpm-state tpm -broker http://127.0.0.1:8080 \
    -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -identity broker.id

Prints the EK as the broker knows it, SHA-256 of its TPMT_PUBLIC, and the id that a
Keylime agent takes whose uuid is "hash_ek".
Exit status: 0 bound, 1 the broker refused, 2 no TPM, report or broker.`

// agent is a guest that is up.
type agent struct {
	release
	path, dir string // of the TPM
	ecc       bool   // of an EK that is made
	tpm       *guestTPM
	tsm       func() (configfsi.Client, error)
}

func agentCommand(m machine) cli.Command {
	return cli.Command{Name: "attester agent", About: aboutAgent, Env: releaseEnv, Setup: agentSetup(m)}
}

func agentSetup(m machine) func(*flag.FlagSet) cli.Action {
	return func(fs *flag.FlagSet) cli.Action {
		a := &agent{release: release{guest: guestFlags(fs), machine: m, sleep: sleep}}
		a.tsm = func() (configfsi.Client, error) { return linuxtsm.MakeClient() }
		a.flags(fs)
		fs.StringVar(&a.path, "tpm", "", "the TPM is this device or socket, `PATH` (default /dev/tpmrm0)")
		fs.StringVar(&a.dir, "tpm-state", "", "start a swtpm on the state in `DIR`")
		fs.BoolVar(&a.ecc, "ecc", false, "the EK is of ECC P-256, if the TPM has to make one (default RSA 2048, as SVSMs do)")
		return a.act
	}
}

func (a *agent) act(args []string, stdout io.Writer) (bool, error) {
	switch {
	case len(args) != 0:
		return false, cli.Usagef("unexpected argument %q", args[0])
	case a.guest.tee == "" || a.broker == "" || a.guest.instance == nil:
		return false, cli.Usagef("-tee, -broker and -instance are required")
	case a.guest.tee != teeSNP:
		return false, cli.Usagef("-tee: of TEEs whose reports name a TPM there is snp, with an SVSM")
	case a.path != "" && a.dir != "":
		return false, cli.Usagef("-tpm and -tpm-state: one TPM")
	}
	if a.path == "" {
		a.path = "/dev/tpmrm0"
	}
	if a.guest.tenant == "" {
		a.guest.tenant = v1.DefaultTenant
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.timeout)
	defer cancel()
	got, err := a.run(ctx)
	var p *v1.Problem
	switch {
	case errors.As(err, &p) && p.Status < 500:
		return false, a.refused(stdout, p)
	case err != nil:
		return false, err
	}
	return true, a.show(stdout, got)
}

// bound is what -json prints.
type bound struct {
	EK      string `json:"ek"`       // SHA-256 of the TPMT_PUBLIC, hexadecimal
	AgentID string `json:"agent_id"` // of a Keylime agent with this EK
	AK      string `json:"ak"`       // Name, hexadecimal
}

func (a *agent) show(stdout io.Writer, got teebroker.TPMActivated) error {
	b := bound{hex.EncodeToString(got.EK[:]), got.AgentID, hex.EncodeToString(got.AK)}
	if a.json {
		return cli.WriteJSON(stdout, b)
	}
	p := cli.NewPage(stdout)
	p.Line(cli.Cell{Text: "bound", Style: cli.Good}, cli.Cell{Text: "EK " + b.EK})
	p.Line(cli.Cell{Text: "agent"}, cli.Cell{Text: b.AgentID})
	p.Line(cli.Cell{Text: "AK"}, cli.Cell{Text: b.AK})
	_, err := p.WriteTo(stdout)
	return err
}

// run has the AK of the TPM bound.
func (a *agent) run(ctx context.Context) (_ teebroker.TPMActivated, err error) {
	var broker []byte
	if a.identity != "" {
		id, err := cli.ReadBrokerID(a.identity)
		if err != nil {
			return teebroker.TPMActivated{}, err
		}
		broker = id[:]
	}
	client, err := a.client(broker)
	if err != nil {
		return teebroker.TPMActivated{}, err
	}
	template := tpm2.RSAEKTemplate
	if a.ecc {
		template = tpm2.ECCEKTemplate
	}
	if a.tpm, err = openTPM(a.path, a.dir, template); err != nil {
		return teebroker.TPMActivated{}, err
	}
	defer func() { err = errors.Join(err, a.tpm.Close()) }()
	return activation.Guest{
		TPMs: client.TPMs(), Broker: broker, Tenant: a.guest.tenant, Instance: *a.guest.instance, AK: a.tpm.akFull,
		Attest: a.attest, Activate: a.tpm.activate,
		Quote: func(asked [32]byte) ([]byte, error) { return a.tpm.quote(asked[:], 0) },
	}.Bind(ctx)
}

// attest returns the report of the SVSM, and what it is of.
func (a *agent) attest(asked [64]byte) (teebroker.TPMBinding, error) {
	report, manifest, err := a.svsm(asked)
	if err != nil {
		return teebroker.TPMBinding{}, err
	}
	return teebroker.TPMBinding{Report: report, Items: []evidence.Item{
		{Type: vtpm.SVSMNonce, Data: asked[:]}, {Type: vtpm.SVSMManifest, Data: manifest},
	}}, nil
}

// svsm asks the SVSM for its vTPM. One that is simulated says of the TPM what the
// vTPM would say of itself.
func (a *agent) svsm(asked [64]byte) (evidence.Evidence, []byte, error) {
	if a.guest.dir == "" {
		c, err := a.tsm()
		if err != nil {
			return evidence.Evidence{}, nil, err
		}
		return askSVSM(c, asked)
	}
	manifest := a.tpm.ekPublic[2:]
	sum := vtpm.SVSMReportData(asked, manifest)
	data, err := evidence.NewBinding(sum[:])
	if err != nil {
		return evidence.Evidence{}, nil, err
	}
	q, err := a.guest.quote(a.machine, data)
	return q.evidence(snp.Format), manifest, err
}

// The service of an SVSM that configfs-tsm is asked for, and where that is.
const (
	serviceVTPM = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3"
	tsmReports  = "/sys/kernel/config/tsm/report"
)

// askSVSM asks for the vTPM alone: Linux, Documentation/ABI/testing/configfs-tsm-report. An SVSM
// brings no certificates; the broker has them, or fetches them.
func askSVSM(c configfsi.Client, asked [64]byte) (ev evidence.Evidence, manifest []byte, err error) {
	entry, err := c.MkdirTemp(tsmReports, "teebroker")
	if err != nil {
		return ev, nil, fmt.Errorf("configfs-tsm: %w", err)
	}
	defer func() { err = errors.Join(err, c.RemoveAll(entry)) }()
	for _, w := range []struct {
		name    string
		content []byte
	}{
		{"service_provider", []byte("svsm")}, {"service_guid", []byte(serviceVTPM)}, {"service_manifest_version", []byte("0")}, {"inblob", asked[:]},
	} {
		if err := c.WriteFile(entry+"/"+w.name, w.content); err != nil {
			return ev, nil, fmt.Errorf("configfs-tsm: %s: %w", w.name, err)
		}
	}
	raw, err := c.ReadFile(entry + "/outblob")
	if err != nil {
		return ev, nil, fmt.Errorf("configfs-tsm: outblob: %w", err)
	}
	if manifest, err = c.ReadFile(entry + "/manifestblob"); err != nil {
		return ev, nil, fmt.Errorf("configfs-tsm: manifestblob: %w", err)
	}
	q, err := snpQuote(raw)
	return q.evidence(snp.Format), manifest, err
}
