package tdx_test

import (
	"encoding/hex"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// today is when everything of a fake is valid.
var today = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fake is a simulated platform that is held to documents of a test's own, of which
// a test may leave out or replace any member before it asks for evidence and
// collateral.
type fake struct {
	t              testing.TB
	intel          *tdxtest.Intel
	platform       *tdxtest.Platform
	td             tdxtest.TD
	info, identity object
	rootCRL        tdxtest.CRL
	pckCRL         tdxtest.CRL
}

var fakeFMSPC = tdx.FMSPC{0x90, 0xC0, 0x6F, 1, 2, 3}

// newFake returns a platform that is UpToDate, with a quote of version 5 and a TD
// report 1.5 of module 1.7.
func newFake(t testing.TB) *fake {
	f := &fake{t: t, intel: &tdxtest.Intel{Time: at(today)}, td: tdxtest.TD{Version: abi.V5}}
	f.setCA(tdx.PlatformCA)
	f.info, f.identity = infoTemplate(), identityTemplate(f.platform.QE)
	f.rootCRL = tdxtest.CRL{ThisUpdate: today.AddDate(0, 0, -1), NextUpdate: today.AddDate(0, 0, 29)}
	f.pckCRL = f.rootCRL
	f.pckCRL.By = tdxtest.PlatformCA
	return f
}

// setCA makes the fake another platform, whose certificate ca issues.
func (f *fake) setCA(ca tdx.CA) {
	f.platform = f.intel.Platform(ca)
	p := &f.platform.PCK
	p.Components[7], p.PCESVN, p.FMSPC = 255, 0x1234, fakeFMSPC
	f.platform.QE.ISVSVN = 8
	f.platform.Launched, f.platform.Running = tdx.SVN{7, 1, 3}, tdx.SVN{7, 1, 3}
	f.pckCRL.By = map[tdx.CA]tdxtest.Authority{tdx.PlatformCA: tdxtest.PlatformCA, tdx.ProcessorCA: tdxtest.ProcessorCA}[ca]
}

// revokePCK makes the list of the CA have the platform.
func (f *fake) revokePCK() {
	f.pckCRL.Revoked = []*big.Int{new(big.Int).SetBytes(f.platform.PCK.Serial)}
}

type object = map[string]any

func svns(b ...int) []any {
	var list []any
	for i := range 16 {
		svn := 0
		if i < len(b) {
			svn = b[i]
		}
		list = append(list, object{"svn": svn, "category": "BIOS"})
	}
	return list
}

func level(status, date string, tcb object) object {
	return object{"tcb": tcb, "tcbDate": date + "T00:00:00Z", "tcbStatus": status}
}

// infoTemplate is the TCB Info by which the fake is UpToDate.
func infoTemplate() object {
	module := func() object {
		return object{"mrsigner": strings.Repeat("00", 48), "attributes": strings.Repeat("00", 8), "attributesMask": strings.Repeat("FF", 8)}
	}
	v1 := module()
	v1["id"] = "TDX_01"
	v1["tcbLevels"] = []any{level("OutOfDate", "2024-01-01", object{"isvsvn": 2}), level("UpToDate", "2025-06-01", object{"isvsvn": 5})}
	old := level("OutOfDate", "2023-01-01", object{"sgxtcbcomponents": svns(1, 1), "pcesvn": 5, "tdxtcbcomponents": svns(3, 0, 1)})
	old["advisoryIDs"] = []any{"INTEL-SA-00002", "INTEL-SA-00001"}
	return object{
		"id": "TDX", "version": 3, "issueDate": "2026-02-20T00:00:00Z", "nextUpdate": "2026-03-20T00:00:00Z",
		"fmspc": hex.EncodeToString(fakeFMSPC[:]), "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 18,
		"tdxModule": module(), "tdxModuleIdentities": []any{v1},
		"tcbLevels": []any{
			old, // lower than the next: the order means nothing
			level("UpToDate", "2025-03-01", object{"sgxtcbcomponents": svns(3, 3, 2, 2, 4, 1, 0, 5), "pcesvn": 0x1234, "tdxtcbcomponents": svns(5, 0, 3)}),
		},
	}
}

// identityTemplate is the QE identity by which the fake is UpToDate.
func identityTemplate(qe tdx.QE) object {
	return object{
		"id": "TD_QE", "version": 2, "issueDate": "2026-02-21T00:00:00Z", "nextUpdate": "2026-03-21T00:00:00Z", "tcbEvaluationDataNumber": 18,
		"miscselect": "00000000", "miscselectMask": "FFFFFFFF",
		"attributes": "11000000000000000000000000000000", "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
		"mrsigner": strings.ToUpper(hex.EncodeToString(qe.MRSIGNER[:])), "isvprodid": 2,
		"tcbLevels": []any{level("Revoked", "2023-01-01", object{"isvsvn": 1}), level("UpToDate", "2025-04-01", object{"isvsvn": 6}), level("OutOfDate", "2024-04-01", object{"isvsvn": 4})},
	}
}

// document returns body as Intel publishes it, signed by the TCB signer.
func (f *fake) document(member string, body any) evidence.Collateral {
	f.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.intel.Sign(member, b)
}

// source returns all collateral.
func (f *fake) source() files {
	return files{
		tdx.TCBInfoName(fakeFMSPC):        {f.document(tdxtest.MemberTCBInfo, f.info)},
		tdx.QEIdentityName():              {f.document(tdxtest.MemberQEIdentity, f.identity)},
		tdx.RootCRLName():                 {f.intel.SignCRL(f.rootCRL)},
		tdx.PCKCRLName(f.platform.PCK.CA): {f.intel.SignCRL(f.pckCRL)},
	}
}

// config returns the configuration that trusts the fake.
func (f *fake) config() tdx.Config {
	return tdx.Config{Anchors: f.intel.Anchors(), Source: f.source(), Time: at(today)}
}

// quote returns the quote, signed by everyone.
func (f *fake) quote() []byte { return f.platform.Quote(f.td, simulatedBinding(f.t)).Raw }

// verify verifies the quote of the fake, with everything the fake has.
func (f *fake) verify() (*evidence.Verified, error) {
	f.t.Helper()
	return f.verifyQuote(f.config(), f.quote())
}

func (f *fake) verifyQuote(cfg tdx.Config, raw []byte) (*evidence.Verified, error) {
	f.t.Helper()
	return newVerifier(f.t, cfg).Verify(f.t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, simulatedBinding(f.t))
}

// claims returns the claims of the quote of the fake.
func (f *fake) claims() *tdx.Claims {
	f.t.Helper()
	got, err := f.verify()
	if err != nil {
		f.t.Fatal(err)
	}
	c, ok := tdx.ClaimsOf(got)
	if !ok {
		f.t.Fatal("no claims")
	}
	return c
}
