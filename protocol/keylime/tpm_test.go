package keylime_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/keylime"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// machine is a TPM that was booted, and its logs.
type machine struct {
	tpm    *vtpmtest.TPM
	events []vtpmtest.Event
	files  []vtpmtest.IMAEntry
}

// booted is a machine of which firmware, boot loader and two files were measured.
var booted = sync.OnceValue(func() machine {
	m := machine{tpm: vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)}
	m.events = []vtpmtest.Event{{Index: 0, Data: []byte("firmware")}, {Index: 4, Data: []byte("loader")}, {Index: 7, Data: []byte("secure boot")}}
	vtpmtest.Apply(m.tpm, m.events...)
	m.files = []vtpmtest.IMAEntry{
		vtpmtest.BootAggregate(m.tpm),
		{Path: "/usr/bin/bash", Content: []byte("bash")},
		{Path: "/usr/lib/libc.so", Content: []byte("libc"), Signature: []byte{3, 2, 4, 1, 2, 3, 4, 0, 2, 5, 6}},
		{Path: "/tmp/x y", Content: []byte("x")},
	}
	vtpmtest.Measure(m.tpm, m.files...)
	m.tpm.Extend(14, []byte("not logged"))
	return m
})

const tpmNonce = "Ai5M5SjYjnkyv4P7itH1" // as Keylime makes them: its bytes are what is quoted

// request is the data of a request of type "tpm".
type tpmRequest map[string]any

func (r tpmRequest) body(t testing.TB) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"type": "tpm", "data": r})
	check(t, err)
	return string(b)
}

// quoteText is a quote as a Keylime agent sends it.
func quoteText(t testing.TB, d vtpmtest.Device, q vtpmtest.Quote, extra string) string {
	t.Helper()
	if q.Extra == nil {
		q.Extra = []byte(extra)
	}
	raw, pcrs := d.Quote(q, evidence.Binding{})
	n := 2 + int(binary.BigEndian.Uint16(raw))
	return "r" + b64(raw[2:n]) + ":" + b64(raw[n:]) + ":" + b64(pcrBlob(q.Selection, pcrs))
}

// pcrBlob writes values as tpm2-tools do.
func pcrBlob(over []vtpm.BankSelection, values []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(over)))
	size := 32
	for _, s := range over {
		var bitmap [5]byte
		for _, i := range s.PCRs {
			bitmap[i/8] |= 1 << (i % 8)
		}
		b = append(append(binary.LittleEndian.AppendUint16(b, uint16(s.Bank)), 3), bitmap[:]...)
		if s.Bank == vtpm.SHA384 {
			size = 48
		}
	}
	b = append(b, make([]byte, 4+16*8-len(b))...)
	lists := slices.Collect(slices.Chunk(slices.Collect(slices.Chunk(values, size)), 8))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(lists)))
	for _, list := range lists {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(list)))
		room := make([]byte, 8*66)
		for i, v := range list {
			binary.LittleEndian.PutUint16(room[66*i:], uint16(len(v)))
			copy(room[66*i+2:], v)
		}
		b = append(b, room...)
	}
	return b
}

func over(bank vtpm.Alg, pcrs ...int) vtpmtest.Quote {
	return vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: bank, PCRs: pcrs}}}
}

// request asks about everything of m, with policies for it.
func (m machine) request(t testing.TB) tpmRequest {
	t.Helper()
	return tpmRequest{
		"quote": quoteText(t, m.tpm, over(vtpm.SHA256, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), tpmNonce),
		"nonce": tpmNonce, "hash_alg": "sha256", "tpm_ek": b64(m.tpm.EK()), "tpm_ak": b64(m.tpm.AK()),
		"tpm_policy":           fmt.Sprintf(`{"7":["%x"],"mask":"0x480"}`, m.tpm.PCR(vtpm.SHA256, 7)),
		"runtime_policy":       m.runtime(nil),
		"ima_measurement_list": string(vtpmtest.IMAList(m.files...)),
		"mb_policy":            m.boot(),
		"mb_log":               b64(vtpmtest.EventLog(m.events...)),
	}
}

func sum(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}

