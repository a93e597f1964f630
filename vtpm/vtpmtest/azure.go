package vtpmtest

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
)

// Azure is a confidential VM of Azure, whose paravisor runs the TPM.
type Azure struct {
	// Report returns the report or quote of the TEE for data, such as that of a
	// snptest.Chip or a tdxtest.Platform.
	Report func(data evidence.Binding) evidence.Evidence
	TDX    bool // Report is of TDX
	TPM    *TPM // of kind RSA

	UserData [64]byte
	Version  uint32 // of the header; if zero, 2

	// Runtime changes the runtime data before the report is made of them, and Blob
	// the blob after that.
	Runtime, Blob func([]byte) []byte

	// Items changes what comes along.
	Items func([]evidence.Item) []evidence.Item
}

// RuntimeData returns what the paravisor says.
func (a Azure) RuntimeData() []byte {
	type key struct {
		ID  string   `json:"kid"`
		Ops []string `json:"key_ops"`
		Kty string   `json:"kty"`
		E   string   `json:"e"`
		N   string   `json:"n"`
	}
	of := func(id, op string, k any) key {
		return key{id, []string{op}, "RSA", "AQAB", base64.RawURLEncoding.EncodeToString(k.(*rsa.PublicKey).N.Bytes())}
	}
	b := must(json.Marshal(map[string]any{
		"keys": []key{of("HCLAkPub", "sign", a.TPM.AKKey()), of("HCLEkPub", "encrypt", a.TPM.EKKey())},
		"vm-configuration": map[string]any{
			"console-enabled": true, "secure-boot": true, "tpm-enabled": true, "tpm-persisted": true,
			"vmUniqueId": "26F8BC30-774E-4290-8E7A-535F3B672AEE",
		},
		"user-data": hex.EncodeToString(a.UserData[:]),
	}))
	if a.Runtime != nil {
		b = a.Runtime(b)
	}
	return b
}

// Evidence returns a quote for data with the report of the TEE below it. more comes
// along.
func (a Azure) Evidence(q Quote, data evidence.Binding, more ...evidence.Item) evidence.Evidence {
	runtime := a.RuntimeData()
	sum := sha256.Sum256(runtime)
	report := a.Report(must(evidence.NewBinding(sum[:])))
	raw, pcrs := a.TPM.Quote(q, data)
	items := append([]evidence.Item{{Type: vtpm.HCL, Data: a.blob(runtime, report.Raw)}, {Type: vtpm.PCRs, Data: pcrs}}, more...)
	if a.Items != nil {
		items = a.Items(items)
	}
	return evidence.Evidence{Format: vtpm.Format, Raw: raw, Items: items, Layers: []evidence.Evidence{report}}
}

// blob returns the content of the NV index.
func (a Azure) blob(runtime, report []byte) []byte {
	const room, size = 1184, 2600
	version, kind := a.Version, uint32(2)
	if version == 0 {
		version = 2
	}
	held := make([]byte, room)
	if a.TDX {
		kind = 4
	} else {
		copy(held, report)
	}
	b := binary.LittleEndian.AppendUint32(nil, 0x414C4348)
	for _, n := range []uint32{version, uint32(32 + room + 20 + len(runtime)), 2, 0, 0, 0, 0} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = append(b, held...)
	for _, n := range []uint32{uint32(20 + len(runtime)), 1, kind, 1, uint32(len(runtime))} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = append(b, runtime...)
	if len(b) < size {
		b = append(b, make([]byte, size-len(b))...)
	}
	if a.Blob != nil {
		b = a.Blob(b)
	}
	return b
}
