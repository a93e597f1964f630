package teebroker

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
)

// LaunchID is the launch identity of an instance, section 8 of the protocol:
// SHA-256("teebroker/v1/launch" ‖ LP(tenant) ‖ LP(instance)). It is the HOST_DATA
// of an SNP guest, and padded with zeros the MRCONFIGID of a TD or the RPV of a
// realm.
func LaunchID(tenant string, instance [16]byte) [32]byte {
	b := appendLP([]byte("teebroker/v1/launch"), []byte(tenant))
	return sha256.Sum256(appendLP(b, instance[:]))
}

// LaunchClaim is the [policy.Rule] that one immutable launch claim has the value
// that no other instance has:
//
//	id := teebroker.LaunchID(tenant, instance)
//	inst.Launch = teebroker.LaunchClaim{Name: "snp.host_data", Want: id[:]}
//
// A claim that is absent is refused, and so is a Want that is empty or all zero,
// whatever the evidence says: that is what a guest shows whose launch named
// nobody. The zero LaunchClaim accepts nothing.
type LaunchClaim struct {
	Name string // stable name of the claim, which is of bytes
	Want []byte // as long as the claim
}

// Appraise implements [policy.Rule].
func (l LaunchClaim) Appraise(v *evidence.Verified) []evidence.Mismatch {
	c := policy.Claim{Name: l.Name, Op: evidence.Equal, Want: evidence.Bytes(l.Want)}
	if zero(l.Want) {
		return []evidence.Mismatch{{Claim: c.Name, Op: c.Op, Want: c.Want}}
	}
	return c.Appraise(v)
}

// platformClaims are the claims by which a format names the platform that
// signed, in the order of preference. Other formats name none.
func platformClaims(f evidence.Format) []string {
	switch f {
	case "snp-report":
		return []string{"snp.chip"}
	case "tdx-quote":
		return []string{"tdx.platform_instance", "tdx.ppid"}
	case "cca-token":
		return []string{"cca.instance_id"}
	}
	return nil
}

// platform returns the id of the one platform that signed all of got. It is nil
// if an id is masked or if there are several: a list of platforms is then not
// satisfied, since it can't be said of each that it is in the list.
func platform(got []*evidence.Verified) []byte {
	ids, masked := platforms(nil, got)
	if masked || len(ids) != 1 {
		return nil
	}
	return ids[0]
}

// platforms adds the distinct ids of got and its layers to ids, and reports
// whether one has no id that should have one.
func platforms(ids [][]byte, got []*evidence.Verified) ([][]byte, bool) {
	for _, v := range got {
		if names := platformClaims(v.Format); names != nil {
			id := firstID(v.Claims, names)
			if id == nil {
				return nil, true
			}
			if !slices.ContainsFunc(ids, func(x []byte) bool { return bytes.Equal(x, id) }) {
				ids = append(ids, id)
			}
		}
		var masked bool
		if ids, masked = platforms(ids, v.Layers); masked {
			return nil, true
		}
	}
	return ids, false
}

// firstID returns the value of the first of names that is there and not zero.
func firstID(claims evidence.Claims, names []string) []byte {
	found := map[string][]byte{}
	for name, value := range claims.All() {
		if b, ok := value.Bytes(); ok && !zero(b) && slices.Contains(names, name) {
			found[name] = b
		}
	}
	for _, name := range names {
		if id := found[name]; id != nil {
			return id
		}
	}
	return nil
}

// zero reports whether b has no byte that is not zero.
func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
