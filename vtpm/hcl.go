package vtpm

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// What an HCL blob is made of, all little-endian: a header, the room of a hardware
// report, a description of the runtime data, the runtime data, and zeros.
const (
	hclMagic      = 0x414C4348 // "HCLA"
	hclHeader     = 32
	hclReport     = 1184
	hclDescribed  = 20
	maxHCL        = 64 << 10 // bytes; the NV index has 2600
	hclOfSNP      = 2        // report_type
	hclOfTDX      = 4
	hclSHA256     = 1 // hash_type
	hclDataFormat = 1 // version of the description
)

// Azure is what the paravisor of an Azure VM says of itself and of its TPM: the
// blob in NV index 0x01400001. It owns its memory.
type Azure struct {
	Manifest Manifest // by the version in the header
	AK       *rsa.PublicKey
	EK       *rsa.PublicKey // nil if the runtime data have none

	// UserData is what the guest wrote to NV index 0x01400002 before: 64 bytes,
	// zero if it wrote nothing.
	UserData [64]byte

	// VM is the configuration of the virtual machine, as far as it is text and
	// flags: vmUniqueId, secure-boot and others. Its content is Azure's choice.
	VMID  string
	Flags map[string]bool

	Report  []byte // of SEV-SNP, 1184 bytes; nil for TDX
	Runtime []byte // the runtime data, JSON, as hashed
	format  evidence.Format
}

// ReportData returns what the report is of: SHA-256 of the runtime data, which is
// padded with zeros in REPORT_DATA.
func (a Azure) ReportData() [32]byte { return sha256.Sum256(a.Runtime) }

// ParseHCL parses the blob of Azure's paravisor. For SEV-SNP it has the report
// that is the Evidence below; for TDX, whose quote comes from elsewhere, what it
// has of a report is not looked at. Errors wrap an [*evidence.Error] that is
// Malformed or Unsupported.
func ParseHCL(blob []byte) (Azure, error) {
	malformed := func(err error) (Azure, error) {
		return Azure{}, fail(checkManifest, evidence.Malformed, HCL, err)
	}
	if len(blob) > maxHCL {
		return malformed(fmt.Errorf("%d bytes", len(blob)))
	}
	c := cursor{rest: blob}
	magic, version, size := c.le32(), c.le32(), c.le32()
	_, status, reserved := c.le32(), c.le32(), c.take(12)
	report := c.take(hclReport)
	dataSize, dataFormat, reportType, hashType, length := c.le32(), c.le32(), c.le32(), c.le32(), c.le32()
	if !c.ok() || magic != hclMagic {
		return malformed(errors.New("cut short, or not an HCL blob"))
	}
	a := Azure{Manifest: AzureHCL1}
	switch version {
	case 1:
	case 2:
		a.Manifest = AzureHCL2
	default:
		return Azure{}, fail(checkManifest, evidence.Unsupported, HCL, fmt.Errorf("version %d", version))
	}
	if dataFormat != hclDataFormat || hashType != hclSHA256 {
		return Azure{}, fail(checkManifest, evidence.Unsupported, HCL, fmt.Errorf("runtime data of version %d, hash %d", dataFormat, hashType))
	}
	switch reportType {
	case hclOfSNP:
		a.format, a.Report = formatSNP, slices.Clone(report)
	case hclOfTDX:
		a.format = formatTDX
	default:
		return Azure{}, fail(checkManifest, evidence.Unsupported, HCL, fmt.Errorf("report of type %d", reportType))
	}
	if status != 0 || !zero(reserved) || length > math.MaxInt32 || uint64(dataSize) != hclDescribed+uint64(length) ||
		uint64(size) != hclHeader+hclReport+uint64(dataSize) {
		return malformed(errors.New("lengths that do not agree, or a status"))
	}
	runtime := c.take(int(length))
	if !c.ok() || !zero(c.rest) {
		return malformed(errors.New("cut short, or something behind the runtime data"))
	}
	a.Runtime = slices.Clone(runtime)
	if err := a.parseRuntime(); err != nil {
		return malformed(err)
	}
	return a, nil
}

func zero(b []byte) bool {
	var or byte
	for _, x := range b {
		or |= x
	}
	return or == 0
}

// webKey is a JWK of the runtime data.
type webKey struct {
	id       string
	kty      string
	exponent string
	modulus  strictjson.Base64
}

// parseRuntime parses the runtime data. Members that are not known are Azure's to
// add: all of it is in the digest.
func (a *Azure) parseRuntime() error {
	var top struct {
		Keys []map[string]json.RawMessage
		User *string
		VM   map[string]json.RawMessage
	}
	var raw map[string]json.RawMessage
	if err := strictjson.Unmarshal(a.Runtime, &raw); err != nil {
		return err
	}
	for name, into := range map[string]any{"keys": &top.Keys, "user-data": &top.User, "vm-configuration": &top.VM} {
		if text, ok := raw[name]; ok {
			if err := strictjson.Unmarshal(text, into); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	var err error
	if a.AK, err = keyCalled(top.Keys, "HCLAkPub"); err == nil && a.AK == nil {
		err = errors.New("no HCLAkPub")
	}
	if err != nil {
		return err
	}
	if a.EK, err = keyCalled(top.Keys, "HCLEkPub"); err != nil {
		return err
	}
	if top.User != nil {
		user, err := hex.DecodeString(*top.User)
		if err != nil || len(user) != len(a.UserData) {
			return errors.New("user-data: not 64 bytes in hexadecimal")
		}
		copy(a.UserData[:], user)
	}
	a.configuration(top.VM)
	return nil
}

// configuration takes the flags and the id of the virtual machine.
func (a *Azure) configuration(vm map[string]json.RawMessage) {
	a.Flags = map[string]bool{}
	for name, text := range vm {
		var flag bool
		if strictjson.Unmarshal(text, &flag) == nil {
			a.Flags[name] = flag
		}
	}
	var id string
	if strictjson.Unmarshal(vm["vmUniqueId"], &id) == nil {
		a.VMID = id
	}
}

// keyCalled returns the one RSA key whose kid is id, or nil if there is none.
func keyCalled(keys []map[string]json.RawMessage, id string) (found *rsa.PublicKey, err error) {
	for _, members := range keys {
		var k webKey
		if strictjson.Unmarshal(members["kid"], &k.id) != nil || k.id != id {
			continue
		}
		for name, into := range map[string]any{"kty": &k.kty, "e": &k.exponent, "n": &k.modulus} {
			if err := strictjson.Unmarshal(members[name], into); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", id, name, err)
			}
		}
		if found != nil || k.kty != "RSA" || k.exponent != "AQAB" {
			return nil, fmt.Errorf("%s: not one RSA key with the exponent 65537", id)
		}
		if found, err = newRSA(k.modulus); err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
	}
	return found, nil
}
