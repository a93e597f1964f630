package cca_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

// fault is a token that has to be refused, and by what.
type fault struct {
	claim  string
	realm  ccatest.Realm
	reason evidence.Reason
	check  string
}

// Short forms of what a fault is made of.
type edit = func(ccatest.Map) ccatest.Map

func raw(s string) cbor.RawMessage { return cbor.RawMessage(s) }

func with(key int64, value any) edit {
	return func(m ccatest.Map) ccatest.Map { return m.With(key, value) }
}

func add(key, value any) edit {
	return func(m ccatest.Map) ccatest.Map { return m.Add(key, value) }
}

func without(key int64) edit {
	return func(m ccatest.Map) ccatest.Map { return m.Without(key) }
}

// again adds what is there under key once more.
func again(key int64) edit {
	return func(m ccatest.Map) ccatest.Map { return m.Add(key, m.Get(key)) }
}

func inPlatform(claims edit) ccatest.Realm {
	return ccatest.Realm{PlatformToken: ccatest.Signing{Claims: claims}}
}

func inRealm(claims edit) ccatest.Realm {
	return ccatest.Realm{RealmToken: ccatest.Signing{Claims: claims}}
}

func collection(c edit) ccatest.Realm { return ccatest.Realm{Collect: c} }

// of puts what Profiles it is of to a Realm.
func of(p ccatest.Profiles, r ccatest.Realm) ccatest.Realm {
	r.Profiles = p
	return r
}

// both returns two faults: of the platform token and of the realm token.
func both(claim string, s ccatest.Signing, reason evidence.Reason, check string) []fault {
	return []fault{
		{claim + " in the platform token", ccatest.Realm{PlatformToken: s}, reason, check},
		{claim + " in the realm token", ccatest.Realm{RealmToken: s}, reason, check},
	}
}

func octets(n int) []byte { return bytes.Repeat([]byte{7}, n) }

func cut(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }

func tail(s string) func([]byte) []byte { return func(b []byte) []byte { return append(b, s...) } }

// component returns claims whose only component is as edit makes it.
func component(e edit) edit {
	return with(wire.Components, []any{e(ccatest.Map{
		{Key: int64(wire.ComponentMeasurement), Value: octets(32)}, {Key: int64(wire.ComponentSignerID), Value: octets(32)},
	})})
}

