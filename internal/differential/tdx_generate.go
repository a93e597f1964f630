package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// A tdxCase is a tdxBase with its changes made.
type tdxCase struct {
	seed, index uint64
	base        *tdxBase
	changes     []string

	platform *tdxPlatform // nil if genuine
	raw      []byte
	set      *tdxSet
	at       time.Time
	want     []byte
}

// A tdxChange is made to a case, and says what it did. b is what of the quote is
// there to be changed.
type tdxChange func(c *tdxCase, r *rand.Rand, b []byte) string

// The stages of a case, in order: what it is made of, what the attestation key
// signs, what the PCK signs, and what is changed behind their back. To genuine
// quotes all is done behind their back.
const (
	tdxChoose stage = iota
	tdxBody
	tdxQE
	tdxSpoil
)

var tdxFrequency = []stage{tdxChoose, tdxChoose, tdxChoose, tdxBody, tdxBody, tdxQE, tdxSpoil, tdxSpoil}

var tdxStages = [...][]tdxChange{
	tdxChoose: {choosePlatform, choosePlatform, chooseSet, chooseSet, chooseClock},
	tdxBody:   {changeIn(tdxFields()), changeIn(tdxFields()), changeIn(tdxFields()), changeTDXWant},
	tdxQE:     {changeIn(qeFields())},
	tdxSpoil: {
		spoilBit, spoilByte, spoilSignature, spoilSignature, spoilKey, spoilLength, spoilSize,
		spoilChain, spoilChain, spoilCollateral, spoilCollateral, spoilCollateral,
	},
}

// generate returns case index of seed.
func (l *tdxLab) generate(seed, index uint64) *tdxCase {
	r := rand.New(rand.NewPCG(seed, index))
	b := pick(r, l.simulated)
	if i := r.IntN(8); i == 0 {
		b = pick(r, l.genuine)
	} else if i < 6 {
		b = l.simulated[0] // Platform CA
	}
	c := &tdxCase{seed: seed, index: index, base: b, platform: b.platform, set: b.set, at: b.at, want: b.want}
	var todo [len(tdxStages)][]tdxChange
	for range changesOf(r) {
		s := pick(r, tdxFrequency)
		todo[s] = append(todo[s], pick(r, tdxStages[s]))
	}
	c.apply(r, todo[tdxChoose], nil)
	c.build(func(signed []byte) { c.apply(r, todo[tdxBody], signed) }, func(report []byte) { c.apply(r, todo[tdxQE], report) })
	for _, change := range todo[tdxSpoil] {
		c.changes = append(c.changes, change(c, r, c.raw))
	}
	return c
}

// unchanged returns the case that b is by itself.
func (b *tdxBase) unchanged() *tdxCase {
	c := &tdxCase{base: b, platform: b.platform, set: b.set, at: b.at, want: b.want}
	c.build(func([]byte) {}, func([]byte) {})
	return c
}

// build makes the quote, with changes to what is signed.
func (c *tdxCase) build(body, qe func([]byte)) {
	if c.platform == nil {
		c.raw = bytes.Clone(c.base.raw)
		body(c.raw[:offsetTDXSize])
		qe(c.raw[offsetQEReport : offsetQEReport+384])
		return
	}
	binding, err := evidence.NewBinding(c.want)
	if err != nil {
		panic(err) // of bytes that are a constant
	}
	c.raw = c.platform.p.Quote(tdxtest.TD{
		Edit: body,
		QE:   qe,
		Data: func(d *tdxtest.SignatureData) { d.Chain = c.platform.chain },
	}, binding).Raw
}

func (c *tdxCase) apply(r *rand.Rand, todo []tdxChange, b []byte) {
	for _, change := range todo {
		c.changes = append(c.changes, change(c, r, b))
	}
}

func choosePlatform(c *tdxCase, r *rand.Rand, _ []byte) string {
	if c.platform == nil {
		return "nothing"
	}
	c.platform = pick(r, c.base.world.platforms)
	return "platform: " + c.platform.name
}

