package activation_test

import (
	"context"
	"fmt"

	"github.com/teebroker/teebroker/activation"
	"github.com/teebroker/teebroker/store/memory"
	"github.com/teebroker/teebroker/vtpm"
)

func ExampleAKs() {
	aks := activation.AKs(memory.New(nil))
	name := vtpm.Name("\x00\x0b" + string(make([]byte, 32)))
	ok, err := aks.Activated(context.Background(), name, name)
	fmt.Println(ok, err) // nobody has bound it
	// Output: false <nil>
}

func ExampleNew() {
	_, err := activation.New(activation.Config{})
	fmt.Println(err)
	// Output: activation: Config.Broker is required
}
