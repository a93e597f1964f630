package vtpm_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// Where fields of TPMS_ATTEST are, in a quote that has 64 bytes of extraData.
const (
	atMagic  = 0
	atType   = 4
	atSigner = 6
	atExtra  = atSigner + 2 + 34
	atClock  = atExtra + 2 + 64
	atSafe   = atClock + 16
	atSelect = atSafe + 1 + 8
)

// Signed by a good AK, and not a quote.
func TestQuoteRefused(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	v := w.newVerifier(t, w.ecc)
	put := func(at int, bs ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], bs); return b }
	}
	// selection replaces TPML_PCR_SELECTION, of one bank with three bytes.
	selection := func(list ...byte) func([]byte) []byte {
		return func(b []byte) []byte {
			rest := bytes.Clone(b[atSelect+4+6:])
			return append(append(b[:atSelect:atSelect], list...), rest...)
		}
	}
	for name, tt := range map[string]struct {
		edit   func([]byte) []byte
		check  string
		reason evidence.Reason
	}{
		"another magic":            {put(atMagic, 0), "magic", evidence.Malformed},
		"TPM_ST_ATTEST_CERTIFY":    {put(atType, 0x80, 0x17), "type", evidence.Unsupported},
		"a type that is none":      {put(atType, 0xFF, 0xFF), "type", evidence.Unsupported},
		"a signer beyond the end":  {put(atSigner, 0xFF, 0xFF), "selection", evidence.Malformed},
		"extraData beyond the end": {put(atExtra, 0xFF, 0xFF), "selection", evidence.Malformed},
		"a flag that is none":      {put(atSafe, 2), "quote", evidence.Malformed},
		"bytes behind":             {func(b []byte) []byte { return append(b, 0) }, "quote", evidence.Malformed},
		"a byte less":              {func(b []byte) []byte { return b[:len(b)-1] }, "quote", evidence.Malformed},
		"no bank":                  {selection(0, 0, 0, 0), "selection", evidence.Malformed},
		"an empty bank":            {selection(0, 0, 0, 1, 0, 11, 3, 0, 0, 0), "selection", evidence.Malformed},
		"a bank twice":             {selection(0, 0, 0, 2, 0, 11, 3, 1, 0, 0, 0, 11, 3, 2, 0, 0), "selection", evidence.Malformed},
		"a bank twice, once empty": {selection(0, 0, 0, 2, 0, 11, 3, 0, 0, 0, 0, 11, 3, 1, 0, 0), "selection", evidence.Malformed},
		"a bank of SHA-1":          {selection(0, 0, 0, 1, 0, 4, 3, 1, 0, 0), "selection", evidence.Unsupported},
		"a bank that is none":      {selection(0, 0, 0, 1, 0xFF, 0xFF, 3, 1, 0, 0), "selection", evidence.Unsupported},
		"a selection of 2 bytes":   {selection(0, 0, 0, 1, 0, 11, 2, 1, 0), "selection", evidence.Malformed},
		"a selection of 4 bytes":   {selection(0, 0, 0, 1, 0, 11, 4, 1, 0, 0, 0), "selection", evidence.Malformed},
		"many banks":               {selection(0xFF, 0xFF, 0xFF, 0xFF), "selection", evidence.Malformed},
		"more banks than there":    {selection(0, 0, 0, 3, 0, 11, 3, 1, 0, 0), "selection", evidence.Malformed},
		"another selection":        {selection(0, 0, 0, 1, 0, 11, 3, 1, 0, 0), "pcrs", evidence.Malformed},
		"one PCR for another":      {selection(0, 0, 0, 1, 0, 11, 3, 0xFF, 3, 8), "", ""},
		"another digest":           {func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "pcrs", evidence.BadSignature},
		"as large as can be":       {func(b []byte) []byte { return append(b, make([]byte, 3000)...) }, "quote", evidence.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			ev := w.svsm(w.ecc).Evidence(vtpmtest.Quote{Edit: tt.edit}, want)
			if tt.check == "" { // as many PCRs, of which all are zero: a good quote of others
				c, _ := claimsOf(t, v, ev, want)
				if _, ok := c.PCR(vtpm.PCR{Bank: vtpm.SHA256, Index: 10}); ok {
					t.Error("PCR 10 has a value")
				}
				return
			}
			refused(t, v, ev, want, tt.check, tt.reason)
		})
	}
}