func chooseSet(c *tdxCase, r *rand.Rand, _ []byte) string {
	c.set = pick(r, c.base.world.sets)
	return "collateral: " + c.set.name
}

func chooseClock(c *tdxCase, r *rand.Rand, _ []byte) string {
	c.at = pick(r, c.base.instants)
	return "clock: " + c.at.Format(time.RFC3339)
}

// changeIn returns what changes one of fs.
func changeIn(fs []field) tdxChange {
	return func(_ *tdxCase, r *rand.Rand, b []byte) string {
		f := pick(r, fs)
		return f.name + " " + f.change(r, b[f.at:f.at+f.size])
	}
}

// changeTDXWant changes REPORTDATA, and asks for it.
func changeTDXWant(c *tdxCase, r *rand.Rand, signed []byte) string {
	data := signed[offsetTDXReportData : offsetTDXReportData+64]
	for i := range data {
		data[i] = byte(r.Uint32()) | 1
	}
	clear(data[1+r.IntN(64):])
	c.want = bytes.Clone(data)
	return "other report data, asked for"
}

func spoilBit(c *tdxCase, r *rand.Rand, b []byte) string {
	if len(b) == 0 {
		return "nothing"
	}
	bit := r.IntN(8 * len(b))
	b[bit/8] ^= 1 << (bit % 8)
	return fmt.Sprintf("bit %d of byte %d flipped", bit%8, bit/8)
}

func spoilByte(c *tdxCase, r *rand.Rand, b []byte) string {
	if len(b) == 0 {
		return "nothing"
	}
	i := r.IntN(len(b))
	b[i] = pick(r, []byte{0, 1, 2, '\n', '-', 0x7F, 0x80, 0xFF, byte(r.Uint32())})
	return fmt.Sprintf("byte %d = %#x", i, b[i])
}

// spoilSignature changes r or s of one of the signatures.
func spoilSignature(c *tdxCase, r *rand.Rand, b []byte) string {
	if len(b) < offsetQEAuth {
		return "nothing"
	}
	at := pick(r, []int{offsetTDXSignature, offsetQESignature})
	R, S := b[at:at+32], b[at+32:at+64]
	one := pick(r, [][]byte{R, S})
	n := elliptic.P256().Params().N
	number := new(big.Int).SetBytes(S)
	switch r.IntN(7) {
	case 0:
		clear(one)
		return fmt.Sprintf("r or s at %d = 0", at)
	case 1:
		clear(b[at : at+64])
		return fmt.Sprintf("r and s at %d = 0", at)
	case 2:
		old := bytes.Clone(R)
		copy(R, S)
		copy(S, old)
		return fmt.Sprintf("r and s at %d swapped", at)
	case 3:
		new(big.Int).Mod(new(big.Int).Sub(n, number), n).FillBytes(S)
		return fmt.Sprintf("s at %d = n - s, which is a signature too", at)
	case 4:
		n.FillBytes(one)
		return fmt.Sprintf("r or s at %d = n", at)
	case 5:
		slices.Reverse(one)
		return fmt.Sprintf("r or s at %d the other way round", at)
	default:
		bit := r.IntN(256)
		one[bit/8] ^= 1 << (bit % 8)
		return fmt.Sprintf("a bit of r or s at %d flipped", at)
	}
}

// spoilKey changes the attestation key.
func spoilKey(c *tdxCase, r *rand.Rand, b []byte) string {
	if len(b) < offsetCertification {
		return "nothing"
	}
	key := b[offsetTDXKey:offsetCertification]
	switch r.IntN(4) {
	case 0:
		clear(key)
		return "attestation key = 0"
	case 1:
		copy(key, c.otherKey())
		return "another attestation key"
	case 2:
		y := new(big.Int).Sub(elliptic.P256().Params().P, new(big.Int).SetBytes(key[32:]))
		new(big.Int).Mod(y, new(big.Int).Lsh(big.NewInt(1), 256)).FillBytes(key[32:])
		return "attestation key with y = p - y"
	default:
		return "attestation key: " + spoilBit(c, r, key)
	}
}

