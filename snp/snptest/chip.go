package snptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha512"
	"fmt"
	"sync"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/internal/abi"
)

// Chip is a simulated processor with its firmware. Its methods are safe for
// concurrent use as long as nobody writes its fields.
type Chip struct {
	// What the firmware will say from now on. The certificates, and the keys
	// they are of, follow the reported TCB.
	Family, Model, Stepping               uint8
	Current, Reported, Committed, Launch  snp.TCB
	Platform                              snp.PlatformInfo
	LaunchMitigations, CurrentMitigations uint64
	CSP                                   string // CSP_ID of the VLEK
	MaskChipID                            bool   // CHIP_ID is zero
	MaskChipKey                           bool   // the signature is zero

	amd    *AMD
	line   snp.Line
	build  uint8
	secret []byte // the id and all keys are derived from it
	id     snp.ChipID

	mu   sync.Mutex
	veks map[vekName]*vek
}

// secretSize is the length of a Chip's secret in bytes.
const secretSize = 48

// vekName says which key of a chip is meant.
type vekName struct {
	kind snp.KeyKind
	tcb  snp.TCB
	csp  string
}

// vek is a key of a chip with a certificate made at made.
type vek struct {
	key  *ecdsa.PrivateKey
	cert []byte
	made time.Time
}

func newChip(a *AMD, line snp.Line, secret []byte) *Chip {
	p := profileOf(line)
	c := &Chip{
		Family: p.family, Model: p.model, Stepping: p.stepping,
		Current: p.tcb, Reported: p.tcb, Committed: p.tcb, Launch: p.tcb,
		Platform:          p.platform,
		LaunchMitigations: p.mitigations, CurrentMitigations: p.mitigations,
		CSP: "CN=cc-simulated.example.com",

		amd: a, line: line, build: p.build, secret: secret,
		veks: map[vekName]*vek{},
	}
	copy(c.id[:hwIDSize(line)], c.derive("hwID", hwIDSize(line)))
	return c
}

// ID returns the chip's hwID, of which a Turin uses 8 bytes.
func (c *Chip) ID() snp.ChipID { return c.id }

// Floor returns the Floor for processors of c's family, model and stepping that
// c just meets.
func (c *Chip) Floor() snp.Floor {
	return snp.Floor{
		Family:   c.Family,
		MinModel: c.Model, MaxModel: c.Model,
		Steppings: evidence.OneOf(c.Stepping),
		Minimum:   c.minimum(),
	}
}

// V2Floor returns the floor for reports of version 2 of c's Line that c just meets.
func (c *Chip) V2Floor() snp.LineFloor {
	return snp.LineFloor{Line: c.line, Minimum: c.minimum()}
}

func (c *Chip) minimum() snp.Minimum {
	return snp.Minimum{Reported: c.Reported, Committed: c.Committed, Launch: c.Launch}
}

// Key returns the public key of the VCEK at the reported TCB.
func (c *Chip) Key() *ecdsa.PublicKey { return &c.vek(snp.VCEK, c.Reported).key.PublicKey }

// Entries returns the certificate table of a host that has provisioned the key
// of kind at the reported TCB: its certificate, that of its issuer and the ARK.
func (c *Chip) Entries(kind snp.KeyKind) []Entry {
	guid, ca := abi.GUIDVCEK, ASK
	if kind == snp.VLEK {
		guid, ca = abi.GUIDVLEK, ASVK
	}
	h := c.amd.hierarchy(c.line)
	return []Entry{
		newEntry(guid, c.vek(kind, c.Reported).cert),
		newEntry(abi.GUIDASK, h[ca].cert),
		newEntry(abi.GUIDARK, h[ARK].cert),
	}
}

// Certificates returns the certificate table for the VCEK: [CertTable] of [Chip.Entries].
func (c *Chip) Certificates() []byte { return CertTable(c.Entries(snp.VCEK)...) }

// vek returns the key of kind at tcb, with a certificate that is valid now. As
// AMD does, it certifies the same key anew whenever it is asked.
func (c *Chip) vek(kind snp.KeyKind, tcb snp.TCB) *vek {
	name := vekName{kind: kind, tcb: tcb}
	if kind == snp.VLEK {
		name.csp = c.CSP
	}
	now := c.amd.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.veks[name]
	if v != nil && fresh(v.made, now) {
		return v
	}
	key := c.deriveKey(name)
	if v != nil {
		key = v.key
	}
	v = &vek{key: key, made: now}
	v.cert = c.amd.IssueVEK(&key.PublicKey, VEK{Kind: kind, TCB: tcb, Chip: c.id, CSP: name.csp})
	c.veks[name] = v
	return v
}

// deriveKey returns the private key called n. Another TCB is another key, as in
// firmware: who learns an old one can't sign for a newer TCB.
func (c *Chip) deriveKey(n vekName) *ecdsa.PrivateKey {
	for try := 0; ; try++ {
		scalar := c.derive(fmt.Sprintf("VEK %d %+v %q %d", n.kind, n.tcb, n.csp, try), 48)
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), scalar); err == nil {
			return key
		}
	}
}

// derive returns n bytes for a purpose, always the same for one chip.
func (c *Chip) derive(purpose string, n int) []byte {
	return must(hkdf.Expand(sha512.New384, c.secret, purpose, n))
}