// Signatures that are none, of another scheme, or too large.
func TestSignatureRefused(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	v := w.newVerifier(t, w.ecc)
	good, _ := w.ecc.Quote(vtpmtest.Quote{}, want)
	attest := int(binary.BigEndian.Uint16(good)) + 2
	with := func(sig ...byte) func([]byte) []byte {
		return func(raw []byte) []byte { return append(raw[:attest:attest], sig...) }
	}
	for name, tt := range map[string]struct {
		fault  func([]byte) []byte
		check  string
		reason evidence.Reason
	}{
		"none":                  {with(), "quote", evidence.Malformed},
		"TPM_ALG_NULL":          {with(0, 0x10, 0, 0x0B), "scheme", evidence.Unsupported},
		"RSAPSS":                {with(0, 0x16, 0, 0x0B, 0, 0), "scheme", evidence.Unsupported},
		"HMAC":                  {with(0, 5, 0, 0x0B), "scheme", evidence.Unsupported},
		"SHA-1":                 {with(0, 0x18, 0, 4, 0, 0, 0, 0), "scheme", evidence.Unsupported},
		"RSASSA of an ECC key":  {with(0, 0x14, 0, 0x0B, 0, 1, 1), "signature", evidence.BadSignature},
		"scalars of no bytes":   {with(0, 0x18, 0, 0x0B, 0, 0, 0, 0), "signature", evidence.BadSignature},
		"scalars of many bytes": {with(append([]byte{0, 0x18, 0, 0x0B, 0, 67}, make([]byte, 67+2)...)...), "quote", evidence.Malformed},
		"beyond the end":        {with(0, 0x18, 0, 0x0B, 0xFF, 0xFF), "quote", evidence.Malformed},
		"bytes behind":          {func(raw []byte) []byte { return append(raw, 0) }, "quote", evidence.Malformed},
		"a megabyte behind":     {func(raw []byte) []byte { return append(raw, make([]byte, 1<<20)...) }, "quote", evidence.Malformed},
		"of SHA-384":            {with(append([]byte{0, 0x18, 0, 0x0C}, good[attest+4:]...)...), "pcrs", evidence.BadSignature},
		"nothing":               {func([]byte) []byte { return nil }, "quote", evidence.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, v, w.svsm(w.ecc).Evidence(vtpmtest.Quote{Fault: tt.fault}, want), want, tt.check, tt.reason)
		})
	}
}

// However short quote, items and blobs are cut, they are refused and nothing panics.
func TestCutShort(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	for name, good := range map[string]evidence.Evidence{
		"SVSM": w.svsm(w.ecc).Evidence(vtpmtest.Quote{}, want), "Azure": w.azure().Evidence(vtpmtest.Quote{}, want),
	} {
		v := w.newVerifier(t, w.ecc)
		for n := range len(good.Raw) {
			bad := good
			bad.Raw = good.Raw[:n]
			if _, err := v.Verify(t.Context(), bad, want); err == nil {
				t.Fatalf("%s: a quote of %d bytes", name, n)
			}
		}
		for _, i := range good.Items {
			for n := range len(i.Data) {
				cut := with(good, i.Type, i.Data[:n])
				if _, err := v.Verify(t.Context(), cut, want); err == nil {
					if i.Type == vtpm.HCL && len(bytes.Trim(i.Data[n:], "\x00")) == 0 {
						break // the room behind the runtime data
					}
					t.Fatalf("%s: %s of %d bytes", name, i.Type, n)
				}
			}
		}
	}
}

