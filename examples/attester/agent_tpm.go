package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/teebroker/teebroker/internal/swtpm"
	"github.com/teebroker/teebroker/vtpm"
)

// guestTPM is the TPM of a guest, with its endorsement key and an attestation key.
type guestTPM struct {
	transport.TPM
	close []func() error

	ek, ak           tpm2.NamedHandle
	ekPublic, akFull []byte // TPM2B_PUBLIC
}

// ekHandle is where a TPM that was provisioned has its EK: TCG EK Credential Profile,
// section 2.2.1.5.1.
const ekHandle tpm2.TPMHandle = 0x81010001

// akTemplate is a restricted signing key of ECC P-256. A TPM makes the same key of it
// at each start, as long as it keeps its seeds.
func akTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{
				Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
		}),
	}
}

// openTPM opens the device or socket at path, or starts a swtpm with its state in
// dir, and makes the keys. ekTemplate is for a TPM without a persistent EK.
func openTPM(path, dir string, ekTemplate tpm2.TPMTPublic) (_ *guestTPM, err error) {
	t := &guestTPM{}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if dir != "" {
		err = t.start(dir)
	} else {
		err = t.open(path)
	}
	if err != nil {
		return nil, err
	}
	if err := t.makeKeys(ekTemplate); err != nil {
		return nil, fmt.Errorf("TPM: %w", err)
	}
	return t, nil
}

func (t *guestTPM) start(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	p, err := swtpm.Start(dir, nil)
	if err != nil {
		return err
	}
	t.TPM, t.close = p, append(t.close, p.Close)
	return nil
}

func (t *guestTPM) open(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	connect := linuxtpm.Open
	if info.Mode().Type() == fs.ModeSocket {
		connect = linuxudstpm.Open
	}
	c, err := connect(path)
	if err != nil {
		return err
	}
	t.TPM, t.close = c, append(t.close, c.Close)
	return nil
}

// makeKeys finds the EK, or makes it, and makes the AK.
func (t *guestTPM) makeKeys(ekTemplate tpm2.TPMTPublic) error {
	if found, err := (tpm2.ReadPublic{ObjectHandle: ekHandle}).Execute(t); err == nil {
		t.ek, t.ekPublic = tpm2.NamedHandle{Handle: ekHandle, Name: found.Name}, tpm2.Marshal(found.OutPublic)
	} else if t.ek, t.ekPublic, err = t.primary(ekTemplate); err != nil {
		return err
	}
	var err error
	t.ak, t.akFull, err = t.primary(akTemplate())
	return err
}

func (t *guestTPM) primary(template tpm2.TPMTPublic) (tpm2.NamedHandle, []byte, error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(t)
	if err != nil {
		return tpm2.NamedHandle{}, nil, err
	}
	t.close = append(t.close, func() error {
		_, err := tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(t)
		return err
	})
	return tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, tpm2.Marshal(made.OutPublic), nil
}

// Close gives back what t has in the TPM, and the TPM.
func (t *guestTPM) Close() error {
	var err error
	for i := len(t.close) - 1; i >= 0; i-- {
		err = errors.Join(err, t.close[i]())
	}
	t.close = nil
	return err
}

// activate does TPM2_ActivateCredential.
func (t *guestTPM) activate(blob []byte) ([]byte, error) {
	id, encrypted, err := vtpm.SplitCredential(blob)
	if err != nil {
		return nil, err
	}
	got, err := tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: t.ak.Handle, Name: t.ak.Name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: t.ek.Handle, Name: t.ek.Name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, endorsed)},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: id}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: encrypted},
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("TPM: %w", err)
	}
	return got.CertInfo.Buffer, nil
}

// endorsed satisfies PolicyA of EK templates.
func endorsed(t transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicySecret{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, PolicySession: session, NonceTPM: nonce,
	}.Execute(t)
	return err
}

// quote returns what TPM2_Quote by the AK returns for data, over PCRs of SHA-256.
func (t *guestTPM) quote(data []byte, pcrs ...int) ([]byte, error) {
	bitmap := make([]byte, 3)
	for _, i := range pcrs {
		bitmap[i/8] |= 1 << (i % 8)
	}
	got, err := tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: t.ak.Handle, Name: t.ak.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: data}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: bitmap}}},
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("TPM: %w", err)
	}
	return append(tpm2.Marshal(got.Quoted), tpm2.Marshal(got.Signature)...), nil
}