// boot is an mb_policy for what m booted.
func (m machine) boot() string {
	var rules []string
	for _, e := range m.events {
		rules = append(rules, fmt.Sprintf(`{"bank":"sha256","index":%d,"digests":["%s"]}`, e.Index, sum(e.Data)))
	}
	return `{"events":[` + strings.Join(rules, ",") + `]}`
}

// runtime is a runtime_policy for the files of m, as edit changes it.
func (m machine) runtime(edit func(map[string]any)) string {
	digests := map[string][]string{}
	for _, f := range m.files[1:3] {
		digests[f.Path] = []string{sum([]byte("another")), sum(f.Content)}
	}
	p := map[string]any{
		"meta": map[string]any{"version": 1, "generator": 0, "timestamp": "now"}, "release": 0,
		"digests": digests, "excludes": []string{"/tmp/"}, "keyrings": map[string]any{},
		"ima":     map[string]any{"ignored_keyrings": []string{}, "log_hash_alg": "sha1", "dm_policy": nil},
		"ima-buf": map[string]any{}, "verification-keys": "",
	}
	if edit != nil {
		edit(p)
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// verifiers of nothing: type "tpm" does not ask one.
type noVerifier struct{}

func (noVerifier) Verify(context.Context, evidence.Evidence, evidence.Binding) (*evidence.Verified, error) {
	return nil, errors.New("asked")
}

func tpmHandler(t testing.TB, cfg keylime.TPM) http.Handler {
	t.Helper()
	h, err := keylime.New(keylime.Config{
		Verifier: noVerifier{}, Policies: map[string][]*policy.Policy{"": vmpl0()}, TPM: &cfg,
	})
	check(t, err)
	return h
}

// A quote, a boot log and a measurement list are accepted where the policies do.
func TestTPM(t *testing.T) {
	m := booted()
	h := tpmHandler(t, keylime.TPM{AKs: vtpmtest.AKs{m.tpm}})
	code, status, r := post(t, h, m.request(t).body(t))
	if code != 200 || status != "Success" || !r.Valid || len(r.Failures) != 0 {
		t.Fatalf("%d %s %+v", code, status, r)
	}
	id, err := vtpm.AgentID(m.tpm.EKKey())
	check(t, err)
	for name, want := range map[string]string{
		"ak_vouched_for_by": `"activation"`, "vtpm.agent_id": `"` + id + `"`, "vtpm.ima.entries": "4",
		"vtpm.pcr.sha256.7": `"` + hex.EncodeToString(m.tpm.PCR(vtpm.SHA256, 7)) + `"`, "vtpm.link": "",
	} {
		if got := string(r.Claims[name]); got != want {
			t.Errorf("claim %s: %s, want %s", name, got, want)
		}
	}
	// The nonce in base64, other policies, each alone, as objects too.
	quoted := make([]byte, 20)
	for name, edit := range map[string]func(tpmRequest){
		"a nonce in base64": func(r tpmRequest) {
			r["nonce"] = b64(quoted)
			r["quote"] = quoteText(t, m.tpm, over(vtpm.SHA256, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), string(quoted))
		},
		"a policy of PCRs": func(r tpmRequest) {
			only(r, "tpm_policy")
			r["quote"] = quoteText(t, m.tpm, over(vtpm.SHA256, 7, 14), tpmNonce)
			r["tpm_policy"] = json.RawMessage(fmt.Sprintf(`{"7":["%s","%x"]}`, strings.Repeat("0", 64), m.tpm.PCR(vtpm.SHA256, 7)))
		},
		"a boot log": func(r tpmRequest) {
			only(r, "mb_policy", "mb_log")
			r["quote"] = quoteText(t, m.tpm, over(vtpm.SHA256, 0, 1, 4, 7), tpmNonce)
		},
		"a boot log, PCR 14 by its value": func(r tpmRequest) {
			only(r, "mb_policy", "mb_log")
			r["quote"] = quoteText(t, m.tpm, over(vtpm.SHA256, 0, 4, 7), tpmNonce)
			r["tpm_policy"] = fmt.Sprintf(`{"7":["%x"]}`, m.tpm.PCR(vtpm.SHA256, 7))
			r["mb_policy"] = machine{events: m.events[:2]}.boot()
		},
		"a measurement list": func(r tpmRequest) { only(r, "runtime_policy", "ima_measurement_list") },
		"a boot aggregate by the policy": func(r tpmRequest) {
			only(r, "runtime_policy", "ima_measurement_list")
			r["quote"] = quoteText(t, m.tpm, over(vtpm.SHA256, 10), tpmNonce)
			r["runtime_policy"] = m.runtime(func(p map[string]any) {
				p["digests"].(map[string][]string)["boot_aggregate"] = []string{sum(m.files[0].Content)}
			})
		},
		"expressions": func(r tpmRequest) {
			r["runtime_policy"] = m.runtime(func(p map[string]any) { p["excludes"] = []string{"/var/(?:log|tmp)/.*", `/tmp/[x-z] y$`} })
		},
	} {
		r := m.request(t)
		edit(r)
		if code, _, got := post(t, h, r.body(t)); code != 200 || !got.Valid {
			t.Errorf("%s: %d %+v", name, code, got.Failures)
		}
	}
}

// only leaves these of the policies and logs.
func only(r tpmRequest, names ...string) {
	maps.DeleteFunc(r, func(name string, _ any) bool {
		return (strings.HasSuffix(name, "policy") || name == "mb_log" || name == "ima_measurement_list") && !slices.Contains(names, name)
	})
}

// refusedTPM is something that is refused, and the first of its failures.
type refusedTPM struct {
	edit func(r tpmRequest)
	id   string
	code int // if 0, 200
}

// Each thing that can be wrong is refused, with Keylime's id where it has one.
func TestTPMRefused(t *testing.T) {
	m := booted()
	h := tpmHandler(t, keylime.TPM{AKs: vtpmtest.AKs{m.tpm}})
	other := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	all := over(vtpm.SHA256, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	set := func(name string, v any) func(tpmRequest) { return func(r tpmRequest) { r[name] = v } }
	quote := func(q vtpmtest.Quote, extra string) func(tpmRequest) {
		return set("quote", quoteText(t, m.tpm, q, extra))
	}
	runtime := func(edit func(map[string]any)) func(tpmRequest) { return set("runtime_policy", m.runtime(edit)) }
	member := func(name string, v any) func(tpmRequest) { return runtime(func(p map[string]any) { p[name] = v }) }
	parts := strings.Split(quoteText(t, m.tpm, all, tpmNonce), ":")
	unrestricted := vtpmtest.NewTPM(vtpmtest.ECC, nil, vtpmtestUnrestricted)
	const quoted = "qoute_validation.quote_validation"
	cases := map[string]refusedTPM{
		"no policy":         {func(r tpmRequest) { only(r) }, "default.missing_policy", 400},
		"empty policies":    {func(r tpmRequest) { only(r); r["tpm_policy"], r["mb_policy"], r["runtime_policy"] = "{}", "", nil }, "default.missing_policy", 400},
		"a mask only":       {func(r tpmRequest) { only(r); r["tpm_policy"] = `{"mask":"0x1"}` }, "default.missing_policy", 400},
		"a list, no policy": {func(r tpmRequest) { delete(r, "runtime_policy") }, "default.missing_policy", 400},
		"a log, no policy":  {func(r tpmRequest) { delete(r, "mb_policy") }, "default.missing_policy", 400},

		"another nonce":             {set("nonce", "Ai5M5SjYjnkyv4P7itH2"), quoted, 0},
		"a short nonce":             {func(r tpmRequest) { quote(all, "0123456789")(r); r["nonce"] = "0123456789" }, "qoute_validation.invalid_quote", 0},
		"a nonce that is cut":       {quote(all, tpmNonce[:19]), quoted, 0},
		"another TPM's AK":          {set("tpm_ak", b64(other.AK())), "tpm_identity.unlinked", 0},
		"another TPM's EK":          {set("tpm_ek", b64(other.EK())), "tpm_identity.unlinked", 0},
		"an EK that is none":        {set("tpm_ek", b64(m.tpm.EK()[:40])), "qoute_validation.invalid_quote", 0},
		"an AK that is none":        {set("tpm_ak", "AAAA"), "qoute_validation.invalid_quote", 0},
		"hash_alg sha1":             {set("hash_alg", "sha1"), "qoute_validation.invalid_hash_alg", 0},
		"hash_alg sha384":           {set("hash_alg", "sha384"), "qoute_validation.invalid_quote", 0},
		"hash_alg unknown":          {set("hash_alg", "md5"), "qoute_validation.invalid_hash_alg", 0},
		"another bank":              {quote(over(vtpm.SHA384, 7, 10), tpmNonce), "qoute_validation.invalid_quote", 0},
		"two banks":                 {quote(vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: vtpm.SHA256, PCRs: []int{7}}, {Bank: vtpm.SHA384, PCRs: []int{7}}}}, tpmNonce), "qoute_validation.invalid_quote", 0},
		"another quote's signature": {set("quote", parts[0]+":"+strings.Split(quoteText(t, m.tpm, all, "another nonce of 16"), ":")[1]+":"+parts[2]), quoted, 0},
		"not of a TPM":              {quote(vtpmtest.Quote{Edit: func(b []byte) []byte { b[0] = 0; return b }, Selection: all.Selection}, tpmNonce), "", 0},

		"a PCR of another value":  {set("tpm_policy", `{"7":["`+strings.Repeat("0", 64)+`"]}`), "pcr_validation.invalid_pcr_7", 0},
		"a PCR of no value":       {set("tpm_policy", `{"7":[]}`), "pcr_validation.invalid_pcr_7", 0},
		"a PCR not quoted":        {set("tpm_policy", `{"15":["`+strings.Repeat("0", 64)+`"]}`), "pcr_validation.missing_pcrs", 0},
		"a mask not quoted":       {set("tpm_policy", fmt.Sprintf(`{"7":["%x"],"mask":"0x8000"}`, m.tpm.PCR(vtpm.SHA256, 7))), "pcr_validation.missing_pcrs", 0},
		"PCR 24":                  {set("tpm_policy", `{"24":[]}`), "default.invalid_policy", 0},
		"PCR 07":                  {set("tpm_policy", `{"07":[]}`), "default.invalid_policy", 0},
		"a PCR twice":             {set("tpm_policy", `{"7":[],"7":[]}`), "default.invalid_policy", 0},
		"values in upper case":    {set("tpm_policy", `{"7":["`+strings.Repeat("A", 64)+`"]}`), "default.invalid_policy", 0},
		"a value, no list":        {set("tpm_policy", `{"7":"00"}`), "default.invalid_policy", 0},
		"a policy that is a list": {set("tpm_policy", `[]`), "default.invalid_policy", 0},

		"no boot log":                {func(r tpmRequest) { delete(r, "mb_log") }, "pcr_validation.unused_pcr_0", 0},
		"boot not quoted":            {func(r tpmRequest) { only(r, "mb_policy", "mb_log"); quote(over(vtpm.SHA256, 16), tpmNonce)(r) }, "pcr_validation.missing_pcrs", 0},
		"a log of less":              {set("mb_log", b64(vtpmtest.EventLog(m.events[:2]...))), "measured_boot.invalid_pcr_7", 0},
		"a log of more":              {set("mb_log", b64(vtpmtest.EventLog(append(m.events[:3:3], m.events[0])...))), "measured_boot.invalid_pcr_0", 0},
		"a log cut short":            {set("mb_log", b64(vtpmtest.EventLog(m.events...)[:200])), "measured_boot.parser.tpm2_eventlog.error", 0},
		"a log of base65":            {set("mb_log", "%"), "measured_boot.parser.log.base64decode", 0},
		"another event":              {set("mb_policy", strings.Replace(m.boot(), sum([]byte("loader")), sum([]byte("reloader")), 1)), "measured_boot.invalid_pcr_4", 0},
		"an event nobody judges":     {set("mb_policy", machine{events: m.events[1:]}.boot()), "measured_boot.invalid_pcr_0", 0},
		"an event that is not there": {set("mb_policy", machine{events: append(m.events[:3:3], vtpmtest.Event{Index: 9, Data: []byte("initrd")})}.boot()), "measured_boot.invalid_pcr_9", 0},
		"a PCR that was extended by nobody": {func(r tpmRequest) {
			only(r, "mb_policy", "mb_log")
			quote(over(vtpm.SHA256, 0, 4, 7, 14), tpmNonce)(r)
		}, "measured_boot.invalid_pcr_14", 0},
		"a reference state": {set("mb_policy", `{"scrtm_and_bios":[],"kernels":[]}`), "default.invalid_policy", 0},
		"no events":         {set("mb_policy", `{"events":[]}`), "default.invalid_policy", 0},

		"no list":                 {func(r tpmRequest) { delete(r, "ima_measurement_list") }, "pcr_validation.unused_pcr_10", 0},
		"PCR 10 and no policy":    {func(r tpmRequest) { only(r, "tpm_policy") }, "pcr_validation.unused_pcr_10", 0},
		"PCR 10 not quoted":       {quote(over(vtpm.SHA256, 0, 4, 7), tpmNonce), "pcr_validation.missing_pcrs", 0},
		"a list of less":          {set("ima_measurement_list", string(vtpmtest.IMAList(m.files[:3]...))), "ima.pcr_mismatch", 0},
		"a list of something":     {set("ima_measurement_list", "10 abc\n"), "ima.parser.entry", 0},
		"a file changed":          {set("ima_measurement_list", strings.Replace(string(vtpmtest.IMAList(m.files...)), "bash", "dash", 1)), "ima.pcr_mismatch", 0},
		"a file of no digest":     {runtime(func(p map[string]any) { delete(p["digests"].(map[string][]string), "/usr/bin/bash") }), "ima.validation.ima-ng.not_in_allowlist", 0},
		"a file of other digests": {runtime(func(p map[string]any) { p["digests"].(map[string][]string)["/usr/bin/bash"] = []string{sum(nil)} }), "ima.validation.ima-ng.runtime_policy_hash", 0},
		"nothing excluded":        {member("excludes", []string{}), "ima.validation.ima-ng.not_in_allowlist", 0},
		"the middle excluded":     {member("excludes", []string{"tmp/"}), "ima.validation.ima-ng.not_in_allowlist", 0},
		"a boot aggregate that nobody knows": {func(r tpmRequest) {
			only(r, "runtime_policy", "ima_measurement_list")
			quote(over(vtpm.SHA256, 10), tpmNonce)(r)
		}, "ima.validation.ima-ng.not_in_allowlist", 0},
	}
	for name, v := range map[string]any{
		"all excluded": []string{".*"}, "all files excluded": []string{"/"}, "an empty exclude": []string{""}, "a look-ahead": []string{"/tmp/(?!y)"},
		"a bad expression": []string{"/tmp/("}, "two halves of one": []string{"/x)|(/tmp/"}, "Python's end": []string{`/tmp/\Z`}, "a class of POSIX": []string{"/tmp/[[:alpha:]]"},
		"too many excludes": slices.Repeat([]string{"/x"}, 257), "too long excludes": []string{strings.Repeat("/x", 5000)},
	} {
		cases["excludes: "+name] = refusedTPM{member("excludes", v), "default.invalid_policy", 0}
	}
	for _, name := range []string{"meta", "release", "digests", "excludes", "keyrings", "ima", "ima-buf", "verification-keys"} {
		cases["a policy without "+name] = refusedTPM{runtime(func(p map[string]any) { delete(p, name) }), "default.invalid_policy", 0}
		cases["a policy with null as "+name] = refusedTPM{member(name, nil), "", 0}
	}
	for name, v := range map[string]any{
		"keyrings": map[string]any{".ima": []string{sum(nil)}}, "ima-buf": map[string]any{"x": []string{sum(nil)}},
		"verification-keys": "{}", "meta": map[string]any{"version": 2, "generator": 0}, "more": 1, "payload": "e30=",
		"digests": map[string]any{"/x": []string{"zz"}}, "ima": map[string]any{"ignored_keyrings": []string{}, "log_hash_alg": "sha1", "dm_policy": map[string]any{}},
	} {
		cases["a policy with "+name] = refusedTPM{member(name, v), "default.invalid_policy", 0}
	}
	for _, name := range []string{"quote", "nonce", "hash_alg", "tpm_ek", "tpm_ak"} {
		for what, v := range map[string]any{"empty": "", "null": nil} {
			cases[name+" "+what] = refusedTPM{set(name, v), "default.missing_param", 400}
		}
		cases[name+" a number"] = refusedTPM{set(name, 7), "default.invalid_input", 0}
	}
	for name, c := range cases {
		r := m.request(t)
		c.edit(r)
		code, _, got := post(t, h, r.body(t))
		if got.Valid || len(got.Claims) != 0 || len(got.Failures) == 0 || c.id != "" && got.ids()[0] != c.id || code != max(c.code, 200) && c.id != "" {
			t.Errorf("%s: %d %v %+v, want %s", name, code, got.Valid, got.Failures, c.id)
		}
	}
	// An AK that signs what anybody says, though the TPM's owner had it activated.
	r := machine{unrestricted, nil, nil}.request2(t)
	if _, _, got := post(t, tpmHandler(t, keylime.TPM{AKs: vtpmtest.AKs{unrestricted}}), r.body(t)); got.Valid || got.ids()[0] != quoted {
		t.Errorf("an unrestricted AK: %+v", got)
	}
}

