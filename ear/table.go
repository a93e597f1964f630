package ear

import (
	"strings"

	"github.com/teebroker/teebroker/evidence"
)

// row says what a claim is about. It stands for the claim of that name and all that
// have the name and a dot before their own.
type row struct {
	claim    string
	category Category
	value    int8 // of the category if a policy refuses the claim

	// is, if it is set, is what the claim must not be, whatever policies accept;
	// with not, it is the only thing that it may be.
	is  evidence.Value
	not bool
}

// table is how claims become a trustworthiness vector. The first row that a claim is
// of counts. docs/ear.md has the same rows.
func table() []row {
	yes := evidence.Bool(true)
	return []row{
		{claim: "snp.policy.debug", category: RuntimeOpaque, value: visibleMemory, is: yes},
		{claim: "snp.policy", category: Configuration, value: unsupportable},
		{claim: "snp.vmpl", category: Configuration, value: unsupportable},
		{claim: "snp.host_data", category: Configuration, value: unsupportable},
		{claim: "snp.report_data", category: Configuration, value: unsupportable},
		{claim: "snp.measurement", category: Executables, value: unknownExecutables},
		{claim: "snp.family_id", category: Executables, value: unknownExecutables},
		{claim: "snp.image_id", category: Executables, value: unknownExecutables},
		{claim: "snp.id_key_digest", category: Executables, value: unknownExecutables},
		{claim: "snp.author_key_digest", category: Executables, value: unknownExecutables},
		{claim: "snp.guest_svn", category: Executables, value: unsafeExecutables},
		{claim: "snp.version", category: Hardware, value: unsafeHardware},
		{claim: "snp.platform", category: Hardware, value: unsafeHardware},
		{claim: "snp.tcb", category: Hardware, value: unsafeHardware},
		{claim: "snp.current_version", category: Hardware, value: unsafeHardware},
		{claim: "snp.committed_version", category: Hardware, value: unsafeHardware},
		{claim: "snp.mitigations", category: Hardware, value: unsafeHardware},
		{claim: "snp.cpu", category: Hardware, value: unknownHardware},
		{claim: "snp.line", category: Hardware, value: unknownHardware},
		{claim: "snp", category: InstanceIdentity, value: unknownInstance},

		{claim: "tdx.td_attributes.debug", category: RuntimeOpaque, value: visibleMemory, is: yes},
		{claim: "tdx.td_attributes.hgs_plus_prof", category: RuntimeOpaque, value: visibleMemory, is: yes},
		{claim: "tdx.td_attributes.perf_prof", category: RuntimeOpaque, value: visibleMemory, is: yes},
		{claim: "tdx.td_attributes.pmt_prof", category: RuntimeOpaque, value: visibleMemory, is: yes},
		{claim: "tdx.td_attributes", category: Configuration, value: unsupportable},
		{claim: "tdx.xfam", category: Configuration, value: unsupportable},
		{claim: "tdx.mrconfigid", category: Configuration, value: unsupportable},
		{claim: "tdx.mrowner", category: Configuration, value: unsupportable},
		{claim: "tdx.mrownerconfig", category: Configuration, value: unsupportable},
		{claim: "tdx.report_data", category: Configuration, value: unsupportable},
		{claim: "tdx.mrtd", category: Executables, value: unknownExecutables},
		{claim: "tdx.mrservicetd", category: Executables, value: unknownExecutables},
		{claim: "tdx.rtmr0", category: Executables, value: unknownExecutables},
		{claim: "tdx.rtmr1", category: Executables, value: unknownExecutables},
		{claim: "tdx.rtmr2", category: Executables, value: unknownExecutables},
		{claim: "tdx.rtmr3", category: Executables, value: unknownExecutables},
		{claim: "tdx.runtime_events", category: Executables, value: unknownExecutables},
		{claim: "tdx.user_data", category: InstanceIdentity, value: unknownInstance},
		{claim: "tdx.ppid", category: InstanceIdentity, value: unknownInstance},
		{claim: "tdx.platform_instance", category: InstanceIdentity, value: unknownInstance},
		{claim: "tdx.pck.serial", category: InstanceIdentity, value: unknownInstance},
		{claim: "tdx.pck.ca", category: InstanceIdentity, value: unknownInstance},
		{claim: "tdx.fmspc", category: Hardware, value: unknownHardware},
		{claim: "tdx.pceid", category: Hardware, value: unknownHardware},
		{claim: "tdx.mrseam", category: Hardware, value: unknownHardware},
		{claim: "tdx.mrsignerseam", category: Hardware, value: unknownHardware},
		{claim: "tdx.tcb.status", category: Hardware, value: unsafeHardware, is: evidence.Text("UpToDate"), not: true},
		{claim: "tdx.tcb.status", category: Hardware, value: revokedHardware, is: evidence.Text("Revoked")},
		{claim: "tdx", category: Hardware, value: unsafeHardware},

		{claim: "cca.debug", category: RuntimeOpaque, value: visibleMemory, is: yes},
		{claim: "cca.mec_policy", category: RuntimeOpaque, value: isolatedMemory},
		{claim: "cca.rim", category: Executables, value: unknownExecutables},
		{claim: "cca.rem0", category: Executables, value: unknownExecutables},
		{claim: "cca.rem1", category: Executables, value: unknownExecutables},
		{claim: "cca.rem2", category: Executables, value: unknownExecutables},
		{claim: "cca.rem3", category: Executables, value: unknownExecutables},
		{claim: "cca.components", category: Executables, value: unknownExecutables},
		{claim: "cca.implementation_id", category: Hardware, value: unknownHardware},
		{claim: "cca.platform_profile", category: Hardware, value: unknownHardware},
		{claim: "cca.instance_id", category: InstanceIdentity, value: unknownInstance},
		{claim: "cca.cpak", category: InstanceIdentity, value: unknownInstance},
		{claim: "cca.realm_instance_id", category: InstanceIdentity, value: unknownInstance},
		{claim: "cca", category: Configuration, value: unsupportable},

		{claim: "bound", category: InstanceIdentity, value: unknownInstance},
		{claim: "layer.bound", category: InstanceIdentity, value: unknownInstance},
		{claim: "skipped", category: InstanceIdentity, value: unknownInstance},
	}
}