func (c *tdxCase) otherKey() []byte {
	point, err := deriveP256("other").PublicKey.Bytes()
	if err != nil {
		panic(err) // of a key on P-256
	}
	return point[1:]
}

// spoilLength changes how long the quote is.
func spoilLength(c *tdxCase, r *rand.Rand, b []byte) string {
	switch r.IntN(4) {
	case 0:
		n := r.IntN(len(b) + 1)
		c.raw = b[:n]
	case 1:
		c.raw = b[:pick(r, []int{0, 1, 2, 47, 48, 631, 632, 636, 1019, 1020, 1220})%(len(b)+1)]
	case 2:
		c.raw = append(b, make([]byte, 1+r.IntN(4000))...)
		return fmt.Sprintf("%d bytes with zeros", len(c.raw))
	default:
		c.raw = append(b, "data that nobody signed"...)
	}
	return fmt.Sprintf("%d bytes", len(c.raw))
}

// spoilSize changes a length or a type in the signature data.
func spoilSize(c *tdxCase, r *rand.Rand, b []byte) string {
	if len(b) < offsetQEAuth+2 {
		return "nothing"
	}
	at := pick(r, []int{offsetTDXSize, offsetCertification, offsetCertification + 2, offsetQEAuth, chainStart(b) - 6, chainStart(b) - 4})
	if at < 0 || at+4 > len(b) {
		return "nothing"
	}
	by := pick(r, []uint16{1, 2, 0xFFFF, 0x100, 0x8000, uint16(r.Uint32())})
	binary.LittleEndian.PutUint16(b[at:], binary.LittleEndian.Uint16(b[at:])+by)
	return fmt.Sprintf("length or type at %d changed by %d", at, int16(by))
}

// spoilChain changes the certificates in the quote. Lengths stay right.
func spoilChain(c *tdxCase, r *rand.Rand, b []byte) string {
	text := chainOf(b)
	certs := blocks(text)
	if len(certs) != 3 {
		return "nothing"
	}
	var done string
	switch r.IntN(12) {
	case 0:
		i := r.IntN(3)
		bit := r.IntN(8 * len(certs[i]))
		certs[i][bit/8] ^= 1 << (bit % 8)
		done, text = fmt.Sprintf("bit %d of certificate %d flipped", bit, i), tdxtest.PEM(certs...)
	case 1:
		slices.Reverse(certs)
		done, text = "certificates the other way round", tdxtest.PEM(certs...)
	case 2:
		done, text = "no root", tdxtest.PEM(certs[:2]...)
	case 3:
		done, text = "a certificate more", tdxtest.PEM(append(certs, certs[2])...)
	case 4:
		done, text = "no zero byte at the end", bytes.TrimRight(text, "\x00")
	case 5:
		done, text = "white space at the end", append(bytes.TrimRight(text, "\x00"), " \n"...)
	case 6:
		done, text = "white space between", bytes.ReplaceAll(text, []byte("-----\n-----"), []byte("-----\n\n \n-----"))
	case 7:
		done, text = "text before", append([]byte("text\n"), text...)
	case 8:
		done, text = "two zero bytes at the end", append(bytes.TrimRight(text, "\x00"), 0, 0)
	case 9:
		done, text = "lines end with CR LF", bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	case 10:
		done, text = "another type of PEM", bytes.ReplaceAll(text, []byte("CERTIFICATE"), []byte("TRUSTED"))
	default:
		if len(c.base.world.platforms) == 0 {
			return "nothing"
		}
		p := pick(r, c.base.world.platforms)
		done, text = "certificates of "+p.name, p.chain
	}
	c.raw = withChain(b, text)
	return done
}

