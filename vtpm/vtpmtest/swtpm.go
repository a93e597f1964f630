package vtpmtest

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/swtpm"
	"github.com/teebroker/teebroker/vtpm"
)

// Swtpm is a TPM that others wrote, with an EK and an AK. It is not for concurrent
// use. Methods of a [Device] panic if the TPM fails.
type Swtpm struct {
	tpm    transport.TPM
	end    func() error
	ek, ak *tpm2.CreatePrimaryResponse
}

var _ Device = (*Swtpm)(nil)

// StartSwtpm starts the program swtpm, which is in PATH, with its state in dir: a
// TPM that was started before goes on with the keys of its seeds.
func StartSwtpm(dir string, kind Kind) (*Swtpm, error) {
	p, err := swtpm.Start(dir, nil)
	if err != nil {
		return nil, fmt.Errorf("vtpmtest: %w", err)
	}
	s, err := Over(p, kind)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	s.end = p.Close
	return s, nil
}

// Over returns t, a TPM that runs, with the EK that its seeds make and an AK. Close
// leaves t running.
func Over(t transport.TPM, kind Kind) (s *Swtpm, err error) {
	s = &Swtpm{tpm: t, end: func() error { return nil }}
	if s.ek, err = s.primary(EKTemplate(kind)); err == nil {
		s.ak, err = s.primary(AKTemplate(kind))
	}
	if err != nil {
		return nil, fmt.Errorf("vtpmtest: swtpm: %w", err)
	}
	return s, nil
}

func (s *Swtpm) primary(template tpm2.TPMTPublic) (*tpm2.CreatePrimaryResponse, error) {
	return tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(s.tpm)
}

// Close ends the swtpm that StartSwtpm started.
func (s *Swtpm) Close() error { return s.end() }

// EK implements [Device].
func (s *Swtpm) EK() []byte { return tpm2.Marshal(s.ek.OutPublic) }

// AK implements [Device].
func (s *Swtpm) AK() []byte { return tpm2.Marshal(s.ak.OutPublic) }

// Extend implements [Device].
func (s *Swtpm) Extend(index int, data []byte) {
	var digests []tpm2.TPMTHA
	for _, bank := range []vtpm.Alg{vtpm.SHA256, vtpm.SHA384} {
		digests = append(digests, tpm2.TPMTHA{HashAlg: tpm2.TPMIAlgHash(bank), Digest: digest(bank, data)})
	}
	must(tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: digests},
	}.Execute(s.tpm))
}

// ExtendPCR extends p with d and no other bank, as proof.TPM asks for it.
func (s *Swtpm) ExtendPCR(p vtpm.PCR, d []byte) error {
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(p.Index), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMIAlgHash(p.Bank), Digest: d}}},
	}.Execute(s.tpm)
	if err != nil {
		return fmt.Errorf("vtpmtest: swtpm: %w", err)
	}
	return nil
}

// ReadPCR returns the value of p, as proof.TPM asks for it.
func (s *Swtpm) ReadPCR(p vtpm.PCR) ([]byte, error) {
	one := tpm2.TPMSPCRSelection{Hash: tpm2.TPMIAlgHash(p.Bank), PCRSelect: make([]byte, 3)}
	one.PCRSelect[p.Index/8] = 1 << (p.Index % 8)
	read, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{one}}}.Execute(s.tpm)
	if err != nil {
		return nil, fmt.Errorf("vtpmtest: swtpm: %w", err)
	}
	if len(read.PCRValues.Digests) != 1 {
		return nil, fmt.Errorf("vtpmtest: swtpm has no PCR %v", p)
	}
	return read.PCRValues.Digests[0].Buffer, nil
}

// Quote implements [Device].
func (s *Swtpm) Quote(q Quote, data evidence.Binding) (raw, pcrs []byte) {
	var selection []tpm2.TPMSPCRSelection
	for _, bank := range q.selection() {
		var bitmap [3]byte
		for _, i := range bank.PCRs {
			bitmap[i/8] |= 1 << (i % 8)
			pcrs = append(pcrs, must(s.ReadPCR(vtpm.PCR{Bank: bank.Bank, Index: i}))...)
		}
		selection = append(selection, tpm2.TPMSPCRSelection{Hash: tpm2.TPMIAlgHash(bank.Bank), PCRSelect: bitmap[:]})
	}
	got := must(tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: s.ak.ObjectHandle, Name: s.ak.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: q.extra(data)},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      tpm2.TPMLPCRSelection{PCRSelections: selection},
	}.Execute(s.tpm))
	raw = append(tpm2.Marshal(got.Quoted), tpm2.Marshal(got.Signature)...)
	if q.Fault != nil {
		raw = q.Fault(raw)
	}
	return raw, pcrs
}

// Activate implements [Device].
func (s *Swtpm) Activate(blob []byte) ([]byte, error) {
	id, encrypted, err := vtpm.SplitCredential(blob)
	if err != nil {
		return nil, err
	}
	got, err := tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: s.ak.ObjectHandle, Name: s.ak.Name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: s.ek.ObjectHandle, Name: s.ek.Name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, endorsement)},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: id},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: encrypted},
	}.Execute(s.tpm)
	if err != nil {
		return nil, fmt.Errorf("vtpmtest: swtpm: %w", err)
	}
	return got.CertInfo.Buffer, nil
}

// endorsement satisfies PolicyA.
func endorsement(t transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, PolicySession: session, NonceTPM: nonce}.Execute(t)
	return err
}