// The form of the collection, of both tokens and of everything in them.
func formFaults() []fault {
	const malformed, unsupported = evidence.Malformed, evidence.Unsupported
	record := func(typ any) edit {
		return func(m ccatest.Map) ccatest.Map {
			return m.With(wire.RealmToken, []any{typ, m.Get(wire.RealmToken).([]any)[1]})
		}
	}
	whole := func(f func([]byte) []byte) ccatest.Realm { return ccatest.Realm{Raw: f} }
	retag := func(tag string) ccatest.Realm {
		return whole(func(b []byte) []byte { return append([]byte(tag), b[3:]...) })
	}
	faults := []fault{
		{"no byte at all", whole(func([]byte) []byte { return nil }), malformed, "collection"},
		{"one byte", whole(func(b []byte) []byte { return b[:1] }), malformed, "collection"},
		{"two bytes of a tag", whole(func(b []byte) []byte { return b[:2] }), malformed, "collection"},
		{"a tag and nothing", whole(func(b []byte) []byte { return b[:3] }), malformed, "collection"},
		{"65537 bytes", whole(func(b []byte) []byte { return append(b, make([]byte, 65537-len(b))...) }), malformed, "size"},
		{"a configuration of 5 MB", inPlatform(with(wire.Config, make([]byte, 5<<20))), malformed, "size"},
		{"10000 components", inPlatform(with(wire.Components, func() (all []any) {
			for range 10000 {
				all = append(all, ccatest.Map{})
			}
			return all
		}())), malformed, "claims"},
		{"another tag", retag("\xd9\x03\x8c"), malformed, "collection"},
		{"a tag in a longer form", retag("\xda\x00\x00\x03\x8b"), malformed, "collection"},
		{"two tags", retag(wire.TagCMW + wire.TagCMW), malformed, "collection"},
		{"no tag", retag(""), malformed, "collection"},
		{"bare tokens under tag 907", ccatest.Realm{Form: ccatest.Tag399, Raw: func(b []byte) []byte { return append([]byte(wire.TagCMW), b[3:]...) }}, malformed, "collection"},
		{"CMW records under tag 399", ccatest.Realm{Form: ccatest.Hybrid}, malformed, "collection"},
		{"an array as the collection", retag(wire.TagCMW + "\x81"), malformed, "collection"},
		{"trailing byte", whole(tail("\x00")), malformed, "collection"},
		{"indefinite collection", whole(func(b []byte) []byte {
			return append(append([]byte(wire.TagCMW+"\xbf"), b[4:]...), 0xff)
		}), malformed, "collection"},
		{"a token twice", collection(again(wire.RealmToken)), malformed, "collection"},
		{"the tokens exchanged", collection(func(m ccatest.Map) ccatest.Map {
			return m.With(wire.PlatformToken, m.Get(wire.RealmToken)).With(wire.RealmToken, m.Get(wire.PlatformToken))
		}), unsupported, "profile"},
		{"the realm token twice, under both labels", collection(func(m ccatest.Map) ccatest.Map {
			return m.With(wire.PlatformToken, m.Get(wire.RealmToken))
		}), unsupported, "profile"},
		{"the platform token twice, under both labels", collection(func(m ccatest.Map) ccatest.Map {
			return m.With(wire.RealmToken, m.Get(wire.PlatformToken))
		}), unsupported, "profile"},
		{"no platform token", collection(without(wire.PlatformToken)), malformed, "collection"},
		{"no realm token", collection(without(wire.RealmToken)), malformed, "collection"},
		{"a device token", collection(add(int64(44258), []any{int64(601), []byte{1}})), unsupported, "collection"},
		{"an unknown label", collection(add(int64(44251), []byte{1})), unsupported, "collection"},
		{"a text label", collection(add("x", []byte{1})), unsupported, "collection"},
		{"content format 0", collection(record(int64(0))), unsupported, "collection"},
		{"content format 61", collection(record(int64(61))), unsupported, "collection"},
		{"a content format as text", collection(record("application/eat+cwt")), unsupported, "collection"},
		{"a CMW record of three", collection(func(m ccatest.Map) ccatest.Map {
			return m.With(wire.RealmToken, append(m.Get(wire.RealmToken).([]any), int64(1)))
		}), malformed, "collection"},
		{"a CMW record of text", collection(with(wire.RealmToken, []any{int64(wire.ContentEATCWT), "x"})), malformed, "collection"},
		{"a token under tag 24", collection(with(wire.RealmToken, raw("\x82\x19\x01\x07\xd8\x18\x41\x00"))), malformed, "collection"},
	}
	for _, f := range [][]fault{
		both("no tag 18", ccatest.Signing{Token: func(b []byte) []byte { return b[1:] }}, malformed, "sign1"),
		both("tag 18 twice", ccatest.Signing{Token: func(b []byte) []byte { return append([]byte(wire.TagSign1), b...) }}, malformed, "sign1"),
		both("tag 98", ccatest.Signing{Token: func(b []byte) []byte { return append([]byte{0xd8, 98}, b[1:]...) }}, malformed, "sign1"),
		both("tag 18 in a longer form", ccatest.Signing{Token: func(b []byte) []byte { return append([]byte{0xd8, 18}, b[1:]...) }}, malformed, "sign1"),
		both("no bytes", ccatest.Signing{Token: func([]byte) []byte { return []byte{} }}, malformed, "sign1"),
		both("a trailing byte", ccatest.Signing{Token: tail("\x00")}, malformed, "sign1"),
		both("a missing byte", ccatest.Signing{Token: cut(1)}, malformed, "sign1"),
		both("an array of three", ccatest.Signing{Token: func([]byte) []byte { return []byte(wire.TagSign1 + "\x83\x40\xa0\x40") }}, malformed, "sign1"),
		both("an indefinite array", ccatest.Signing{Token: func(b []byte) []byte {
			return append(append([]byte(wire.TagSign1+"\x9f"), b[2:]...), 0xff)
		}}, malformed, "sign1"),
		both("no payload", ccatest.Signing{Token: func([]byte) []byte { return []byte(wire.TagSign1 + "\x84\x43\xa1\x01\x26\xa0\xf6\x41\x00") }}, malformed, "sign1"),
		both("a protected header as a map", ccatest.Signing{Token: func([]byte) []byte { return []byte(wire.TagSign1 + "\x84\xa1\x01\x26\xa0\x40\x41\x00") }}, malformed, "sign1"),
		both("an empty protected header", ccatest.Signing{Token: func([]byte) []byte { return []byte(wire.TagSign1 + "\x84\x40\xa0\x40\x41\x00") }}, malformed, "sign1"),
		both("an array as the protected header", ccatest.Signing{Token: func([]byte) []byte { return []byte(wire.TagSign1 + "\x84\x41\x80\xa0\x40\x41\x00") }}, malformed, "sign1"),
		both("a header twice", ccatest.Signing{Protected: again(wire.Alg)}, malformed, "sign1"),
		both("an unprotected header twice", ccatest.Signing{Unprotected: func(m ccatest.Map) ccatest.Map { return m.Add(int64(4), []byte{1}).Add(int64(4), []byte{1}) }}, malformed, "sign1"),

		both("no algorithm", ccatest.Signing{Protected: without(wire.Alg)}, malformed, "headers"),
		both("the algorithm unprotected", ccatest.Signing{Protected: without(wire.Alg), Unprotected: with(wire.Alg, int64(wire.AlgES384))}, unsupported, "headers"),
		both("the algorithm in both headers", ccatest.Signing{Unprotected: with(wire.Alg, int64(wire.AlgES384))}, unsupported, "headers"),
		both("the algorithm as text", ccatest.Signing{Protected: with(wire.Alg, "ES384")}, unsupported, "headers"),
		both("EdDSA", ccatest.Signing{Protected: with(wire.Alg, int64(-8))}, unsupported, "headers"),
		both("HMAC", ccatest.Signing{Protected: with(wire.Alg, int64(5))}, unsupported, "headers"),
		both("PS384", ccatest.Signing{Protected: with(wire.Alg, int64(-38))}, unsupported, "headers"),
		both("crit of a header that is there", ccatest.Signing{Protected: with(wire.Crit, []any{int64(wire.Alg)})}, unsupported, "headers"),
		both("crit of an unknown header", ccatest.Signing{Protected: func(m ccatest.Map) ccatest.Map {
			return m.With(wire.Crit, []any{int64(99)}).With(99, int64(1))
		}}, unsupported, "headers"),
		both("an unknown protected header", ccatest.Signing{Protected: with(99, int64(1))}, unsupported, "headers"),
		both("a text header", ccatest.Signing{Protected: add("alg", int64(1))}, unsupported, "headers"),
		both("an unprotected kid", ccatest.Signing{Unprotected: with(4, []byte{1})}, unsupported, "headers"),
		both("certificates that nobody asked for", ccatest.Signing{Unprotected: with(wire.X5Chain, []byte{1})}, unsupported, "headers"),
		both("a thumbprint that nobody asked for", ccatest.Signing{Protected: with(wire.X5T, []any{int64(wire.HashSHA256), octets(32)})}, unsupported, "headers"),

		both("an empty payload", ccatest.Signing{Payload: func([]byte) []byte { return []byte{} }}, malformed, "claims"),
		both("a payload under tag 61", ccatest.Signing{Payload: func(b []byte) []byte { return append([]byte{0xd8, 61}, b...) }}, malformed, "claims"),
		both("a payload in a byte string", ccatest.Signing{Payload: func(b []byte) []byte { return append([]byte{0x59, byte(len(b) >> 8), byte(len(b))}, b...) }}, malformed, "claims"),
		both("bytes after the payload", ccatest.Signing{Payload: tail("\xf6")}, malformed, "claims"),
		both("a payload cut off", ccatest.Signing{Payload: cut(1)}, malformed, "claims"),
		both("an indefinite payload", ccatest.Signing{Payload: func(b []byte) []byte { return append(append([]byte{0xbf}, b[1:]...), 0xff) }}, malformed, "claims"),
		both("an array as the payload", ccatest.Signing{Payload: func([]byte) []byte { return []byte{0x80} }}, malformed, "claims"),
		both("a claim twice that is unknown", ccatest.Signing{Claims: func(m ccatest.Map) ccatest.Map { return m.With(9999, int64(1)).Add(int64(9999), int64(1)) }}, malformed, "claims"),
		both("a key twice below an unknown claim", ccatest.Signing{Claims: with(9999, raw("\xa2\x01\x01\x01\x01"))}, malformed, "claims"),
		both("a tag below an unknown claim", ccatest.Signing{Claims: with(9999, raw("\xc1\x00"))}, malformed, "claims"),
		both("an indefinite unknown claim", ccatest.Signing{Claims: with(9999, raw("\x9f\xff"))}, malformed, "claims"),
		both("an unknown claim nested deeply", ccatest.Signing{Claims: with(9999, raw(strings.Repeat("\x81", 9)+"\x00"))}, malformed, "claims"),
		both("invalid UTF-8", ccatest.Signing{Claims: with(9999, raw("\x61\xff"))}, malformed, "claims"),
		both("the challenge twice", ccatest.Signing{Claims: again(wire.Challenge)}, malformed, "claims"),
		both("the profile as a number", ccatest.Signing{Claims: with(wire.Profile, int64(1))}, malformed, "claims"),
		both("the challenge under tag 24", ccatest.Signing{Claims: with(wire.Challenge, raw("\xd8\x18\x58\x40"+strings.Repeat("a", 64)))}, malformed, "claims"),
		both("the challenge in an array of one", ccatest.Signing{Claims: with(wire.Challenge, []any{octets(64)})}, malformed, "claims"),
		both("the challenge as text", ccatest.Signing{Claims: with(wire.Challenge, strings.Repeat("a", 64))}, malformed, "claims"),
		both("the challenge in pieces", ccatest.Signing{Claims: with(wire.Challenge, raw("\x5f\x58\x40"+strings.Repeat("a", 64)+"\xff"))}, malformed, "claims"),
		both("no challenge", ccatest.Signing{Claims: without(wire.Challenge)}, malformed, "claims"),
		both("a challenge null", ccatest.Signing{Claims: with(wire.Challenge, raw("\xf6"))}, malformed, "claims"),
	} {
		faults = append(faults, f...)
	}
	return faults
}

