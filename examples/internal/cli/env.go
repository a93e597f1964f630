package cli

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

// environment gives each flag the value of its variable, if that is set and not
// empty. What is on the command line comes later and wins.
func (c Command) environment(fs *flag.FlagSet) (err error) {
	if c.Env == nil {
		return nil
	}
	fs.VisitAll(func(f *flag.Flag) {
		name := c.Env(f.Name)
		if name == "" {
			return
		}
		if value := os.Getenv(name); value != "" {
			if e := fs.Set(f.Name, value); e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", name, e))
			}
		}
	})
	return err
}

// Variable is an Env: TEEBROKER_ and the name of the flag in capitals, with
// underscores.
func Variable(flag string) string {
	return "TEEBROKER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
