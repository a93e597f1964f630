package kds_test

import (
	"context"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/kds"
	"github.com/teebroker/teebroker/snp/kds/kdstest"
	"github.com/teebroker/teebroker/snp/snptest"
)

func ExampleNew() {
	amd := snptest.NewAMD()
	chip := amd.Chip(snp.Turin)
	server := kdstest.New(amd)

	// Of real chips: kds.New(kds.Config{}) and snp.AMD().
	source, err := kds.New(kds.Config{BaseURL: "https://kds.example", Client: server.Client()})
	if err != nil {
		panic(err)
	}
	v, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(), Source: source})
	if err != nil {
		panic(err)
	}
	nonce, err := evidence.NewBinding([]byte("fresh"))
	if err != nil {
		panic(err)
	}
	ev := chip.Report(snptest.Guest{}, nonce)
	ev.Items = nil // the guest sends no certificates
	got, err := v.Verify(context.Background(), ev, nonce)
	if err != nil {
		panic(err)
	}
	fmt.Println(got.Bound, got.NotAfter.After(time.Now()))
	// Output: true true
}

func ExampleChainName() {
	fmt.Println(kds.ChainName(snp.Genoa, snp.VLEK))
	// Output: /vlek/v1/Genoa/cert_chain
}

func ExampleSource_Get() {
	server := kdstest.New(snptest.NewAMD())
	source, err := kds.New(kds.Config{BaseURL: "https://kds.example", Client: server.Client()})
	if err != nil {
		panic(err)
	}
	_, err = source.Get(context.Background(), "https://elsewhere.example/")
	fmt.Println(err, server.Requests())
	// Output: kds: evidence: no such collateral 0
}
