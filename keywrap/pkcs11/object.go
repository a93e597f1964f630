//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"encoding/asn1"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// object is a key that was opened.
type object struct {
	Object
	use    Use
	public *ecdh.PublicKey // of a key pair, once it is known
}

func (o Object) template(class uint) ([]*p11.Attribute, error) {
	t := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, class)}
	if o.Label != "" {
		t = append(t, p11.NewAttribute(p11.CKA_LABEL, o.Label))
	}
	if len(o.ID) != 0 {
		t = append(t, p11.NewAttribute(p11.CKA_ID, o.ID))
	}
	if len(t) == 1 {
		return nil, fmt.Errorf("%w: no name", ErrKey)
	}
	return t, nil
}

// find returns the only object of class that o names.
func (t *Token) find(s p11.SessionHandle, o Object, class uint) (p11.ObjectHandle, error) {
	found, err := t.findAll(s, o, class)
	switch {
	case err != nil:
		return 0, err
	case len(found) != 1:
		return 0, fmt.Errorf("%w: %d of this name", ErrKey, len(found))
	}
	return found[0], nil
}

// findAll returns at most two objects of class that o names.
func (t *Token) findAll(s p11.SessionHandle, o Object, class uint) ([]p11.ObjectHandle, error) {
	template, err := o.template(class)
	if err != nil {
		return nil, err
	}
	if err := t.module.FindObjectsInit(s, template); err != nil {
		return nil, err
	}
	found, _, err := t.module.FindObjects(s, 2)
	return found, errors.Join(err, t.module.FindObjectsFinal(s))
}

// open finds the key and, of a pair, its public key.
func (o *object) open(ctx context.Context, t *Token) error {
	return t.do(ctx, func(s p11.SessionHandle) error {
		_, err := o.find(t, s)
		return err
	})
}

// handle returns the key for an operation. Where it was there when it was opened
// and is not the same now, the token is not, or not whole.
func (o *object) handle(t *Token, s p11.SessionHandle) (p11.ObjectHandle, error) {
	h, err := o.find(t, s)
	if errors.Is(err, ErrKey) {
		return 0, fmt.Errorf("%w: %w: %s", ErrToken, errGone, err.Error()) // not ErrKey any more
	}
	return h, err
}

// find returns the handle of the key, which is looked up and looked at once in a
// state of the token.
func (o *object) find(t *Token, s p11.SessionHandle) (p11.ObjectHandle, error) {
	t.mu.Lock()
	h, ok := t.state.handles[o]
	t.mu.Unlock()
	if ok {
		return h, nil
	}
	class := uint(p11.CKO_PRIVATE_KEY)
	if o.use == Encrypt {
		class = p11.CKO_SECRET_KEY
	}
	h, err := t.find(s, o.Object, class)
	if err != nil {
		return 0, err
	}
	if err := o.check(t, s, h); err != nil {
		return 0, err
	}
	var public *ecdh.PublicKey
	if o.use != Encrypt {
		if public, err = t.point(s, o.Object); err != nil {
			return 0, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if o.public == nil {
		o.public = public // nobody else has o yet
	} else if !o.public.Equal(public) {
		return 0, fmt.Errorf("%w: another key of that name", ErrKey)
	}
	t.state.handles[o] = h
	return h, nil
}

// uses are the boolean attributes that a key of each Use has, and nothing else.
func (u Use) uses() map[uint]bool {
	m := map[uint]bool{
		p11.CKA_TOKEN: true, p11.CKA_SENSITIVE: true, p11.CKA_EXTRACTABLE: false,
		p11.CKA_SIGN: u == Sign, p11.CKA_DERIVE: u == Unwrap, p11.CKA_DECRYPT: u == Encrypt, p11.CKA_UNWRAP: false,
	}
	if u == Encrypt {
		m[p11.CKA_ENCRYPT], m[p11.CKA_WRAP] = true, false
	}
	return m
}

// check returns an error unless h is a key for the one use of o that can't be
// copied.
func (o *object) check(t *Token, s p11.SessionHandle, h p11.ObjectHandle) error {
	for attr, want := range o.use.uses() {
		got, err := t.module.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(attr, nil)})
		if is(err, p11.CKR_ATTRIBUTE_TYPE_INVALID) && !want && attr != p11.CKA_EXTRACTABLE {
			continue // a use that keys of this type can't have
		}
		if err != nil {
			return err
		}
		if len(got) != 1 || len(got[0].Value) != 1 || (got[0].Value[0] != 0) != want {
			return fmt.Errorf("%w: attribute %#x is not %v", ErrKey, attr, want)
		}
	}
	want := uint(p11.CKK_EC)
	if o.use == Encrypt {
		want = p11.CKK_AES
	}
	if got, err := t.ulong(s, h, p11.CKA_KEY_TYPE); err != nil {
		return err
	} else if got != want {
		return fmt.Errorf("%w: type %#x", ErrKey, got)
	}
	if o.use == Encrypt {
		if n, err := t.ulong(s, h, p11.CKA_VALUE_LEN); err != nil {
			return err
		} else if n != aesSize {
			return fmt.Errorf("%w: %d bytes", ErrKey, n)
		}
		return nil
	}
	got, err := t.module.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_EC_PARAMS, nil)})
	if err != nil {
		return err
	}
	if len(got) != 1 || !bytes.Equal(got[0].Value, p384()) {
		return fmt.Errorf("%w: not on P-384", ErrKey)
	}
	return nil
}