// of reports whether r is about the claim called name.
func (r row) of(name string) bool {
	rest, ok := strings.CutPrefix(name, r.claim)
	return ok && (rest == "" || rest[0] == '.')
}

// bad reports whether the claim may not be value, whatever policies accept.
func (r row) bad(value evidence.Value) bool {
	return !r.is.IsZero() && value.Equal(r.is) != r.not
}

// refused lowers v for a claim that a policy refused. What the table does not know
// is a configuration that nobody can support.
func (v *Vector) refused(rows []row, claim string) {
	for _, r := range rows {
		if r.of(claim) {
			v.lower(r.category, r.value)
			return
		}
	}
	v.lower(Configuration, unsupportable)
}

// observe lowers v for what a claim says that no policy can make good.
func (v *Vector) observe(rows []row, claim string, value evidence.Value) {
	for _, r := range rows {
		if r.claim == claim && r.bad(value) {
			v.lower(r.category, r.value)
		}
	}
}

// affirmed returns what is said of verified evidence where nothing is against it.
// That it is genuine its Verifier found; the rest is the word of the policies, and
// is said only where all accepted.
func affirmed(v *evidence.Verified, accepted bool) Vector {
	var out Vector
	if v.Bound && len(v.Skipped) == 0 {
		out[InstanceIdentity] = trustworthy
	}
	known, encrypted := false, false
	switch v.Format {
	case "snp-report", "tdx-quote":
		known, encrypted = true, true
	case "cca-token":
		known = true // realms are isolated, and encryption is for the platform to say
	}
	if encrypted {
		out[RuntimeOpaque] = encryptedMemory
	}
	if !accepted {
		return out
	}
	out[Configuration], out[Executables] = approvedConfig, approvedBoot
	if known {
		out[Hardware] = genuineHardware
	}
	return out
}

// failed returns what is said of evidence that is not authentic.
func failed(r evidence.Reason) Vector {
	var out Vector
	switch r {
	case evidence.Unavailable, evidence.Stale: // of collateral: the same evidence may pass later
		out[InstanceIdentity] = malfunction
	case evidence.Revoked:
		out[InstanceIdentity] = compromised
	case evidence.BadSignature:
		out[InstanceIdentity] = cryptoFailed
	default:
		out[InstanceIdentity] = unknownInstance
	}
	return out
}
