package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// A testCase is a base with its changes made.
type testCase struct {
	seed, index uint64
	base        *base
	changes     []string

	report  []byte
	vek     *endorsement
	key     *ecdsa.PrivateKey // signs the report; nil if genuine
	entries []snptest.Entry   // the certificate table
	lists   *lists
	at      time.Time
	want    []byte
}

func (c *testCase) table() []byte { return snptest.CertTable(c.entries...) }

// changesOf returns how many changes a case has: 0 to 4, seldom 0.
func changesOf(r *rand.Rand) int {
	if r.IntN(16) == 0 {
		return 0
	}
	return 1 + r.IntN(4)
}

// generate returns case index of seed.
func (l *lab) generate(seed, index uint64) *testCase {
	r := rand.New(rand.NewPCG(seed, index))
	b := pick(r, l.simulated)
	if r.IntN(5) == 0 {
		b = pick(r, l.genuine)
	}
	c := b.unchanged()
	c.seed, c.index = seed, index
	var todo [len(stages)][]change
	for range changesOf(r) {
		s := pick(r, frequency)
		todo[s] = append(todo[s], pick(r, stages[s]))
	}
	c.apply(r, todo[choose])
	c.apply(r, todo[edit])
	if c.key != nil && !(bytes.Equal(c.report, b.report) && c.key == b.vek.key) {
		sign(c.report, c.key)
	}
	c.fillTable()
	c.apply(r, todo[spoil])
	return c
}

// unchanged returns the case that b is by itself.
func (b *base) unchanged() *testCase {
	c := &testCase{
		base: b, report: bytes.Clone(b.report), vek: b.vek, key: b.vek.key,
		lists: b.world.lists[0], at: b.at, want: b.want,
	}
	c.fillTable()
	return c
}

// fillTable makes the table the one of a host that has the certificate.
func (c *testCase) fillTable() {
	c.entries = []snptest.Entry{{GUID: slot(c.report), Data: c.vek.der}}
}

func (c *testCase) apply(r *rand.Rand, todo []change) {
	for _, change := range todo {
		c.changes = append(c.changes, change(c, r))
	}
}

// A change is made to a case, and says what it did.
type change func(*testCase, *rand.Rand) string

// stage is when a change is made.
type stage int

// The stages, in order: what the case is made of, what is signed, and what is
// changed behind the signer's back. Genuine reports can't be signed anew: all
// that is done to them is done behind the signer's back.
const (
	choose stage = iota
	edit
	spoil
)

// frequency is how often a change is of each stage.
var frequency = []stage{choose, choose, choose, edit, edit, edit, edit, spoil}

