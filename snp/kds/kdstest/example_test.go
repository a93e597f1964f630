package kdstest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/kds"
	"github.com/teebroker/teebroker/snp/kds/kdstest"
	"github.com/teebroker/teebroker/snp/snptest"
)

func ExampleNew() {
	amd := snptest.NewAMD()
	chip := amd.Chip(snp.Milan)
	server := kdstest.New(amd)
	source, err := kds.New(kds.Config{BaseURL: "https://kds.example", Client: server.Client(), Attempts: 1})
	if err != nil {
		panic(err)
	}
	name := snp.VCEKName(chip.ID(), chip.Reported)
	server.Break(server.Instead(amd.Chip(snp.Milan)), name)
	_, err = source.Get(context.Background(), name)
	fmt.Println(errors.Is(err, evidence.Unavailable), server.Requests(name))
	// Output: true 1
}
