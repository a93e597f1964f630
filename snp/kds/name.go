package kds

import (
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"

	"github.com/teebroker/teebroker/snp"
)

// ChainName returns the name of the certificates of the CA that issues keys of
// kind on line, and of its root, in PEM. It is "" for no Line or no KeyKind.
//
// No Verifier asks for it, since trust anchors never come from a Source. It is for
// tools that show what AMD publishes.
func ChainName(line snp.Line, kind snp.KeyKind) string {
	if list := snp.CRLName(line, kind); list != "" {
		return strings.TrimSuffix(list, "crl") + "cert_chain"
	}
	return ""
}

// what a name is of.
type what int

const (
	ofVCEK what = 1 + iota
	ofList
	ofChain
)

// name is a name that was read, and written anew.
type name struct {
	kind what
	name string
	line snp.Line
	key  snp.KeyKind
}

// maxName bounds names in bytes. Those of VCEKs have less than 210.
const maxName = 256

// parseName returns the name that text is, or false. There is one spelling of each.
func parseName(text string) (name, bool) {
	if len(text) > maxName {
		return name{}, false
	}
	for line := snp.Milan; line <= snp.Turin; line++ {
		for _, key := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
			switch text {
			case snp.CRLName(line, key):
				return name{ofList, snp.CRLName(line, key), line, key}, true
			case ChainName(line, key):
				return name{ofChain, ChainName(line, key), line, key}, true
			}
		}
		if vcek, ok := parseVCEK(text, line); ok {
			return name{ofVCEK, vcek, line, snp.VCEK}, true
		}
	}
	return name{}, false
}

// parseVCEK returns the name of the VCEK that text names on line, or false.
func parseVCEK(text string, line snp.Line) (string, bool) {
	rest, ok := strings.CutPrefix(text, "/vcek/v1/"+line.String()+"/")
	if !ok {
		return "", false
	}
	id, query, _ := strings.Cut(rest, "?")
	var chip snp.ChipID
	if hex.DecodedLen(len(id)) > len(chip) {
		return "", false
	}
	if _, err := hex.Decode(chip[:], []byte(id)); err != nil || chip == (snp.ChipID{}) {
		return "", false
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", false
	}
	level := func(key string) uint8 {
		n, _ := strconv.ParseUint(values.Get(key), 10, 8)
		return uint8(n)
	}
	tcb := snp.TCB{
		Line: line, FMC: level("fmcSPL"),
		Bootloader: level("blSPL"), TEE: level("teeSPL"), Firmware: level("snpSPL"), Microcode: level("ucodeSPL"),
	}
	// Whatever else text says, or says otherwise, is not in the name of tcb.
	name := snp.VCEKName(chip, tcb)
	return name, name == text
}
