package vtpm

import "encoding/binary"

// cursor reads numbers, which are big-endian as TPM 2.0 Part 1, section 35 has
// them, and sized buffers. After a read beyond the end it is broken: it returns
// zeros and stays so.
type cursor struct {
	rest   []byte
	broken bool
}

func (c *cursor) ok() bool { return !c.broken }

// done reports whether everything was read, and nothing beyond.
func (c *cursor) done() bool { return !c.broken && len(c.rest) == 0 }

func (c *cursor) take(n int) []byte {
	if c.broken || n > len(c.rest) {
		c.broken, c.rest = true, nil
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) u8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// sized takes a TPM2B: a size of two bytes and as many bytes.
func (c *cursor) sized() []byte { return c.take(int(c.u16())) }
