package pcs_test

import (
	"context"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/pcs"
	"github.com/teebroker/teebroker/tdx/pcs/pcstest"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

func ExampleNew() {
	intel := tdxtest.NewIntel()
	server := pcstest.New(intel)

	// Of real platforms: pcs.New(pcs.Config{}) and tdx.Intel().
	source, err := pcs.New(pcs.Config{BaseURL: "https://pccs.example", Client: server.Client()})
	if err != nil {
		panic(err)
	}
	v, err := tdx.NewVerifier(tdx.Config{Anchors: intel.Anchors(), Source: source})
	if err != nil {
		panic(err)
	}
	nonce, err := evidence.NewBinding([]byte("fresh"))
	if err != nil {
		panic(err)
	}
	got, err := v.Verify(context.Background(), intel.Platform(tdx.PlatformCA).Quote(tdxtest.TD{}, nonce), nonce)
	if err != nil {
		panic(err)
	}
	fmt.Println(got.Bound, server.Requests())
	// Output: true 4
}

func ExampleParseNumbers() {
	source, err := pcs.New(pcs.Config{BaseURL: "https://pccs.example", Client: pcstest.New(tdxtest.NewIntel()).Client()})
	if err != nil {
		panic(err)
	}
	c, err := source.Get(context.Background(), pcs.NumbersName())
	if err != nil {
		panic(err)
	}
	numbers, _ := pcs.ParseNumbers(c[0].Data)
	fmt.Println(numbers[0].Number)
	// Output: 18
}
