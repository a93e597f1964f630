package epoch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// Labels of what is made with a confirm key.
const (
	labelConfirm   = "teebroker/v1/confirm"
	labelConfirmed = "teebroker/v1/confirmed"
	labelPCR       = "teebroker/v1/pcr"
)

// MAC is what a guest proves c with: HMAC-SHA-256 under the confirm key of its
// release over LP(label) ‖ LP(release) ‖ u64 epoch ‖ u64 seq ‖ settled(1) ‖
// LP(state) ‖ LP(ek), big-endian. ek is the digest of its TPM's endorsement key,
// 32 bytes, or empty.
func (c Confirm) MAC(confirmKey, ek []byte) []byte {
	return mac(confirmKey, c.message(labelConfirm, ek))
}

// Ack is what the broker proves with that c is durable: the same under another
// label, and LP(result).
func (c Confirm) Ack(confirmKey, ek []byte, result string) []byte {
	return mac(confirmKey, appendLP(c.message(labelConfirmed, ek), []byte(result)))
}

func (c Confirm) message(label string, ek []byte) []byte {
	b := appendLP(nil, []byte(label))
	b = appendLP(b, c.Release[:])
	b = binary.BigEndian.AppendUint64(b, c.Epoch)
	b = binary.BigEndian.AppendUint64(b, c.Seq)
	settled := byte(0)
	if c.Settled {
		settled = 1
	}
	b = append(b, settled)
	return appendLP(appendLP(b, c.State[:]), ek)
}

// PCRDigest is d, which the guest of release extends once into a PCR and erases.
// Nobody else can make it.
func PCRDigest(confirmKey []byte, release [16]byte) [32]byte {
	return [32]byte(mac(confirmKey, appendLP(appendLP(nil, []byte(labelPCR)), release[:])))
}

// PCRValue is what a SHA-256 PCR that was zero has after d was extended into it.
func PCRValue(d [32]byte) [32]byte {
	return sha256.Sum256(append(make([]byte, sha256.Size), d[:]...))
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message) //nolint:errcheck // a hash never fails
	return h.Sum(nil)
}

func appendLP(b, x []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...)
}