// request2 asks about PCR 16 of m, which is zero.
func (m machine) request2(t testing.TB) tpmRequest {
	t.Helper()
	return tpmRequest{
		"quote": quoteText(t, m.tpm, over(vtpm.SHA256, 16), tpmNonce), "nonce": tpmNonce, "hash_alg": "sha256",
		"tpm_ek": b64(m.tpm.EK()), "tpm_ak": b64(m.tpm.AK()), "tpm_policy": `{"16":["` + strings.Repeat("0", 64) + `"]}`,
	}
}

// Whoever flips a bit of a quote, or cuts it, has none.
func TestTPMQuoteBits(t *testing.T) {
	m := booted()
	h := tpmHandler(t, keylime.TPM{AllowCallersAK: true})
	r := m.request2(t)
	if _, _, got := post(t, h, r.body(t)); !got.Valid || string(got.Claims["ak_vouched_for_by"]) != `"caller"` {
		t.Fatalf("the quote itself: %+v", got)
	}
	parts := strings.Split(r["quote"].(string)[1:], ":")
	for i := range parts {
		part := unb64(t, parts[i])
		for bit := range 8 * len(part) {
			if i == 2 && bit%97 != 0 && bit > 8*140 { // mostly room
				continue
			}
			bad := bytes.Clone(part)
			bad[bit/8] ^= 1 << (bit % 8)
			texts := slices.Clone(parts)
			texts[i] = b64(bad)
			r["quote"] = "r" + strings.Join(texts, ":")
			if _, _, got := post(t, h, r.body(t)); got.Valid && !room(i, bit/8) {
				t.Errorf("bit %d of part %d flipped: accepted", bit, i)
			}
		}
		for n := 0; n < len(part); n += 1 + len(part)/40 {
			texts := slices.Clone(parts)
			texts[i] = b64(part[:n])
			r["quote"] = "r" + strings.Join(texts, ":")
			if _, _, got := post(t, h, r.body(t)); got.Valid {
				t.Errorf("part %d cut to %d bytes: accepted", i, n)
			}
		}
	}
	for _, bad := range []string{"", "r", "r::", parts[0] + ":" + parts[1] + ":" + parts[2], "r" + parts[0], "r" + strings.Join(append(parts, "AAAA"), ":")} {
		r["quote"] = bad
		if _, _, got := post(t, h, r.body(t)); got.Valid {
			t.Errorf("%.40q: accepted", bad)
		}
	}
}