// spoilCollateral changes one answer behind its signer's back.
func spoilCollateral(c *tdxCase, r *rand.Rand, _ []byte) string {
	set := &tdxSet{c.set.name + ", changed", maps.Clone(c.set.files)}
	name := pick(r, slices.Sorted(maps.Keys(set.files)))
	file := set.files[name]
	part := &file.Data
	if len(file.Issuer) > 0 && r.IntN(3) == 0 {
		part = &file.Issuer
	}
	*part = bytes.Clone(*part)
	var done string
	switch r.IntN(9) {
	case 0:
		delete(set.files, name)
		c.set = set
		return "no " + name
	case 1:
		*part = (*part)[:r.IntN(len(*part)+1)]
		done = fmt.Sprintf("cut to %d", len(*part))
	case 2:
		*part = append(*part, pick(r, []byte{0, ' ', '\n', 'x'}))
		done = "a byte more"
	case 3:
		other := pick(r, slices.Sorted(maps.Keys(set.files)))
		file = set.files[other]
		done = "is " + other
	case 4:
		if !isList(name) {
			*part = bytes.Replace(*part, []byte("UpToDate"), []byte("OutOfDate"), 1)
		}
		done = "UpToDate replaced"
	case 5:
		if !isList(name) {
			*part = bytes.Replace(*part, []byte(`"version"`), []byte(`"version":1,"version"`), 1)
		}
		done = "version twice"
	case 6:
		done = spoilByte(c, r, *part)
	default:
		done = spoilBit(c, r, *part)
	}
	set.files[name] = file
	if len(set.files) == 0 {
		return "nothing"
	}
	c.set = set
	return fmt.Sprintf("%s: %s", name, done)
}

// blocks returns what the PEM blocks of text hold.
func blocks(text []byte) [][]byte {
	var ders [][]byte
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return ders
		}
		ders = append(ders, block.Bytes)
	}
}

func serialOf(der []byte) *big.Int {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err) // of a certificate just made
	}
	return c.SerialNumber
}

// deriveP256 returns the key on P-256 with a name, the same in every process.
func deriveP256(name string) *ecdsa.PrivateKey {
	for try := 0; ; try++ {
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), derive(fmt.Sprintf("key %s %d", name, try), 32))
		if err == nil {
			return key
		}
	}
}

// try implements comparison.
func (l *tdxLab) try(seed, index uint64) outcome {
	c := l.generate(seed, index)
	r := c.judge()
	return outcome{index, r, func() string { return c.reproduce(r) }}
}

// judge asks both for their verdict.
func (c *tdxCase) judge() result {
	theirs := theirsTDX(c)
	return weigh(oursTDX(c), theirs, func() (string, bool) { return explainBy(tdxExplanations(), c, theirs) })
}

// reproduce returns c in full.
func (c *tdxCase) reproduce(r result) string {
	b64 := base64.StdEncoding.EncodeToString
	lines := []string{
		fmt.Sprintf("UNEXPLAINED: seed %d, case %d, of %s", c.seed, c.index, c.base.name),
		fmt.Sprintf("  we:     %v %s", r.ours, r.detail),
		fmt.Sprintf("  it:     %v", r.theirs),
		fmt.Sprintf("  clock:  %s, roots: %s, collateral: %s", c.at.Format(time.RFC3339), c.base.world.name, c.set.name),
	}
	for _, change := range c.changes {
		lines = append(lines, "  change: "+change)
	}
	for _, name := range slices.Sorted(maps.Keys(c.set.files)) {
		f := c.set.files[name]
		lines = append(lines, fmt.Sprintf("  %s: %s %s", name, b64(f.Data), b64(f.Issuer)))
	}
	for _, root := range c.base.world.anchors {
		lines = append(lines, "  root:   "+b64(root))
	}
	return strings.Join(append(lines, "  asked:  "+b64(c.want), "  quote:  "+b64(c.raw)), "\n")
}
