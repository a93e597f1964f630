package pcstest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/pcs"
	"github.com/teebroker/teebroker/tdx/pcs/pcstest"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

func ExampleNew() {
	server := pcstest.New(tdxtest.NewIntel())
	source, err := pcs.New(pcs.Config{BaseURL: "https://pcs.example", Client: server.Client(), Attempts: 1})
	if err != nil {
		panic(err)
	}
	server.Break(pcstest.Fault{Bomb: true})
	_, err = source.Get(context.Background(), tdx.QEIdentityName())
	fmt.Println(errors.Is(err, evidence.Unavailable), err)
	// Output: true pcs: Intel PCS: HTTP status 200: not to be read: compressed
}

func ExampleNewPCCS() {
	server := pcstest.NewPCCS(tdxtest.NewIntel())
	source, err := pcs.New(pcs.Config{BaseURL: "https://pccs.example", Client: server.Client()})
	if err != nil {
		panic(err)
	}
	got, err := source.Get(context.Background(), tdx.RootCRLName())
	if err != nil {
		panic(err)
	}
	fmt.Println(tdx.NamesOf(got[0].Data))
	// Output: [/sgx/certification/v4/rootcacrl]
}