// stages are the changes of each stage. One that is there twice is made twice as often.
var stages = [...][]change{
	choose: {changeEndorsement, changeEndorsement, changeEndorsement, changeClock, changeLists, changeLists},
	edit:   {changeField, changeField, changeField, changeField, raiseTCB, changeVersion, changeWant},
	spoil: {
		changeField, flipBit, setByte, changeSignature, changeSignature, changeLength,
		changeCertificate, changeTable, changeTable,
	},
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// changeEndorsement takes another certificate, and mostly makes the report one
// that it would be for.
func changeEndorsement(c *testCase, r *rand.Rand) string {
	c.vek = pick(r, c.base.world.pool)
	if c.vek.key == nil || r.IntN(4) == 0 {
		return "certificate: " + c.vek.name
	}
	c.key = c.vek.key
	if r.IntN(8) == 0 {
		return "signed by " + c.vek.name
	}
	c.conform()
	return "for " + c.vek.name
}

// conform makes the report one of the chip that the certificate is for.
func (c *testCase) conform() {
	info := byte(0)
	if c.vek.kind == snp.VLEK {
		info = 1 << 2
	}
	c.report[offsetKeyInfo] = info
	for _, at := range []int{offsetCurrentTCB, offsetReportedTCB, offsetCommittedTCB, offsetLaunchTCB} {
		copy(c.report[at:], c.vek.tcb[:])
	}
	copy(c.report[offsetChipID:], c.vek.chip[:])
	if c.report[offsetVersion] > 2 && c.vek.line != c.base.vek.line {
		c.report[offsetModel] = map[snp.Line]byte{snp.Milan: 0x01, snp.Genoa: 0x11}[c.vek.line]
	}
}

func changeClock(c *testCase, r *rand.Rand) string {
	c.at = pick(r, c.base.instants)
	return "clock: " + c.at.Format(time.RFC3339)
}

func changeLists(c *testCase, r *rand.Rand) string {
	c.lists = pick(r, c.base.world.lists)
	return "lists: " + c.lists.name
}

// everyField is fields, made once.
var everyField = fields()

func changeField(c *testCase, r *rand.Rand) string {
	f := pick(r, everyField)
	if len(c.report) < f.at+f.size {
		return "nothing"
	}
	return f.name + " " + f.change(r, c.report[f.at:f.at+f.size])
}

// raiseTCB changes what is current, and perhaps committed, as an update does.
func raiseTCB(c *testCase, r *rand.Rand) string {
	i := pick(r, []int{0, 1, 6, 7})
	by := byte(1 + r.IntN(0x90))
	c.report[offsetCurrentTCB+i] += by
	if r.IntN(2) == 0 {
		return fmt.Sprintf("byte %d of CURRENT_TCB raised by %d", i, by)
	}
	c.report[offsetCommittedTCB+i] += by
	return fmt.Sprintf("byte %d of CURRENT_TCB and COMMITTED_TCB raised by %d", i, by)
}

// changeVersion makes the report a right one of another version, as far as it goes.
func changeVersion(c *testCase, r *rand.Rand) string {
	v := byte(2 + r.IntN(4))
	c.report[offsetVersion] = v
	cpu := c.report[offsetFamily : offsetFamily+3]
	switch {
	case v == 2:
		clear(cpu)
	case bytes.Equal(cpu, []byte{0, 0, 0}) && c.vek.line == snp.Milan:
		copy(cpu, []byte{0x19, 0x01, 0x01})
	case bytes.Equal(cpu, []byte{0, 0, 0}):
		copy(cpu, []byte{0x19, 0x11, 0x01})
	}
	if v < 5 {
		clear(c.report[offsetMitigations : offsetMitigations+16])
	}
	return fmt.Sprintf("version %d", v)
}

// changeWant changes the report data, and asks for it.
func changeWant(c *testCase, r *rand.Rand) string {
	data := c.report[offsetReportData : offsetReportData+64]
	for i := range data {
		data[i] = byte(r.Uint32()) | 1
	}
	clear(data[1+r.IntN(64):])
	c.want = bytes.Clone(data)
	return "other report data, asked for"
}

func flipBit(c *testCase, r *rand.Rand) string {
	if len(c.report) == 0 {
		return "nothing"
	}
	bit := r.IntN(8 * len(c.report))
	c.report[bit/8] ^= 1 << (bit % 8)
	return fmt.Sprintf("bit %d of byte %#x flipped", bit%8, bit/8)
}

func setByte(c *testCase, r *rand.Rand) string {
	if len(c.report) == 0 {
		return "nothing"
	}
	i := r.IntN(len(c.report))
	c.report[i] = pick(r, []byte{0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, byte(r.Uint32())})
	return fmt.Sprintf("byte %#x = %#x", i, c.report[i])
}

// changeSignature changes R or S.
func changeSignature(c *testCase, r *rand.Rand) string {
	if len(c.report) < reportSize {
		return "nothing"
	}
	R, S := c.report[offsetR:offsetS], c.report[offsetS:offsetS+72]
	one := pick(r, [][]byte{R, S})
	n := elliptic.P384().Params().N
	switch r.IntN(10) {
	case 0:
		clear(one)
		return "R or S = 0"
	case 1:
		clear(R)
		clear(S)
		return "R and S = 0"
	case 2:
		r := bytes.Clone(R)
		copy(R, S)
		copy(S, r)
		return "R and S swapped"
	case 3:
		putScalar(S, new(big.Int).Mod(new(big.Int).Sub(n, scalar(S)), n))
		return "S = n - S, which is a signature too"
	case 4:
		putScalar(one, new(big.Int).Add(scalar(one), n))
		return "R or S + n"
	case 5:
		putScalar(one, n)
		return "R or S = n"
	case 6:
		one[48+r.IntN(24)] = 1 << r.IntN(8)
		return "a byte above 384 bits"
	case 7:
		slices.Reverse(one[:48])
		return "R or S the other way round"
	case 8:
		c.report[offsetS+72+r.IntN(reportSize-offsetS-72)] = byte(r.Uint32()) | 1
		return "a byte after the signature"
	default:
		bit := r.IntN(384)
		one[bit/8] ^= 1 << (bit % 8)
		return "a bit of R or S flipped"
	}
}

func changeLength(c *testCase, r *rand.Rand) string {
	n := pick(r, []int{0, 1, 0x30, 0x2A0, reportSize - 1, reportSize + 1, reportSize + 16, 2 * reportSize, r.IntN(reportSize)})
	c.report = append(c.report, make([]byte, 2*reportSize)...)[:n]
	return fmt.Sprintf("%d bytes", n)
}

// changeCertificate changes a certificate behind the issuer's back.
func changeCertificate(c *testCase, r *rand.Rand) string {
	e := &c.entries[r.IntN(len(c.entries))]
	if len(e.Data) == 0 {
		return "nothing"
	}
	switch r.IntN(6) {
	case 0:
		n := r.IntN(len(e.Data))
		e.Data = e.Data[:n:n]
		return fmt.Sprintf("certificate of %d bytes", n)
	case 1:
		e.Data = append(bytes.Clone(e.Data), byte(r.Uint32()))
		return "certificate with a byte after it"
	default:
		bit := r.IntN(8 * len(e.Data))
		e.Data = bytes.Clone(e.Data)
		e.Data[bit/8] ^= 1 << (bit % 8)
		return fmt.Sprintf("bit %d of the certificate flipped", bit)
	}
}

// sign signs report. The same key gives the same signature for the same report.
func sign(report []byte, key *ecdsa.PrivateKey) {
	digest := sha512.Sum384(report[:offsetR])
	der, err := key.Sign(nil, digest[:], crypto.SHA384) // without randomness: RFC 6979
	if err != nil {
		panic(err) // of a key and digest that fit
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		panic(err)
	}
	clear(report[offsetR:])
	putScalar(report[offsetR:offsetS], sig.R)
	putScalar(report[offsetS:offsetS+72], sig.S)
}

// scalar returns a little-endian number, putScalar writes one.
func scalar(b []byte) *big.Int {
	b = bytes.Clone(b)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

func putScalar(b []byte, n *big.Int) {
	n = new(big.Int).Mod(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	n.FillBytes(b)
	slices.Reverse(b)
}
