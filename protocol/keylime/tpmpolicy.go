package keylime

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/vtpm"
)

// policyText returns the JSON of a policy, which is there as it is or in a string; nil
// if there is none, or one that is empty and would ask nothing.
func policyText(raw []byte) ([]byte, error) {
	if absent(raw) {
		return nil, nil
	}
	if raw[0] == '"' {
		var s string
		if err := strictjson.Unmarshal(raw, &s); err != nil {
			return nil, err
		}
		raw = []byte(s)
	}
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || raw[0] != '{' {
		return nil, errors.New("not a JSON object")
	}
	members, err := strictjson.Members(raw)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, nil
	}
	return raw, nil
}

// maxValues is how many values a policy may have for one thing.
const maxValues = 4096

// hexList decodes a list of digests of size bytes; of any hash, if size is 0.
func hexList(raw []byte, size int) ([]string, error) {
	var list []string
	if err := strictjson.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	if len(list) > maxValues {
		return nil, fmt.Errorf("%d values", len(list))
	}
	for i, s := range list {
		b, err := strictjson.ParseHex(s)
		if err != nil || len(b) != size && (size != 0 || len(b) < 20 || len(b) > 64) {
			return nil, errors.New("a value is no digest in lower-case hexadecimal")
		}
		list[i] = string(b)
	}
	return list, nil
}

// pcrPolicy is a tpm_policy: PCRs and the values that each may have.
type pcrPolicy struct {
	values map[int][]string
	mask   []int // that have to be quoted as well
}

func parsePCRPolicy(raw []byte) (*pcrPolicy, error) {
	text, err := policyText(raw)
	if err != nil || text == nil {
		return nil, err
	}
	members, err := strictjson.Members(text)
	if err != nil {
		return nil, err
	}
	p := &pcrPolicy{values: map[int][]string{}}
	for name, value := range members {
		if name == "mask" {
			if p.mask, err = parseMask(value); err != nil {
				return nil, err
			}
			continue
		}
		index, err := strconv.Atoi(name)
		if err != nil || index < 0 || index > 23 || strconv.Itoa(index) != name {
			return nil, fmt.Errorf("%.20q is no PCR", name)
		}
		if p.values[index], err = hexList(value, 0); err != nil {
			return nil, fmt.Errorf("PCR %d: %w", index, err)
		}
	}
	if len(p.values) == 0 {
		return nil, nil
	}
	return p, nil
}

// parseMask returns the PCRs of a mask such as "0x408000".
func parseMask(raw []byte) (pcrs []int, err error) {
	var s string
	if err := strictjson.Unmarshal(raw, &s); err != nil {
		return nil, err
	}
	digits, ok := strings.CutPrefix(s, "0x")
	bits, err := strconv.ParseUint(digits, 16, 24)
	if !ok || err != nil {
		return nil, errors.New("mask is not the hexadecimal number of up to 24 PCRs")
	}
	for i := range 24 {
		if bits>>i&1 == 1 {
			pcrs = append(pcrs, i)
		}
	}
	return pcrs, nil
}

// judge returns why the PCRs are not as p wants them. A nil p wants nothing.
func (p *pcrPolicy) judge(c *vtpm.Claims, bank vtpm.Alg) (fs []*failure) {
	if p == nil {
		return nil
	}
	var missing []string
	asked := append(slices.Collect(maps.Keys(p.values)), p.mask...)
	slices.Sort(asked)
	for _, index := range slices.Compact(asked) {
		got, quoted := c.PCR(vtpm.PCR{Bank: bank, Index: index})
		values, judged := p.values[index]
		switch {
		case !quoted:
			missing = append(missing, strconv.Itoa(index))
		case judged && !slices.Contains(values, string(got)):
			fs = append(fs, &failure{component: pcrComponent, id: fmt.Sprintf("invalid_pcr_%d", index), message: fmt.Sprintf("PCR %d has no value of tpm_policy", index)})
		}
	}
	if missing != nil {
		fs = append(fs, &failure{component: pcrComponent, id: missingPCRs, message: "PCRs are missing in quote: " + strings.Join(missing, ", ")})
	}
	return fs
}

// judges reports whether p judges a PCR.
func (p *pcrPolicy) judges(index int) bool {
	if p == nil {
		return false
	}
	_, ok := p.values[index]
	return ok
}

// bootPCRs are the PCRs that a boot log is of.
func bootPCRs() []int { return []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15} }

// bootPolicy is an mb_policy: {"events": [{"bank", "index", "digests"}]}, as the rules
// of package vtpm have it. What Keylime calls a reference state tells events by their
// type and description, which no PCR vouches for.
type bootPolicy struct{ rules vtpm.ReferenceValues }

func parseBootPolicy(raw []byte) (*bootPolicy, error) {
	text, err := policyText(raw)
	if err != nil || text == nil {
		return nil, err
	}
	members, err := strictjson.Members(text)
	if err != nil {
		return nil, err
	}
	if _, ok := members["events"]; !ok || len(members) != 1 {
		return nil, errors.New(`not {"events": […]}: a reference state of Keylime's elchecking is not supported`)
	}
	p := &bootPolicy{}
	if p.rules, err = vtpm.DecodeReferenceValues(text, true); err != nil {
		return nil, err
	}
	if len(p.rules.Events) == 0 {
		return nil, errors.New("events are empty")
	}
	return p, nil
}

// judge returns why the boot is not as p wants it: each PCR that boot is measured into
// and the quote is over has to be made by the log, and judged.
func (p *bootPolicy) judge(c *vtpm.Claims, q *tpmQuestion) (fs []*failure) {
	if p == nil {
		return nil
	}
	bad := func(index int, what string) {
		fs = append(fs, &failure{component: bootComponent, id: fmt.Sprintf("invalid_pcr_%d", index), message: fmt.Sprintf("PCR %d %s", index, what)})
	}
	for _, index := range bootPCRs() {
		pcr := vtpm.PCR{Bank: q.bank, Index: index}
		value, quoted := c.PCR(pcr)
		if !quoted {
			continue
		}
		logged := slices.ContainsFunc(c.Events, func(e vtpm.Event) bool { return e.PCR == pcr })
		named := slices.ContainsFunc(p.rules.Events, func(r vtpm.EventRule) bool { return r.PCR == pcr })
		switch {
		case !logged && strings.Trim(string(value), "\x00") != "":
			bad(index, "was extended, and the boot log has nothing of it")
		case logged && !named && !q.pcrs.judges(index):
			bad(index, "is judged by no policy")
		}
	}
	for _, r := range p.rules.Events {
		if f := judgeEvents(c, r); f != "" {
			bad(r.Index, f)
		}
	}
	return fs
}

// judgeEvents returns what is wrong with the events of one PCR, or "".
func judgeEvents(c *vtpm.Claims, r vtpm.EventRule) string {
	found := false
	for _, e := range c.Events {
		if e.PCR != r.PCR {
			continue
		}
		found = true
		if !r.Digests.Has(e.Digest) {
			return "was extended with something that mb_policy does not have"
		}
	}
	if !found {
		return "is in mb_policy, and the boot log has nothing of it"
	}
	return ""
}
