package tdx

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
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

type (
	wireModule struct {
		ID             string                  `json:"id"` // of an identity
		MRSIGNER       string                  `json:"mrsigner"`
		Attributes     string                  `json:"attributes"`
		AttributesMask string                  `json:"attributesMask"`
		Levels         []wireLevel[wireISVSVN] `json:"tcbLevels"` // of an identity
	}
	wireComponent struct {
		SVN      *uint8 `json:"svn"`
		Category string `json:"category"`
		Type     string `json:"type"`
	}
	wireTCB struct {
		SGX    []wireComponent `json:"sgxtcbcomponents"`
		PCESVN *uint16         `json:"pcesvn"`
		TDX    []wireComponent `json:"tdxtcbcomponents"`
	}
)

// parseTCBInfo parses a TCB Info of TDX, version 3.
func parseTCBInfo(body []byte, signer *x509.Certificate) (*tcbInfo, error) {
	var w struct {
		wireHead
		FMSPC   string               `json:"fmspc"`
		PCEID   string               `json:"pceId"`
		TCBType *uint32              `json:"tcbType"`
		Module  wireModule           `json:"tdxModule"`
		Modules []wireModule         `json:"tdxModuleIdentities"`
		Levels  []wireLevel[wireTCB] `json:"tcbLevels"`
	}
	if err := strictjson.UnmarshalKnown(body, &w); err != nil {
		return nil, err
	}
	head, err := w.wireHead.parse("TDX", 3, signer)
	if err != nil {
		return nil, err
	}
	if w.TCBType == nil || *w.TCBType != 0 {
		return nil, errors.New("not tcbType 0")
	}
	info := &tcbInfo{document: head}
	if err := hexTo(info.fmspc[:], w.FMSPC); err != nil {
		return nil, fmt.Errorf("fmspc: %w", err)
	}
	if err := hexTo(info.pceid[:], w.PCEID); err != nil {
		return nil, fmt.Errorf("pceId: %w", err)
	}
	if err := info.module.parse(w.Module); err != nil {
		return nil, fmt.Errorf("tdxModule: %w", err)
	}
	if err := info.parseModules(w.Modules); err != nil {
		return nil, fmt.Errorf("tdxModuleIdentities: %w", err)
	}
	if err := info.parseLevels(w.Levels); err != nil {
		return nil, fmt.Errorf("tcbLevels: %w", err)
	}
	return info, nil
}

func (m *moduleIdentity) parse(w wireModule) error {
	for _, f := range []struct {
		name, text string
		dst        []byte
	}{
		{"mrsigner", w.MRSIGNER, m.mrsigner[:]},
		{"attributes", w.Attributes, m.attributes[:]},
		{"attributesMask", w.AttributesMask, m.attributesMask[:]},
	} {
		if err := hexTo(f.dst, f.text); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// parseModules reads the identities, whose name is "TDX_" and the version in two
// hexadecimal digits. Documents from before TDX 1.5 have none.
func (info *tcbInfo) parseModules(ws []wireModule) error {
	if len(ws) > maxIdentities {
		return fmt.Errorf("%d of them", len(ws))
	}
	info.modules = make(map[uint8]*moduleIdentity, len(ws))
	for _, w := range ws {
		digits, ok := strings.CutPrefix(strings.ToUpper(w.ID), "TDX_")
		version, err := hex.DecodeString(digits)
		if !ok || err != nil || len(version) != 1 {
			return errors.New("id: not that of a version")
		}
		if info.modules[version[0]] != nil {
			return errors.New("two of one version")
		}
		m := &moduleIdentity{}
		if err := m.parse(w); err != nil {
			return err
		}
		if m.levels, err = parseEnclaveLevels(w.Levels); err != nil {
			return err
		}
		info.modules[version[0]] = m
	}
	return nil
}

// parseLevels reads the levels and sorts them: the order of the document is not
// relied on.
func (info *tcbInfo) parseLevels(ws []wireLevel[wireTCB]) error {
	if len(ws) == 0 || len(ws) > maxLevels {
		return fmt.Errorf("%d of them", len(ws))
	}
	for _, w := range ws {
		level, err := w.parse([]Status{
			UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded,
			OutOfDate, OutOfDateConfigurationNeeded, Revoked,
		})
		if err != nil {
			return err
		}
		l := platformLevel{Level: level}
		if w.TCB.PCESVN == nil {
			return errors.New("no pcesvn")
		}
		l.pcesvn = *w.TCB.PCESVN
		if l.sgx, err = parseComponents(w.TCB.SGX, &info.sgx); err != nil {
			return fmt.Errorf("sgxtcbcomponents: %w", err)
		}
		if l.tdx, err = parseComponents(w.TCB.TDX, &info.tdx); err != nil {
			return fmt.Errorf("tdxtcbcomponents: %w", err)
		}
		info.levels = append(info.levels, l)
	}
	slices.SortFunc(info.levels, func(a, b platformLevel) int { return b.compare(a) })
	for i := range info.levels {
		if i > 0 && info.levels[i].compare(info.levels[i-1]) == 0 {
			return errors.New("two of one TCB")
		}
		info.levels[i].Latest = info.levels[0].Date
	}
	return nil
}

// parseComponents returns the security versions in ws and notes what they are of.
func parseComponents(ws []wireComponent, names *[16]string) (svns [abi.SVNs]uint8, err error) {
	if len(ws) != len(svns) {
		return svns, fmt.Errorf("%d of them, not %d", len(ws), len(svns))
	}
	for i, w := range ws {
		if w.SVN == nil {
			return svns, errors.New("no svn")
		}
		svns[i] = *w.SVN
		if name := strings.TrimSpace(w.Category + " " + w.Type); isText(name) {
			names[i] = name
		}
	}
	return svns, nil
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
