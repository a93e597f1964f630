package tdx

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// tcbInfo is a verified TCB Info of TDX: what Intel says of the security versions
// of one kind of platform and of the TDX modules that run on it.
type tcbInfo struct {
	document
	fmspc  FMSPC
	pceid  [2]byte
	module moduleIdentity // of a module of version 0

	modules map[uint8]*moduleIdentity // by version
	levels  []platformLevel           // highest first
	sgx     [16]string                // what Intel calls the components
	tdx     [16]string
}

// moduleIdentity says whose a module is and, from version 1, how recent.
type moduleIdentity struct {
	mrsigner                   [48]byte
	attributes, attributesMask [8]byte
	levels                     []enclaveLevel // highest first; none for version 0
}

// platformLevel is the least security versions of a level.
type platformLevel struct {
	sgx    [16]uint8
	pcesvn uint16
	tdx    [16]uint8
	Level
}

// verifyTCBInfo returns the TCB Info that c is, signed below a.
func (v *Verifier) verifyTCBInfo(a *anchor, c evidence.Collateral) (*tcbInfo, error) {
	key := cacheKey{a.sum, sumOf(c)}
	if info, ok := v.infos.Get(key); ok {
		return info, nil
	}
	body, signer, err := v.verifySigned(a, c, "tcbInfo")
	if err != nil {
		return nil, err
	}
	info, err := parseTCBInfo(body, signer)
	if err != nil {
		return nil, err
	}
	v.infos.Put(key, info)
	return info, nil
}

// parseTCBInfo parses a TCB Info of TDX, version 3.
func parseTCBInfo(body []byte, signer *x509.Certificate) (*tcbInfo, error) {
	info, h := &tcbInfo{}, head{}
	err := strictjson.Decode(body, func(d *strictjson.Decoder) {
		d.Object(append(
			h.members(d),
			strictjson.Required("fmspc", func() { hexIn(d, info.fmspc[:]) }),
			strictjson.Required("pceId", func() { hexIn(d, info.pceid[:]) }),
			strictjson.Required("tcbType", func() { d.Uint(0) }),
			strictjson.Required("tdxModule", func() { d.Object(info.module.members(d)...) }),
			strictjson.Optional("tdxModuleIdentities", func() { info.modulesIn(d) }),
			strictjson.Required("tcbLevels", func() { info.levelsIn(d) }),
		)...)
	})
	if err != nil {
		return nil, err
	}
	if err := h.check("TDX", 3); err != nil {
		return nil, err
	}
	info.document = h.document
	info.signer = signer
	return info, nil
}

// members returns those that say whose a module is.
func (m *moduleIdentity) members(d *strictjson.Decoder) []strictjson.Member {
	return []strictjson.Member{
		strictjson.Required("mrsigner", func() { hexIn(d, m.mrsigner[:]) }),
		strictjson.Required("attributes", func() { hexIn(d, m.attributes[:]) }),
		strictjson.Required("attributesMask", func() { hexIn(d, m.attributesMask[:]) }),
	}
}

// modulesIn reads the identities. Documents from before TDX 1.5 have none.
func (info *tcbInfo) modulesIn(d *strictjson.Decoder) {
	info.modules = map[uint8]*moduleIdentity{}
	d.Array(func() {
		m, version := &moduleIdentity{}, uint8(0)
		d.Object(append(
			m.members(d),
			strictjson.Required("id", func() { version = moduleVersionIn(d) }),
			strictjson.Required("tcbLevels", func() { m.levels = enclaveLevelsIn(d) }),
		)...)
		if info.modules[version] != nil || len(info.modules) == maxIdentities {
			d.Fail(errors.New("too many, or two of one version"))
		}
		info.modules[version] = m
	})
}

// moduleVersionIn reads the name of an identity, which is "TDX_" and the version in
// two hexadecimal digits.
func moduleVersionIn(d *strictjson.Decoder) uint8 {
	digits, ok := strings.CutPrefix(strings.ToUpper(string(d.Text())), "TDX_")
	version, err := hex.DecodeString(digits)
	if !ok || err != nil || len(version) != 1 {
		d.Fail(errors.New("not that of a version"))
		return 0
	}
	return version[0]
}

// levelsIn reads the levels and sorts them: the order of the document is not
// relied on.
func (info *tcbInfo) levelsIn(d *strictjson.Decoder) {
	d.Array(func() {
		if len(info.levels) == maxLevels {
			d.Fail(errors.New("too many"))
			return
		}
		info.levels = append(info.levels, info.levelIn(d))
	})
	if len(info.levels) == 0 {
		d.Fail(errors.New("none"))
		return
	}
	slices.SortFunc(info.levels, func(a, b platformLevel) int { return b.compare(a) })
	for i := range info.levels {
		if i > 0 && info.levels[i].compare(info.levels[i-1]) == 0 {
			d.Fail(errors.New("two of one TCB"))
		}
		info.levels[i].Latest = info.levels[0].Date
	}
}

func (info *tcbInfo) levelIn(d *strictjson.Decoder) (l platformLevel) {
	l.Level = levelIn(d, []Status{
		UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded,
		OutOfDate, OutOfDateConfigurationNeeded, Revoked,
	}, func() {
		d.Object(
			strictjson.Required("sgxtcbcomponents", func() { componentsIn(d, &l.sgx, &info.sgx) }),
			strictjson.Required("pcesvn", func() { l.pcesvn = uint16(d.Uint(math.MaxUint16)) }),
			strictjson.Required("tdxtcbcomponents", func() { componentsIn(d, &l.tdx, &info.tdx) }),
		)
	})
	return l
}

// componentsIn reads security versions, and names what they are of that have no
// name yet.
func componentsIn(d *strictjson.Decoder, svns *[abi.SVNs]uint8, names *[abi.SVNs]string) {
	var svn uint8
	var category, kind []byte
	component := []strictjson.Member{ // made once, because there are many
		strictjson.Required("svn", func() { svn = uint8(d.Uint(math.MaxUint8)) }),
		strictjson.Optional("category", func() { category = d.Text() }),
		strictjson.Optional("type", func() { kind = d.Text() }),
	}
	n := 0
	d.Array(func() {
		if n == len(svns) {
			d.Fail(fmt.Errorf("more than %d", n))
			return
		}
		category, kind = nil, nil
		d.Object(component...)
		svns[n] = svn
		if names[n] == "" && len(category)+len(kind) != 0 {
			if name := strings.TrimSpace(string(category) + " " + string(kind)); isText(name) {
				names[n] = name
			}
		}
		n++
	})
	if n != len(svns) {
		d.Fail(fmt.Errorf("%d, not %d", n, len(svns)))
	}
}

// compare orders levels by SGX components, then PCESVN, then TDX components.
func (l platformLevel) compare(m platformLevel) int {
	return cmp.Or(
		bytes.Compare(l.sgx[:], m.sgx[:]),
		cmp.Compare(l.pcesvn, m.pcesvn),
		bytes.Compare(l.tdx[:], m.tdx[:]),
	)
}

// moduleOf returns the identity that a module of a version is held to, or false
// if Intel has published none for it.
func (info *tcbInfo) moduleOf(version uint8) (*moduleIdentity, bool) {
	if version == 0 {
		return &info.module, true
	}
	m, ok := info.modules[version]
	return m, ok
}