// ulong returns a CK_ULONG, which is in the byte order of the machine.
func (t *Token) ulong(s p11.SessionHandle, h p11.ObjectHandle, attr uint) (uint, error) {
	got, err := t.module.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(attr, nil)})
	if err != nil {
		return 0, err
	}
	for i := range uint(256) {
		if len(got) == 1 && bytes.Equal(got[0].Value, p11.NewAttribute(attr, i).Value) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: attribute %#x", ErrKey, attr)
}

// p384 returns CKA_EC_PARAMS of P-384: its object identifier in DER.
func p384() []byte {
	return []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}
}

// point returns the public key that lies beside a private one. Who wrote it there
// is not known: the private key has to show that it belongs to it.
func (t *Token) point(s p11.SessionHandle, o Object) (*ecdh.PublicKey, error) {
	h, err := t.find(s, o, p11.CKO_PUBLIC_KEY)
	if err != nil {
		return nil, err
	}
	got, err := t.module.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, err
	}
	if len(got) != 1 {
		return nil, fmt.Errorf("%w: no point", ErrKey)
	}
	point := got[0].Value
	var octets []byte
	if rest, err := asn1.Unmarshal(point, &octets); err == nil && len(rest) == 0 {
		point = octets // as the specification has it; some tokens give the bare point
	}
	pub, err := ecdh.P384().NewPublicKey(point)
	if err != nil {
		return nil, fmt.Errorf("%w: not a point of P-384", ErrKey)
	}
	return pub, nil
}

const aesSize = 32 // bytes of a key that encrypts

// Generate makes a key in the token that never leaves it, for one use. A name
// that is taken is ErrKey.
func (t *Token) Generate(ctx context.Context, use Use, o Object) error {
	return t.do(ctx, func(s p11.SessionHandle) error {
		for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY, p11.CKO_SECRET_KEY} {
			if found, err := t.findAll(s, o, class); err != nil {
				return err
			} else if len(found) > 0 {
				return fmt.Errorf("%w: the name is taken", ErrKey)
			}
		}
		private := []*p11.Attribute{p11.NewAttribute(p11.CKA_PRIVATE, true)}
		for attr, on := range use.uses() {
			private = append(private, p11.NewAttribute(attr, on))
		}
		public := []*p11.Attribute{
			p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_EC_PARAMS, p384()),
			p11.NewAttribute(p11.CKA_VERIFY, use == Sign),
		}
		named := func(t []*p11.Attribute) []*p11.Attribute {
			if o.Label != "" {
				t = append(t, p11.NewAttribute(p11.CKA_LABEL, o.Label))
			}
			if len(o.ID) != 0 {
				t = append(t, p11.NewAttribute(p11.CKA_ID, o.ID))
			}
			return t
		}
		var err error
		switch use {
		case Unwrap, Sign:
			_, _, err = t.module.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}, named(public), named(private))
		case Encrypt:
			private = append(private, p11.NewAttribute(p11.CKA_VALUE_LEN, aesSize))
			_, err = t.module.GenerateKey(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, named(private))
		default:
			err = fmt.Errorf("%w: for no use", ErrKey)
		}
		return err
	})
}