// What the claims say.
func claimFaults() []fault {
	const malformed, unsupported = evidence.Malformed, evidence.Unsupported
	var faults []fault
	platform := func(claim string, reason evidence.Reason, edits ...edit) {
		for i, e := range edits {
			faults = append(faults, fault{fmt.Sprintf("platform: %s %d", claim, i), inPlatform(e), reason, "claims"})
		}
	}
	realm := func(claim string, reason evidence.Reason, edits ...edit) {
		for i, e := range edits {
			faults = append(faults, fault{fmt.Sprintf("realm: %s %d", claim, i), inRealm(e), reason, "claims"})
		}
	}
	for _, label := range []int64{wire.Implementation, wire.UEID, wire.Config, wire.Lifecycle, wire.PlatformHash, wire.Components, wire.Challenge} {
		platform(fmt.Sprint("missing ", label), malformed, without(label))
		platform(fmt.Sprint("twice ", label), malformed, again(label))
		platform(fmt.Sprint("of another type ", label), malformed, with(label, true), with(label, []any{int64(1), int64(2)}))
	}
	for _, label := range []int64{wire.Challenge, wire.RPV, wire.RealmHash, wire.RIM, wire.REM, wire.RAKHash, wire.RAK, wire.UEID} {
		realm(fmt.Sprint("missing ", label), malformed, without(label))
		realm(fmt.Sprint("twice ", label), malformed, again(label))
		realm(fmt.Sprint("of another type ", label), malformed, with(label, true), with(label, []any{int64(1), int64(2)}))
	}
	platform("no profile", malformed, without(wire.Profile))
	platform("binder of another size", malformed, with(wire.Challenge, octets(31)), with(wire.Challenge, octets(33)), with(wire.Challenge, []byte{}))
	platform("implementation-id of another size", malformed, with(wire.Implementation, octets(31)), with(wire.Implementation, octets(33)))
	platform("instance-id of another size", malformed, with(wire.UEID, append([]byte{1}, octets(31)...)), with(wire.UEID, append([]byte{1}, octets(33)...)))
	platform("instance-id of another type", malformed, with(wire.UEID, append([]byte{2}, octets(32)...)), with(wire.UEID, octets(33)))
	platform("empty configuration", malformed, with(wire.Config, []byte{}))
	platform("lifecycle out of range", malformed, with(wire.Lifecycle, int64(65536)), with(wire.Lifecycle, int64(-1)), with(wire.Lifecycle, "secured"))
	platform("unknown hash", unsupported, with(wire.PlatformHash, "md5"), with(wire.PlatformHash, "sha-1"), with(wire.PlatformHash, "SHA-256"), with(wire.PlatformHash, ""))
	platform("verification service that is no text", malformed, with(wire.VerificationService, []byte("x")))
	platform("no components", malformed, with(wire.Components, []any{}))
	platform("component that is no map", malformed, with(wire.Components, []any{[]byte{1}}))
	platform("component without measurement", malformed, component(without(wire.ComponentMeasurement)))
	platform("component without signer-id", malformed, component(without(wire.ComponentSignerID)))
	platform("component with a key twice", malformed, component(again(wire.ComponentSignerID)))
	platform("measurement of another length than the hash", malformed, component(with(wire.ComponentMeasurement, octets(48))), component(with(wire.ComponentMeasurement, octets(31))),
		component(with(wire.ComponentHash, "sha-384")))
	platform("signer-id that is no digest", malformed, component(with(wire.ComponentSignerID, octets(33))), component(with(wire.ComponentSignerID, []byte{})))
	platform("component with an unknown hash", unsupported, component(with(wire.ComponentHash, "md5")))
	platform("component with another type", malformed, component(with(wire.ComponentType, int64(1))), component(with(wire.ComponentVersion, []byte("1"))), component(with(wire.ComponentHash, int64(1))))

	realm("challenge of another size", malformed, with(wire.Challenge, octets(63)), with(wire.Challenge, octets(65)), with(wire.Challenge, octets(32)), with(wire.Challenge, []byte{}))
	realm("personalization value of another size", malformed, with(wire.RPV, octets(63)), with(wire.RPV, octets(65)))
	realm("unknown hash", unsupported, with(wire.RealmHash, "md5"), with(wire.RealmHash, "sha-224"))
	realm("unknown hash of the RAK", unsupported, with(wire.RAKHash, "sha-224"), with(wire.RAKHash, "md5"))
	realm("RIM of another length than the hash", malformed, with(wire.RIM, octets(64)), with(wire.RIM, octets(31)), with(wire.RealmHash, "sha-512"))
	realm("REMs that are not four", malformed, with(wire.REM, []any{}), with(wire.REM, rems(32)), with(wire.REM, rems(32, 32, 32)), with(wire.REM, rems(32, 32, 32, 32, 32)))
	realm("REM of another length", malformed, with(wire.REM, rems(32, 32, 32, 64)), with(wire.REM, rems(48, 32, 32, 32)), with(wire.REM, rems(64, 64, 64, 64)))
	realm("REM that is no digest", malformed, with(wire.REM, []any{octets(32), octets(32), octets(32), "x"}))
	realm("instance-id of another type", malformed, with(wire.UEID, octets(33)), with(wire.UEID, append([]byte{1}, octets(31)...)))
	realm("MEC policy that is none", malformed, with(wire.MECPolicy, int64(2)), with(wire.MECPolicy, "none"), with(wire.MECPolicy, []byte{1}), with(wire.MECPolicy, int64(-1)))
	realm("devices", unsupported, with(wire.Devices, octets(32)))

	return append(faults,
		fault{"a client other than the RMSD", of(ccatest.P2024, inPlatform(with(wire.ClientID, int64(2)))), unsupported, "claims"},
		fault{"no client", of(ccatest.P2024, inPlatform(without(wire.ClientID))), malformed, "claims"},
		fault{"a client as text", of(ccatest.P2024, inPlatform(with(wire.ClientID, "1"))), malformed, "claims"},
		fault{"legacy: RIM of 64 bytes and REMs of 32", of(ccatest.Legacy, inRealm(with(wire.RIM, octets(64)))), malformed, "claims"},
		fault{"legacy: REMs of 64 bytes and RIM of 32", of(ccatest.Legacy, inRealm(with(wire.REM, rems(64, 64, 64, 64)))), malformed, "claims"},
		fault{"legacy: RIM of 48 bytes with sha-256", of(ccatest.Legacy, inRealm(func(m ccatest.Map) ccatest.Map {
			return m.With(wire.RIM, octets(48)).With(wire.REM, rems(48, 48, 48, 48))
		})), malformed, "claims"},
		fault{"2023: RIM and REMs of 64 bytes with sha-256", of(ccatest.P2023, inRealm(func(m ccatest.Map) ccatest.Map {
			return m.With(wire.RIM, octets(64)).With(wire.REM, rems(64, 64, 64, 64))
		})), malformed, "claims"},
		fault{"unknown platform profile", inPlatform(with(wire.Profile, "tag:arm.com,2099:cca_platform#1.0.0")), unsupported, "profile"},
		fault{"unknown realm profile", inRealm(with(wire.Profile, "tag:arm.com,2099:realm#1.0.0")), unsupported, "profile"},
		fault{"new platform with a legacy realm", inRealm(without(wire.Profile)), unsupported, "profile"},
		fault{"legacy platform with a new realm", inPlatform(with(wire.Profile, wire.PlatformLegacy)), unsupported, "profile"},
	)
}