// Items that do not go together, and evidence that is not of this format.
func TestItemsRefused(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	v := w.newVerifier(t, w.ecc)
	good, azure := w.svsm(w.ecc).Evidence(vtpmtest.Quote{}, want), w.azure().Evidence(vtpmtest.Quote{}, want)
	add := func(ev evidence.Evidence, kind string, data []byte) evidence.Evidence {
		ev.Items = append(ev.Items[:len(ev.Items):len(ev.Items)], evidence.Item{Type: kind, Data: data})
		return ev
	}
	layers := func(ls ...evidence.Evidence) evidence.Evidence { ev := good; ev.Layers = ls; return ev }
	format := good
	format.Format = "vtpm-quote"
	for name, tt := range map[string]struct {
		ev     evidence.Evidence
		check  string
		reason evidence.Reason
	}{
		"another format":          {format, "format", evidence.Unsupported},
		"no report":               {layers(), "format", evidence.Malformed},
		"two reports":             {layers(good.Layers[0], good.Layers[0]), "format", evidence.Malformed},
		"a report of no format":   {layers(evidence.Evidence{}), "platform", evidence.Unsupported},
		"an unknown item":         {add(good, strings.Repeat("x", 1<<20), nil), "items", evidence.Malformed},
		"an item twice":           {add(good, vtpm.PCRs, nil), "items", evidence.Malformed},
		"no PCR values":           {without(good, vtpm.PCRs), "items", evidence.Malformed},
		"no AK":                   {without(good, vtpm.AK), "items", evidence.Malformed},
		"no nonce":                {without(good, vtpm.SVSMNonce), "items", evidence.Malformed},
		"a nonce of 32 bytes":     {with(good, vtpm.SVSMNonce, make([]byte, 32)), "items", evidence.Malformed},
		"no manifest":             {without(good, vtpm.SVSMManifest), "items", evidence.Malformed},
		"two manifests":           {add(good, vtpm.SVSMServices, nil), "items", evidence.Malformed},
		"manifest and blob":       {add(without(good, vtpm.AK), vtpm.HCL, item(azure, vtpm.HCL)), "items", evidence.Malformed},
		"an EK beside a manifest": {add(good, vtpm.EK, w.ecc.EK()), "items", evidence.Malformed},
		"a blob with an AK":       {add(azure, vtpm.AK, w.rsa.AK()), "items", evidence.Malformed},
		"a blob with a nonce":     {add(azure, vtpm.SVSMNonce, make([]byte, 64)), "items", evidence.Malformed},
		"a large manifest":        {with(good, vtpm.SVSMManifest, make([]byte, 1<<20)), "items", evidence.Malformed},
		"an AK of another type":   {with(good, vtpm.AK, append([]byte{0, 14, 0, 8, 0, 11}, make([]byte, 10)...)), "items", evidence.Unsupported},
		"an AK with SHA-1":        {with(good, vtpm.AK, append([]byte{0, 14, 0, 35, 0, 4}, make([]byte, 10)...)), "items", evidence.Unsupported},
		"an AK of no bytes":       {with(good, vtpm.AK, nil), "items", evidence.Malformed},
		"an AK that takes any":    {with(good, vtpm.AK, vtpmtest.NewTPM(vtpmtest.ECC, nil, anyScheme).AK()), "ak", evidence.Unsupported},
		"PCR values too many":     {with(good, vtpm.PCRs, append(bytes.Clone(item(good, vtpm.PCRs)), 0)), "pcrs", evidence.Malformed},
		"other PCR values":        {with(good, vtpm.PCRs, bytes.Repeat([]byte{1}, 11*32)), "pcrs", evidence.BadSignature},
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, tt.ev, want, tt.check, tt.reason) })
	}
}

// anyScheme makes of an AK one that signs with any scheme.
func anyScheme(p *tpm2.TPMTPublic) {
	p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})
}

