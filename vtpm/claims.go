package vtpm

import (
	"iter"
	"maps"
	"slices"

	"github.com/teebroker/teebroker/evidence"
)

// Claims are the claims of a verified quote and of what links it to hardware. It
// owns its memory. It is read-only.
type Claims struct {
	Quote Quote
	PCRs  []PCRValue // all that the quote is over, in the order of its selection

	Link     Link
	Platform evidence.Format // of the report below; empty for LinkCertificate

	Events []Event // of the event log, if there is one, of quoted PCRs
	IMA    *IMA    // nil without a list

	// Proof is what the PCR of Config.ProofPCR shows; empty without Config.Releases.
	// Shown is the release, if there is one.
	Proof Proof
	Shown Shown

	// EKCertificate is SHA-256 of the EK certificate in DER; zero without one.
	EKCertificate [32]byte

	ground   ground
	proofPCR PCR // zero without Config.Releases
}

// ClaimsOf returns the Claims of v, or false if v is not a verified quote.
func ClaimsOf(v *evidence.Verified) (*Claims, bool) {
	if v == nil {
		return nil, false
	}
	c, ok := v.Claims.(*Claims)
	return c, ok && c != nil
}

// Manifest says what the report below is of; empty for LinkCertificate.
func (c *Claims) Manifest() Manifest { return c.ground.manifest }

// EK returns the endorsement key, or false where only its key, or nothing, is
// known: Azure.
func (c *Claims) EK() (Public, bool) {
	if c.ground.ek == nil {
		return Public{}, false
	}
	return *c.ground.ek, true
}

// AK returns the attestation key, or false where only its key is known: Azure.
func (c *Claims) AK() (Public, bool) {
	if c.ground.akPublic == nil {
		return Public{}, false
	}
	return *c.ground.akPublic, true
}

// Azure returns what the paravisor says, or nil if there is none.
func (c *Claims) Azure() *Azure { return c.ground.azure }

// AgentID returns the id of a Keylime agent with this EK, or "" if it is not known.
func (c *Claims) AgentID() string {
	id, err := AgentID(c.ground.ekKey())
	if err != nil {
		return ""
	}
	return id
}

// openLogs replays the logs that came along.
func (c *Claims) openLogs(is items) (err error) {
	if is.has(EventLog) {
		if c.Events, err = c.openEventLog(is[EventLog]); err != nil {
			return err
		}
	}
	if is.has(IMAList) {
		if c.IMA, err = c.openIMA(is[IMAList]); err != nil {
			return err
		}
	}
	return nil
}

// claim is one claim under its stable name.
type claim struct {
	name  string
	value evidence.Value
}

func num[T ~uint32 | ~uint64 | ~int](name string, n T) claim {
	return claim{name, evidence.Uint(uint64(n))}
}
func text[T ~string](name string, s T) claim { return claim{name, evidence.Text(string(s))} }
func octets[T ~string | ~[]byte](name string, b T) claim {
	return claim{name, evidence.Bytes([]byte(b))}
}

// All implements [evidence.Claims]. Claims that there is nothing for are left out.
func (c *Claims) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		for _, group := range [...]func() []claim{c.linkClaims, c.azureClaims, c.quoteClaims, c.proofClaims, c.logClaims} {
			for _, x := range group() {
				if !yield(x.name, x.value) {
					return
				}
			}
		}
	}
}

// linkClaims are about keys and what vouches for them.
func (c *Claims) linkClaims() []claim {
	cs := []claim{text("vtpm.link", c.Link)}
	if c.Platform != "" {
		cs = append(cs, text("vtpm.platform", c.Platform), text("vtpm.manifest", c.Manifest()))
	}
	ak := KeyDigest(c.ground.ak)
	cs = append(cs, octets("vtpm.ak", ak[:]))
	if c.ground.akPublic != nil {
		cs = append(cs, octets("vtpm.ak_name", c.ground.akPublic.Name))
	}
	if key := c.ground.ekKey(); key != nil {
		ek := KeyDigest(key)
		cs = append(cs, octets("vtpm.ek", ek[:]), text("vtpm.agent_id", c.AgentID()))
	}
	if c.ground.ek != nil {
		cs = append(cs, octets("vtpm.ek_name", c.ground.ek.Name))
	}
	if c.EKCertificate != [32]byte{} {
		cs = append(cs, octets("vtpm.ek_certificate", c.EKCertificate[:]))
	}
	return cs
}

// azureFlags are the flags of a configuration that are claims.
func azureFlags() map[string]string {
	return map[string]string{
		"console-enabled": "vtpm.azure.console_enabled", "secure-boot": "vtpm.azure.secure_boot",
		"tpm-enabled": "vtpm.azure.tpm_enabled", "tpm-persisted": "vtpm.azure.tpm_persisted",
	}
}

func (c *Claims) azureClaims() []claim {
	a := c.ground.azure
	if a == nil {
		return nil
	}
	cs := []claim{octets("vtpm.azure.user_data", a.UserData[:])}
	if a.VMID != "" {
		cs = append(cs, text("vtpm.azure.vm_id", a.VMID))
	}
	names := azureFlags()
	for _, flag := range slices.Sorted(maps.Keys(names)) {
		if set, ok := a.Flags[flag]; ok {
			cs = append(cs, claim{names[flag], evidence.Bool(set)})
		}
	}
	return cs
}

// quoteClaims are what the TPM said.
func (c *Claims) quoteClaims() []claim {
	q := c.Quote
	cs := []claim{
		octets("vtpm.extra_data", q.ExtraData),
		octets("vtpm.qualified_signer", q.Signer),
		num("vtpm.clock", q.Clock.Time),
		num("vtpm.reset_count", q.Clock.ResetCount),
		num("vtpm.restart_count", q.Clock.RestartCount),
		{"vtpm.clock_safe", evidence.Bool(q.Clock.Safe)},
		num("vtpm.firmware_version", q.Firmware),
	}
	for _, v := range c.PCRs {
		cs = append(cs, octets(pcrClaim(v.PCR), v.Value))
	}
	return cs
}

func pcrClaim(p PCR) string    { return "vtpm.pcr." + p.String() }
func eventsClaim(p PCR) string { return "vtpm.events." + p.String() }

// logClaims are what the logs say the PCRs were extended with.
func (c *Claims) logClaims() (cs []claim) {
	digests := map[PCR][]evidence.Value{}
	for _, e := range c.Events {
		digests[e.PCR] = append(digests[e.PCR], evidence.Bytes([]byte(e.Digest)))
	}
	for _, v := range c.PCRs {
		if ds := digests[v.PCR]; ds != nil {
			cs = append(cs, claim{eventsClaim(v.PCR), evidence.List(ds...)})
		}
	}
	if c.IMA != nil {
		cs = append(
			cs, num("vtpm.ima.entries", c.IMA.Entries), num("vtpm.ima.violations", c.IMA.Violations),
			claim{"vtpm.ima.boot_aggregate", evidence.Bool(c.IMA.BootAggregate)},
		)
	}
	return cs
}