func rems(sizes ...int) []any {
	var all []any
	for _, n := range sizes {
		all = append(all, octets(n))
	}
	return all
}

// Who signed, and what is signed for whom.
func keyFaults(t testing.TB) []fault {
	p256, p521, other := newKey(t, elliptic.P256()), newKey(t, elliptic.P521()), newKey(t, elliptic.P384())
	rak := newKey(t, elliptic.P384())
	good := ccatest.COSEKey(&rak.PublicKey)
	encoded := func(m ccatest.Map) []byte {
		b, err := m.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	point, err := rak.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	compressed := append([]byte{2 + point[96]&1}, point[1:49]...)
	off := bytes.Clone(point)
	off[96] ^= 1
	offKey := good.With(wire.KeyY, off[49:])

	// The binder is right in each: it is over whatever the claim has.
	withRAK := func(content []byte) ccatest.Realm {
		return ccatest.Realm{Key: rak, RealmToken: ccatest.Signing{Claims: with(wire.RAK, content)}}
	}
	faults := []fault{
		{"ES256 with a P-384 CPAK", ccatest.Realm{PlatformToken: ccatest.Signing{Protected: with(wire.Alg, int64(wire.AlgES256))}}, evidence.BadSignature, "algorithm"},
		{"ES512 with a P-384 CPAK", ccatest.Realm{PlatformToken: ccatest.Signing{Protected: with(wire.Alg, int64(wire.AlgES512))}}, evidence.BadSignature, "algorithm"},
		{"ES256 with a P-384 RAK", ccatest.Realm{RealmToken: ccatest.Signing{Protected: with(wire.Alg, int64(wire.AlgES256))}}, evidence.Unsupported, "headers"},
		{"ES512 with a P-384 RAK", ccatest.Realm{RealmToken: ccatest.Signing{Protected: with(wire.Alg, int64(wire.AlgES512))}}, evidence.Unsupported, "headers"},
		{"a foreign CPAK", ccatest.Realm{PlatformToken: ccatest.Signing{Key: other}}, evidence.BadSignature, "platform-signature"},
		{"a foreign CPAK of another curve", ccatest.Realm{PlatformToken: ccatest.Signing{Key: p256}}, evidence.BadSignature, "algorithm"},
		{"SHA-256 under ES384 by the CPAK", ccatest.Realm{PlatformToken: ccatest.Signing{Hash: crypto.SHA256}}, evidence.BadSignature, "platform-signature"},
		{"SHA-256 under ES384 by the RAK", ccatest.Realm{RealmToken: ccatest.Signing{Hash: crypto.SHA256}}, evidence.BadSignature, "realm-signature"},
		{"a foreign RAK", ccatest.Realm{RealmToken: ccatest.Signing{Key: other}}, evidence.BadSignature, "realm-signature"},
		{"no signature", ccatest.Realm{RealmToken: ccatest.Signing{Token: func(b []byte) []byte {
			return append(b[:len(b)-98], 0x40)
		}}}, evidence.BadSignature, "realm-signature"},
		{"a signature of zeros", ccatest.Realm{PlatformToken: ccatest.Signing{Token: func(b []byte) []byte {
			clear(b[len(b)-96:])
			return b
		}}}, evidence.BadSignature, "platform-signature"},
		{"a signature of 97 bytes", ccatest.Realm{PlatformToken: ccatest.Signing{Token: func(b []byte) []byte {
			b[len(b)-97] = 97
			return append(b, 0)
		}}}, evidence.BadSignature, "platform-signature"},

		{"a binder of another key", inPlatform(with(wire.Challenge, octets(32))), evidence.Untrusted, "binder"},
		{"a binder of a longer digest", inPlatform(with(wire.Challenge, octets(64))), evidence.Untrusted, "binder"},
		{"a binder with zeros behind it", inPlatform(func(m ccatest.Map) ccatest.Map {
			return m.With(wire.Challenge, append(m.Get(wire.Challenge).([]byte), make([]byte, 32)...))
		}), evidence.Untrusted, "binder"},
		{"a binder of the encoded claim", ccatest.Realm{Key: rak, PlatformToken: ccatest.Signing{Claims: with(wire.Challenge, sum256(append([]byte{0x58, 107}, encoded(good)...)))}}, evidence.Untrusted, "binder"},

		{"an empty RAK", withRAK([]byte{}), evidence.Malformed, "rak"},
		{"a point where a COSE_Key has to be", withRAK(point), evidence.Malformed, "rak"},
		{"a COSE_Key where a point has to be", of(ccatest.Legacy, withRAK(encoded(good))), evidence.Malformed, "rak"},
		{"a point of 96 bytes", of(ccatest.Legacy, withRAK(point[1:])), evidence.Malformed, "rak"},
		{"a point of 98 bytes", of(ccatest.Legacy, withRAK(append(bytes.Clone(point), 0))), evidence.Malformed, "rak"},
		{"a compressed point", of(ccatest.Legacy, withRAK(compressed)), evidence.Malformed, "rak"},
		{"the point at infinity", of(ccatest.Legacy, withRAK([]byte{0})), evidence.Malformed, "rak"},
		{"a point off its curve", of(ccatest.Legacy, withRAK(off)), evidence.Malformed, "rak"},
		{"a COSE_Key off its curve", withRAK(encoded(offKey)), evidence.Malformed, "rak"},
		{"a P-256 RAK", withRAK(encoded(ccatest.COSEKey(&p256.PublicKey))), evidence.Malformed, "rak"},
		{"a P-521 RAK", withRAK(encoded(ccatest.COSEKey(&p521.PublicKey))), evidence.Malformed, "rak"},
		{"a COSE_Key with the private key", withRAK(encoded(good.Add(int64(-4), octets(48)))), evidence.Malformed, "rak"},
		{"a COSE_Key with key_ops", withRAK(encoded(good.Add(int64(4), []any{int64(1)}))), evidence.Malformed, "rak"},
		{"a COSE_Key with key_ops that verify", withRAK(encoded(good.Add(int64(4), []any{int64(2)}))), evidence.Malformed, "rak"},
		{"a COSE_Key with a base IV", withRAK(encoded(good.Add(int64(5), octets(8)))), evidence.Malformed, "rak"},
		{"a COSE_Key with a text member", withRAK(encoded(good.Add("d", octets(48)))), evidence.Malformed, "rak"},
		{"a COSE_Key for ES256", withRAK(encoded(good.With(wire.KeyAlg, int64(wire.AlgES256)))), evidence.Malformed, "rak"},
		{"a COSE_Key of type OKP", withRAK(encoded(good.With(wire.KeyType, int64(1)))), evidence.Malformed, "rak"},
		{"a COSE_Key without type", withRAK(encoded(good.Without(wire.KeyType))), evidence.Malformed, "rak"},
		{"a COSE_Key without curve", withRAK(encoded(good.Without(wire.KeyCurve))), evidence.Malformed, "rak"},
		{"a COSE_Key without y", withRAK(encoded(good.Without(wire.KeyY))), evidence.Malformed, "rak"},
		{"a COSE_Key with y as a sign", withRAK(encoded(good.With(wire.KeyY, true))), evidence.Malformed, "rak"},
		{"a COSE_Key with a short x", withRAK(encoded(good.With(wire.KeyX, octets(47)))), evidence.Malformed, "rak"},
		{"a COSE_Key that is split elsewhere", withRAK(encoded(good.With(wire.KeyX, point[1:48]).With(wire.KeyY, point[48:]))), evidence.Malformed, "rak"},
		{"a COSE_Key with a member twice", withRAK(encoded(good.Add(int64(wire.KeyX), octets(48)))), evidence.Malformed, "rak"},
		{"a COSE_Key with bytes behind it", withRAK(append(encoded(good), 0)), evidence.Malformed, "rak"},
		{"a COSE_Key under a tag", withRAK(append([]byte{0xc1}, encoded(good)...)), evidence.Malformed, "rak"},
		{"an array as COSE_Key", withRAK([]byte{0x80}), evidence.Malformed, "rak"},
	}
	return faults
}

// The catalogue of tokens that others take: each is refused by name. But for its
// fault each is good, signed by the right keys with a binder that fits.
func TestStrict(t *testing.T) {
	p, want := ccatest.NewPlatform(), bindingOf(t, []byte("nonce and key"))
	cfg := cca.Config{Anchors: []cca.Anchor{p.Anchor()}}
	names := map[string]bool{}
	for _, faults := range [][]fault{formFaults(), claimFaults(), keyFaults(t)} {
		for _, f := range faults {
			if names[f.claim] {
				t.Errorf("two faults are called %s", f.claim)
			}
			names[f.claim] = true
			t.Run(f.claim, func(t *testing.T) {
				got, err := newVerifier(t, cfg).Verify(t.Context(), p.Token(f.realm, want), want)
				wantRefused(t, got, err, f.reason, f.check)
			})
		}
	}
}

// What looks like a fault and is none.
func TestNotTooStrict(t *testing.T) {
	p, want := ccatest.NewPlatform(), bindingOf(t, []byte("nonce and key"))
	v := trusting(t, p.Anchor())
	rak := newKey(t, elliptic.P384())
	named, err := ccatest.COSEKey(&rak.PublicKey).With(wire.KeyAlg, int64(wire.AlgES384)).MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		claim string
		realm ccatest.Realm
	}{
		{"the zero Realm", ccatest.Realm{}},
		{"numbers longer than they need be", inPlatform(with(wire.Lifecycle, raw("\x1b\x00\x00\x00\x00\x00\x00\x30\x00")))},
		{"lengths longer than they need be", inPlatform(with(wire.Config, raw("\x5a\x00\x00\x00\x01\xcf")))},
		{"a protected header longer than it need be", ccatest.Realm{RealmToken: ccatest.Signing{Token: func(b []byte) []byte {
			return append([]byte(wire.TagSign1+"\x84\x58\x04"), b[3:]...)
		}}}},
		{"unknown claims of any kind", inRealm(func(m ccatest.Map) ccatest.Map {
			return m.Add(int64(9999), raw("\x83\xf6\xfb\x40\x09\x21\xfb\x54\x44\x2d\x18\xa1\x61a\xf5")).Add("text", int64(1)).Add(int64(-70000), []byte{1})
		})},
		{"claims of other profiles are unknown ones", of(ccatest.P2023, inRealm(func(m ccatest.Map) ccatest.Map {
			return m.With(wire.UEID, "x").With(wire.MECPolicy, "x")
		}))},
		{"an unknown member of a component", inPlatform(component(with(7, true)))},
		{"a component that names the hash of the platform", inPlatform(component(with(wire.ComponentHash, "sha-256")))},
		{"a component with a hash of its own", inPlatform(component(func(m ccatest.Map) ccatest.Map {
			return m.With(wire.ComponentHash, "sha-384").With(wire.ComponentMeasurement, octets(48)).With(wire.ComponentSignerID, octets(64))
		}))},
		{"no verification service", inPlatform(without(wire.VerificationService))},
		{"a RAK that names its algorithm", ccatest.Realm{Key: rak, RealmToken: ccatest.Signing{Claims: with(wire.RAK, named)}}},
		{"realm measured with sha-384", ccatest.Realm{Hash: cca.SHA384}},
		{"realm measured with sha-512", ccatest.Realm{Hash: cca.SHA512}},
		{"RAK bound with sha-384", ccatest.Realm{RAKHash: cca.SHA384}},
		{"RAK bound with sha-512", of(ccatest.Legacy, ccatest.Realm{RAKHash: cca.SHA512})},
		{"legacy measurements of 64 bytes", of(ccatest.Legacy, inRealm(func(m ccatest.Map) ccatest.Map {
			return m.With(wire.RIM, octets(64)).With(wire.REM, rems(64, 64, 64, 64))
		}))},
		{"MEC policy as a number", inRealm(with(wire.MECPolicy, int64(0)))},
		{"MEC policy as text", inRealm(with(wire.MECPolicy, "private"))},
		{"every lifecycle is well formed", inPlatform(with(wire.Lifecycle, int64(65535)))},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			if _, err := v.Verify(t.Context(), p.Token(tt.realm, want), want); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMECPolicySpellings(t *testing.T) {
	p := ccatest.NewPlatform()
	v := trusting(t, p.Anchor())
	for _, tt := range []struct {
		wire any
		want cca.MECPolicy
	}{{int64(0), cca.MECShared}, {"shared", cca.MECShared}, {int64(1), cca.MECPrivate}, {"private", cca.MECPrivate}, {nil, 0}} {
		e := with(wire.MECPolicy, tt.wire)
		if tt.wire == nil {
			e = without(wire.MECPolicy)
		}
		got, err := v.Verify(t.Context(), p.Token(inRealm(e), evidence.Binding{}), evidence.UncheckedBindingUnsafe())
		if err != nil {
			t.Fatal(err)
		}
		if c, _ := cca.ClaimsOf(got); c.MECPolicy != tt.want {
			t.Errorf("%v is %v", tt.wire, c.MECPolicy)
		}
	}
}

func sum256(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}
