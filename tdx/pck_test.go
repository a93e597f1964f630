package tdx_test

import (
	"encoding/asn1"
	"slices"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

func TestPCK(t *testing.T) {
	f := newFake(t)
	p := f.claims().PCK
	want := tdx.Configuration{DynamicPlatform: true, SMTEnabled: true}
	if p.PPID[15] != 0xAA || p.PlatformInstance[15] != 0xBB || p.FMSPC != fakeFMSPC || p.Components[7] != 255 || p.PCESVN != 0x1234 || p.Configuration != want || p.CA != tdx.PlatformCA {
		t.Errorf("%+v", p)
	}
	f.setCA(tdx.ProcessorCA)
	p = f.claims().PCK
	if p.PlatformInstance != [16]byte{} || p.Configuration != (tdx.Configuration{}) || p.CA != tdx.ProcessorCA {
		t.Errorf("%+v", p)
	}
}

func TestPCKRefuses(t *testing.T) {
	raw := func(b ...byte) asn1.RawValue { return asn1.RawValue{FullBytes: b} }
	set := func(id string, value any) func([]member) []member {
		return func(ms []member) []member {
			var replace func([]member)
			replace = func(ms []member) {
				for i := range ms {
					if ms[i].id == id {
						ms[i].value = value
					} else if sub, ok := ms[i].value.([]member); ok {
						replace(sub)
					}
				}
			}
			replace(ms)
			return ms
		}
	}
	component := abi.OIDComponent(2)
	for claim, edit := range map[string]func([]member) []member{
		"no PPID":                             func(ms []member) []member { return ms[1:] },
		"PPID twice":                          func(ms []member) []member { return append(ms, ms[0]) },
		"a member that is not known":          func(ms []member) []member { return append(ms, member{abi.OIDConfiguration[:9] + "\x08", true}) },
		"a TCB member that is not known":      set(abi.OIDTCB, append(pckMembers(tdx.PlatformCA)[1].value.([]member), member{abi.OIDTCB + "\x13", 1})),
		"a TCB without CPUSVN":                set(abi.OIDTCB, pckMembers(tdx.PlatformCA)[1].value.([]member)[:17]),
		"a TCB that is no SEQUENCE":           set(abi.OIDTCB, []byte{1}),
		"an empty TCB":                        set(abi.OIDTCB, []member{}),
		"PPID of 15 bytes":                    set(abi.OIDPPID, make([]byte, 15)),
		"PPID of 17 bytes":                    set(abi.OIDPPID, make([]byte, 17)),
		"FMSPC of another type":               set(abi.OIDFMSPC, asn1.BitString{Bytes: make([]byte, 5), BitLength: 40}),
		"a component of 256":                  set(component, 256),
		"a negative component":                set(component, -1),
		"a component with a zero before it":   set(component, raw(2, 2, 0, 1)),
		"a component of no bytes":             set(component, raw(2, 0)),
		"a component of eight bytes":          set(component, raw(2, 8, 1, 0, 0, 0, 0, 0, 0, 1)),
		"a component of another type":         set(component, []byte{1}),
		"a component of a class of its own":   set(component, raw(0x82, 1, 1)),
		"PCESVN of 65536":                     set(abi.OIDPCESVN, 65536),
		"an SGX type that is not defined":     set(abi.OIDSGXType, asn1.Enumerated(3)),
		"an SGX type that is an INTEGER":      set(abi.OIDSGXType, 1),
		"a flag that is neither":              set(abi.OIDSMTEnabled, raw(1, 1, 2)),
		"a flag of two bytes":                 set(abi.OIDSMTEnabled, raw(1, 2, 0, 0xFF)),
		"no flag":                             set(abi.OIDConfiguration, []member{{abi.OIDDynamicPlatform, true}, {abi.OIDCachedKeys, true}}),
		"a flag twice":                        set(abi.OIDConfiguration, []member{{abi.OIDDynamicPlatform, true}, {abi.OIDCachedKeys, true}, {abi.OIDSMTEnabled, true}, {abi.OIDSMTEnabled, false}}),
		"a platform instance of one byte":     set(abi.OIDInstanceID, []byte{1}),
		"a configuration that is no SEQUENCE": set(abi.OIDConfiguration, true),
	} {
		t.Run(claim, func(t *testing.T) {
			f := newFake(t)
			f.setPCK(derOf(edit(pckMembers(tdx.PlatformCA))))
			got, err := f.verify()
			wantRefused(t, got, err, evidence.Untrusted, "profile")
		})
	}
	for claim, ext := range map[string][]byte{
		"empty":         {},
		"no SEQUENCE":   {4, 0},
		"trailing data": append(pckExtension(tdx.PlatformCA), 0),
		"cut short":     pckExtension(tdx.PlatformCA)[:100],
	} {
		t.Run(claim, func(t *testing.T) {
			f := newFake(t)
			f.setPCK(slices.Clone(ext))
			got, err := f.verify()
			wantRefused(t, got, err, evidence.Untrusted, "profile")
		})
	}
}