// room reports whether a byte of part i means nothing: what tpm2-tools write has the
// hash and bitmap of banks that are not there, what is behind a bitmap, and what is
// behind a digest.
func room(i, at int) bool {
	const head = 4 + 16*8 + 4
	switch {
	case i != 2:
		return false
	case at < 4+8:
		return at >= 4+6
	case at < head-4:
		return (at-4)%8 != 2
	}
	return at >= head+4+2+32 && (at-head-4)%66 >= 2
}

func TestTPMConfig(t *testing.T) {
	for name, tpm := range map[string]keylime.TPM{"neither": {}, "both": {AKs: vtpmtest.AKs{}, AllowCallersAK: true}} {
		if _, err := keylime.New(keylime.Config{Verifier: noVerifier{}, Policies: map[string][]*policy.Policy{"": vmpl0()}, TPM: &tpm}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// Without TPM there is no such type, nor in a list.
	m := booted()
	w := simulated()
	if _, _, got := post(t, w.handler(t, nil), m.request(t).body(t)); got.Valid || got.ids()[0] != "tee_attestation.unsupported_type" {
		t.Errorf("%+v", got)
	}
	h := tpmHandler(t, keylime.TPM{AKs: vtpmtest.AKs{m.tpm}})
	if _, _, got := post(t, h, "["+m.request(t).body(t)+"]"); got.Valid || got.ids()[0] != "tee_attestation.unsupported_type" {
		t.Errorf("%+v", got)
	}
	// What is not known is no yes.
	h = tpmHandler(t, keylime.TPM{AKs: unknownAKs{}})
	if _, _, got := post(t, h, m.request(t).body(t)); got.Valid || got.ids()[0] != "tpm_identity.collateral_unavailable" {
		t.Errorf("%+v", got)
	}
}

type unknownAKs struct{}

func (unknownAKs) Activated(context.Context, vtpm.Name, vtpm.Name) (bool, error) {
	return true, errors.New("database")
}

// ExampleTPM asks about a quote without a policy.
func ExampleTPM() {
	handler, err := keylime.New(keylime.Config{
		Verifier: noVerifier{}, Policies: map[string][]*policy.Policy{"": vmpl0()},
		TPM: &keylime.TPM{AllowCallersAK: true},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	body := `{"type":"tpm","data":{"quote":"r…","nonce":"…","hash_alg":"sha256","tpm_ek":"…","tpm_ak":"…","tpm_policy":"{}"}}`
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/v2.6/verify/evidence", strings.NewReader(body)))
	fmt.Println(answer.Code, answer.Body)
	// Output:
	// 400 {"code":400,"status":"Bad Request","results":{"valid":false,"claims":{},"failures":[{"type":"default.missing_policy","context":{"message":"at least one policy (tpm_policy, runtime_policy, or mb_policy) has to ask something"}}]}}
}

// Whatever is sent as type "tpm", the answer is an envelope, and yes only to the quote
// that was made.
func FuzzTPM(f *testing.F) {
	m := booted()
	h := tpmHandler(f, keylime.TPM{AKs: vtpmtest.AKs{m.tpm}})
	r := m.request(f)
	good := strings.Split(r["quote"].(string), ":")
	f.Add([]byte(r.body(f)))
	f.Add([]byte(m.request2(f).body(f)))
	f.Fuzz(func(t *testing.T, in []byte) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/v2.6/verify/evidence", bytes.NewReader(in)))
		var e struct {
			Code    int     `json:"code"`
			Results results `json:"results"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil || e.Code != rec.Code || rec.Code >= 500 {
			t.Fatalf("%d %q: %v", rec.Code, rec.Body, err)
		}
		if e.Results.Valid && !bytes.Contains(in, []byte(tpmNonce)) && !bytes.Contains(in, []byte(good[0])) && !bytes.Contains(in, []byte(`\u`)) {
			t.Errorf("accepted %q", in)
		}
	})
}

func BenchmarkTPM(b *testing.B) {
	m := booted()
	h := tpmHandler(b, keylime.TPM{AKs: vtpmtest.AKs{m.tpm}})
	body := m.request(b).body(b)
	b.ReportAllocs()
	for b.Loop() {
		if code, _, r := post(b, h, body); code != http.StatusOK || !r.Valid {
			b.Fatal(code)
		}
	}
}
