package teebroker_test

import (
	"fmt"

	"github.com/teebroker/teebroker"
)

// Who verifies a vTPM quote of a guest compares a PCR with what the receipt of its
// release names: only the guest that opened that release can show it.
func ExamplePCRValue() {
	confirmKey, release := make([]byte, 32), [16]byte{1} // of the guest
	d := teebroker.PCRDigest(confirmKey, release)        // which it extends once, and erases
	receipt := teebroker.Receipt{PCR: teebroker.PCRValue(d)}
	fmt.Printf("%x\n", receipt.PCR[:8])
	// Output: 631d968d6523ed27
}

// Both MACs are under the confirm key, which is in the answer that only the guest
// can open.
func ExampleConfirm_MAC() {
	key := make([]byte, 32)
	c := teebroker.Confirm{Release: [16]byte{1}, Epoch: 2, State: [32]byte{3}}
	fmt.Printf("guest %x\n", c.MAC(key)[:8])
	fmt.Printf("broker %x\n", c.Ack(key, teebroker.ConfirmedResult)[:8])
	// Output:
	// guest c1cc9aa64ce2872f
	// broker 56b444116e745a8e
}
