package main

import (
	"bytes"
	"encoding/pem"
	"math/rand/v2"
	"slices"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/uuid"

	"github.com/teebroker/teebroker/snp/snptest"
)

// slot returns the GUID under which a table has the certificate for the
// SIGNING_KEY of report.
func slot(report []byte) [16]byte {
	if len(report) > offsetKeyInfo && report[offsetKeyInfo]>>2&7 == 1 {
		return uuid.MustParse(abi.VlekGUID)
	}
	return uuid.MustParse(abi.VcekGUID)
}

// otherSlot returns the one of the two slots that guid is not.
func otherSlot(guid [16]byte) [16]byte {
	if guid == uuid.MustParse(abi.VlekGUID) {
		return uuid.MustParse(abi.VcekGUID)
	}
	return uuid.MustParse(abi.VlekGUID)
}

// changeTable changes how the certificates come. It leaves offsets and lengths
// right: those that are not are for the fuzz tests of each.
func changeTable(c *testCase, r *rand.Rand) string {
	first := c.entries[0]
	switch r.IntN(8) {
	case 0:
		c.entries[0].GUID = otherSlot(first.GUID)
		return "certificate under the other GUID"
	case 1:
		e := pick(r, c.base.world.pool)
		c.entries = append(c.entries, snptest.Entry{GUID: otherSlot(first.GUID), Data: e.der})
		return "under the other GUID: " + e.name
	case 2:
		e := pick(r, c.base.world.pool)
		c.entries = []snptest.Entry{{GUID: first.GUID, Data: e.der}, {GUID: otherSlot(first.GUID), Data: first.Data}}
		return "certificate under the other GUID, under its own " + e.name
	case 3:
		e := pick(r, c.base.world.pool)
		at := r.IntN(2)
		c.entries = slices.Insert(c.entries, at, snptest.Entry{GUID: first.GUID, Data: e.der})
		return "under the same GUID too: " + e.name
	case 4:
		c.entries = append(c.entries, snptest.Entry{GUID: [16]byte{1, 2, 3}, Data: []byte("unknown")})
		return "an entry nobody knows"
	case 5:
		for i := range c.entries {
			c.entries[i].Data = nil
		}
		return "certificates empty"
	case 6:
		c.entries = []snptest.Entry{{GUID: [16]byte{1, 2, 3}, Data: first.Data}}
		return "no certificate under a known GUID"
	default:
		for i := range c.entries {
			if !bytes.HasPrefix(c.entries[i].Data, []byte("-----")) {
				c.entries[i].Data = toPEM("CERTIFICATE", c.entries[i].Data)
			}
		}
		return "certificates in PEM"
	}
}

func toPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
