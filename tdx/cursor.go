package tdx

import "encoding/binary"

// cursor reads fields of variable size in order. After the first that is not
// there everything it returns is nothing, and ok is false.
type cursor struct {
	rest []byte
	bad  bool
}

// take returns the next n bytes. Sizes come from whoever sent the bytes: they
// are compared before they are used, and unsigned.
func (c *cursor) take(n uint32) []byte {
	if c.bad || uint64(n) > uint64(len(c.rest)) {
		c.bad, c.rest = true, nil
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) u16() uint16 {
	b := c.take(2)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint16(b)
}

func (c *cursor) u32() uint32 {
	b := c.take(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

// ok reports whether all that was asked for was there.
func (c *cursor) ok() bool { return !c.bad }