// Tables of services with an entry that lies, which the hardware vouches for.
func TestServicesRefused(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	v := w.newVerifier(t, w.ecc)
	put := func(at int, n uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], n); return b }
	}
	services := func(ss ...vtpmtest.Service) func([]byte) []byte {
		return func([]byte) []byte { return vtpmtest.Table(ss...) }
	}
	device, other := vtpmtest.VTPM(w.ecc), vtpmtest.UEFIMM()
	for name, tt := range map[string]struct {
		edit   func([]byte) []byte
		reason evidence.Reason
	}{
		"another table":           {func(b []byte) []byte { b[0]++; return b }, evidence.Unsupported},
		"a length too small":      {put(16, 24), evidence.Malformed},
		"a length too large":      {put(16, 0xFFFFFFFF), evidence.Malformed},
		"no services":             {put(20, 0), evidence.Malformed},
		"many services":           {put(20, 0xFFFFFFFF), evidence.Malformed},
		"an entry in the head":    {put(24+16, 0), evidence.Malformed},
		"an entry beyond the end": {put(24+16, 0xFFFFFFF0), evidence.Malformed},
		"an entry too long":       {put(24+20, 0xFFFFFFFF), evidence.Malformed},
		"an entry of no bytes":    {put(24+20, 0), evidence.Malformed},
		"entries that overlap":    {put(24+24+16, 72), evidence.Malformed},
		"bytes of no service":     {func(b []byte) []byte { return put(16, uint32(len(b)+1))(append(b, 0)) }, evidence.Malformed},
		"no vTPM":                 {services(other), evidence.Malformed},
		"two vTPMs":               {services(device, device), evidence.Malformed},
		"a vTPM that is none":     {services(vtpmtest.Service{GUID: device.GUID, Manifest: other.Manifest}), evidence.Malformed},
		"a vTPM of no bytes":      {services(vtpmtest.Service{GUID: device.GUID}), evidence.Malformed},
		"a single manifest":       {func([]byte) []byte { return device.Manifest }, evidence.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.svsm(w.ecc)
			s.Services, s.Manifest = true, tt.edit
			refused(t, v, s.Evidence(vtpmtest.Quote{}, want), want, "manifest", tt.reason)
		})
	}
	s := w.svsm(w.ecc)
	s.Services, s.Manifest = true, services(other, device)
	claimsOf(t, v, s.Evidence(vtpmtest.Quote{}, want), want)
}

