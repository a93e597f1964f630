package cca

import "unicode/utf8"

// What is looked into. Of the tokens known, the largest payload has 143 items
// that nest three deep.
const (
	maxItems = 1024
	maxDepth = 8
)

// How many items are expected.
const (
	platformItems = 160 // in the payload of a platform token
	realmItems    = 40  // and of a realm token
	fewItems      = 12  // in what holds a token together
)

// shapeError says why bytes are not CBOR of the kind that a token may have.
type shapeError string

func (e shapeError) Error() string { return string(e) }

const (
	errTruncated  shapeError = "truncated"
	errTrailing   shapeError = "trailing bytes"
	errIndefinite shapeError = "indefinite length"
	errReserved   shapeError = "reserved encoding"
	errTag        shapeError = "a tag where none may be"
	errUTF8       shapeError = "text that is not UTF-8"
	errKey        shapeError = "a key that is neither number nor text"
	errDuplicate  shapeError = "duplicate key"
	errDeep       shapeError = "nested too deeply"
	errItems      shapeError = "too many items"
)

// kind is a major type of RFC 8949, section 3.1.
type kind byte

const (
	kindUint kind = iota
	kindNegative
	kindBytes
	kindText
	kindArray
	kindMap
	kindTag
	kindSimple // and floating point
)

// item is one data item of CBOR.
type item struct {
	kind  kind
	arg   uint64 // the number n, or n of -1-n, or how many bytes, elements or pairs
	data  string // of kindBytes and kindText: part of the string it was read from
	nodes []node // of the document
	first int    // the node of its first element or key
}

// node is an item as documents keep it: without pointers, so that the many of
// them cost one allocation and the garbage collector nothing.
type node struct {
	kind     kind
	arg      uint64
	from, to int32 // its data in the input; or from, its first element or key in nodes
}

// decode returns the one item that s is: of definite lengths, without tags, with
// keys that are numbers or text, none of them twice. Numbers and lengths may be
// longer than they need be, as the profiles permit that. It makes room for the
// number of items expected, but takes up to maxItems.
//
// It is one pass without another decoder behind it, so that nothing is accepted
// here and read differently there.
func decode(s string, expected int) (item, error) {
	d := decoder{input: s, nodes: make([]node, 0, expected)}
	n, err := d.item(maxDepth)
	if err == nil && d.at != len(s) {
		err = errTrailing
	}
	if err != nil {
		return item{}, err
	}
	return n.of(s, d.nodes), nil
}

// of returns the item that n is.
func (n node) of(input string, nodes []node) item {
	it := item{kind: n.kind, arg: n.arg, nodes: nodes}
	switch n.kind {
	case kindBytes, kindText:
		it.data = input[n.from:n.to]
	case kindArray, kindMap:
		it.data, it.first = input, int(n.from)
	}
	return it
}

// decoder reads items of input, which has at most maxToken bytes.
type decoder struct {
	input string
	at    int
	nodes []node // elements, keys and values, side by side for each array and map
}

// take returns the next n bytes.
func (d *decoder) take(n uint64) (from, to int, err error) {
	if n > uint64(len(d.input)-d.at) {
		return 0, 0, errTruncated
	}
	from = d.at
	d.at += int(n)
	return from, d.at, nil
}

// item reads one item whose own items may nest to depth.
func (d *decoder) item(depth int) (node, error) {
	k, arg, err := d.head()
	if err != nil {
		return node{}, err
	}
	n := node{kind: k, arg: arg}
	switch k {
	case kindBytes, kindText:
		from, to, err := d.take(arg)
		if err != nil {
			return node{}, err
		}
		if k == kindText && !utf8.ValidString(d.input[from:to]) {
			return node{}, errUTF8
		}
		n.from, n.to = int32(from), int32(to)
	case kindArray:
		n.from, err = d.elements(arg, 1, depth)
	case kindMap:
		if n.from, err = d.elements(arg, 2, depth); err == nil {
			err = d.checkKeys(n)
		}
	case kindTag:
		err = errTag
	}
	return n, err
}

// elements reads n times each items and returns where the first of them is.
func (d *decoder) elements(n uint64, each, depth int) (int32, error) {
	first := len(d.nodes)
	switch {
	case depth == 0:
		return 0, errDeep
	case n > uint64((maxItems-first)/each):
		return 0, errItems
	}
	d.nodes = append(d.nodes, make([]node, int(n)*each)...)
	for i := first; i < first+int(n)*each; i++ {
		element, err := d.item(depth - 1)
		if err != nil {
			return 0, err
		}
		d.nodes[i] = element
	}
	return int32(first), nil
}

// checkKeys checks the keys of a map.
func (d *decoder) checkKeys(m node) error {
	items := d.nodes[m.from:][:2*m.arg]
	for i := 0; i < len(items); i += 2 {
		k := items[i]
		if k.kind > kindText || k.kind == kindBytes {
			return errKey
		}
		for j := 0; j < i; j += 2 {
			other := items[j]
			if k.kind == other.kind && k.arg == other.arg && d.input[k.from:k.to] == d.input[other.from:other.to] {
				return errDuplicate
			}
		}
	}
	return nil
}

// head reads the head of an item: RFC 8949, section 3.
func (d *decoder) head() (kind, uint64, error) {
	at, _, err := d.take(1)
	if err != nil {
		return 0, 0, err
	}
	k, info := kind(d.input[at]>>5), d.input[at]&0x1F
	switch {
	case info < 24:
		return k, uint64(info), nil
	case info == 31 && k >= kindBytes && k != kindTag:
		return 0, 0, errIndefinite
	case info > 27:
		return 0, 0, errReserved
	}
	from, to, err := d.take(1 << (info - 24))
	if err != nil {
		return 0, 0, err
	}
	var n uint64
	for _, b := range []byte(d.input[from:to]) {
		n = n<<8 | uint64(b)
	}
	if k == kindSimple && info == 24 && n < 32 {
		return 0, 0, errReserved
	}
	return k, n, nil
}

// len returns how many elements an array has.
func (it item) len() int { return int(it.arg) }

// element returns the i-th item of an array; of a map, of its keys and values in turn.
func (it item) element(i int) item { return it.nodes[it.first+i].of(it.data, it.nodes) }

// elements returns all items of an array.
func (it item) elements() []item {
	all := make([]item, it.len())
	for i := range all {
		all[i] = it.element(i)
	}
	return all
}

// at returns the value of a map under the number key.
func (it item) at(key int64) (item, bool) {
	k := number(key)
	for i := it.first; i < it.first+2*int(it.arg); i += 2 {
		if it.nodes[i].kind == k.kind && it.nodes[i].arg == k.arg {
			return it.nodes[i+1].of(it.data, it.nodes), true
		}
	}
	return item{}, false
}

// only reports whether all keys of a map are numbers among keys.
func (it item) only(keys ...int64) bool {
	known := 0
	for _, key := range keys {
		if _, ok := it.at(key); ok {
			known++
		}
	}
	return known == it.len()
}

// is reports whether it is the number n.
func (it item) is(n int64) bool {
	want := number(n)
	return it.kind == want.kind && it.arg == want.arg
}

// number returns the node of n.
func number(n int64) node {
	if n < 0 {
		return node{kind: kindNegative, arg: uint64(-1 - n)}
	}
	return node{kind: kindUint, arg: uint64(n)}
}
