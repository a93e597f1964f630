package keylime

import (
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// claims returns the claims of v: of a report of SEV-SNP those that Keylime has, under
// its names; of others all, under the names of docs/claims-tdx.md and claims-cca.md.
func claims(v *evidence.Verified) map[string]any {
	if c, ok := snp.ClaimsOf(v); ok {
		return snpClaims(c)
	}
	all := map[string]any{}
	if v.Claims == nil {
		return all
	}
	for name, value := range v.Claims.All() {
		all[name] = value
	}
	return all
}

func snpClaims(c *snp.Claims) map[string]any {
	measurement, reportData, hostData := c.Measurement(), c.ReportData(), c.HostData()
	tcb, guest, platform := c.ReportedTCB(), c.Policy(), c.Platform()
	all := map[string]any{
		"measurement":             ints(measurement[:]),
		"report_data":             ints(reportData[:]),
		"host_data":               ints(hostData[:]),
		"platform_smt_enabled":    platform&snp.SMTEnabled != 0,
		"platform_tsme_enabled":   platform&snp.TSMEEnabled != 0,
		"reported_tcb_bootloader": tcb.Bootloader,
		"reported_tcb_tee":        tcb.TEE,
		"reported_tcb_snp":        tcb.Firmware,
		"reported_tcb_microcode":  tcb.Microcode,
		"policy_abi_major":        guest.ABI().Major,
		"policy_abi_minor":        guest.ABI().Minor,
		"policy_smt_allowed":      guest&snp.SMT != 0,
		"policy_migrate_ma":       guest&snp.MigrateMA != 0,
		"policy_debug_allowed":    guest&snp.Debug != 0,
		"policy_single_socket":    guest&snp.SingleSocket != 0,
	}
	if tcb.Line == snp.Turin { // has one that Keylime does not know
		all["reported_tcb_fmc"] = tcb.FMC
	}
	return all
}

// ints returns b as JSON has bytes there: a list of numbers.
func ints(b []byte) []uint16 {
	list := make([]uint16, len(b))
	for i, v := range b {
		list[i] = uint16(v)
	}
	return list
}