// Blobs with lengths that lie, and runtime data that the hardware vouches for but
// that are not what they should be.
func TestHCLRefused(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	v := w.newVerifier(t)
	put := func(at int, n uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], n); return b }
	}
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Errorf("no %s", old)
			}
			return bytes.ReplaceAll(b, []byte(old), []byte(new))
		}
	}
	var a vtpmtest.Azure
	for name, tt := range map[string]struct {
		blob, runtime func([]byte) []byte
		check         string
		reason        evidence.Reason
	}{
		"another magic":           {put(0, 0), nil, "manifest", evidence.Malformed},
		"version 0":               {put(4, 0), nil, "manifest", evidence.Unsupported},
		"version 3":               {put(4, 3), nil, "manifest", evidence.Unsupported},
		"a size too small":        {put(8, 32), nil, "manifest", evidence.Malformed},
		"a size too large":        {put(8, 0xFFFFFFFF), nil, "manifest", evidence.Malformed},
		"a status":                {put(16, 1), nil, "manifest", evidence.Malformed},
		"reserved bytes":          {put(28, 1), nil, "manifest", evidence.Malformed},
		"another report in it":    {put(32+0x90, 1), nil, "platform", evidence.NotBound},
		"data of no bytes":        {put(1216, 0), nil, "manifest", evidence.Malformed},
		"data beyond the end":     {put(1216, 0xFFFFFFFF), nil, "manifest", evidence.Malformed},
		"data of another version": {put(1220, 2), nil, "manifest", evidence.Unsupported},
		"a report of TDX":         {put(1224, 4), nil, "platform", evidence.Unsupported},
		"a report of no type":     {put(1224, 3), nil, "manifest", evidence.Unsupported},
		"another hash":            {put(1228, 2), nil, "manifest", evidence.Unsupported},
		"a length of no bytes":    {put(1232, 0), nil, "manifest", evidence.Malformed},
		"a length beyond the end": {put(1232, 0xFFFFFFFF), nil, "manifest", evidence.Malformed},
		"a length of 31 bits":     {put(1232, 0x7FFFFFFF), nil, "manifest", evidence.Malformed},
		"all lengths lie alike": {func(b []byte) []byte {
			n := binary.LittleEndian.Uint32(b[1232:]) + 5000
			put(8, n+1236)(b)
			put(1216, n+20)(b)
			return put(1232, n)(b)
		}, nil, "manifest", evidence.Malformed},
		"one byte less": {func(b []byte) []byte {
			n := binary.LittleEndian.Uint32(b[1232:]) - 1
			put(8, n+1236)(b)
			put(1216, n+20)(b)
			return put(1232, n)(b)
		}, nil, "manifest", evidence.Malformed},
		"something behind": {func(b []byte) []byte { b[len(b)-1] = 1; return b }, nil, "manifest", evidence.Malformed},
		"too large":        {func(b []byte) []byte { return append(b, make([]byte, 1<<16)...) }, nil, "items", evidence.Malformed},
		"no JSON":          {nil, func([]byte) []byte { return []byte("x") }, "manifest", evidence.Malformed},
		"a list":           {nil, func([]byte) []byte { return []byte("[]") }, "manifest", evidence.Malformed},
		"nothing in it":    {nil, func([]byte) []byte { return []byte("{}") }, "manifest", evidence.Malformed},
		"no AK":            {nil, replace("HCLAkPub", "HCLOther"), "manifest", evidence.Malformed},
		"two AKs":          {nil, replace("HCLEkPub", "HCLAkPub"), "manifest", evidence.Malformed},
		"AK and EK swapped": {nil, func(b []byte) []byte {
			return replace("HCLXxPub", "HCLEkPub")(replace("HCLEkPub", "HCLAkPub")(replace("HCLAkPub", "HCLXxPub")(b)))
		}, "signature", evidence.BadSignature},
		"an AK that is no RSA":   {nil, replace(`"kty":"RSA"`, `"kty":"EC"`), "manifest", evidence.Malformed},
		"an exponent of three":   {nil, replace(`"e":"AQAB"`, `"e":"Aw"`), "manifest", evidence.Malformed},
		"no modulus":             {nil, replace(`"n":"`, `"m":"`), "manifest", evidence.Malformed},
		"a modulus that is none": {nil, replace(`"n":"`, `"n":"!`), "manifest", evidence.Malformed},
		"a short modulus": {nil, func(b []byte) []byte {
			return []byte(`{"keys":[{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":"AQAB"}]}`)
		}, "manifest", evidence.Malformed},
		"a member twice":         {nil, replace(`"user-data":`, `"keys":[],"user-data":`), "manifest", evidence.Malformed},
		"short user data":        {nil, replace(`"user-data":"00`, `"user-data":"`), "manifest", evidence.Malformed},
		"user data that is none": {nil, replace(`"user-data":"00`, `"user-data":"xx`), "manifest", evidence.Malformed},
		"keys that are no list":  {nil, replace(`"keys":[`, `"keys":0,"k":[`), "manifest", evidence.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			a = w.azure()
			a.Blob, a.Runtime = tt.blob, tt.runtime
			refused(t, v, a.Evidence(vtpmtest.Quote{}, want), want, tt.check, tt.reason)
		})
	}
	for name, edit := range map[string]func([]byte) []byte{
		"other members": replace(`"user-data":`, `"new":{"a":[1]},"user-data":`), "no user data": replace(`"user-data":`, `"other":`),
	} {
		a = w.azure()
		a.Runtime, a.Version = edit, 1
		if c, _ := claimsOf(t, v, a.Evidence(vtpmtest.Quote{}, want), want); c.Manifest() != vtpm.AzureHCL1 {
			t.Errorf("%s: %s", name, c.Manifest())
		}
	}
}

// What our parser takes of a public area is what that of go-tpm takes.
func TestPublicIsThatOfGoTPM(t *testing.T) {
	w := theWorld()
	for _, d := range []*vtpmtest.TPM{w.rsa, w.ecc} {
		for _, b := range [][]byte{d.EK(), d.AK()} {
			ours, err := vtpm.ParsePublic(b)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := tpm2.Unmarshal[tpm2.TPMTPublic](b[2:])
			if err != nil {
				t.Fatal(err)
			}
			name, err := tpm2.ObjectName(theirs)
			if err != nil {
				t.Fatal(err)
			}
			key, err := tpm2.Pub(*theirs)
			if err != nil {
				t.Fatal(err)
			}
			if string(ours.Name) != string(name.Buffer) || vtpm.KeyDigest(ours.Key) != vtpm.KeyDigest(key) || !bytes.Equal(ours.Marshal(), b) {
				t.Errorf("%x: another name or key", ours.Name)
			}
		}
	}
}
