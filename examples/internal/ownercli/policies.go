package ownercli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

const aboutPut = `
Store a policy document under a name. docs/policy.md says what is in one.

Changing one ends the open authorizations of every instance that names it; see
owner policy explain first. The output of attester show is taken too: of it, the
document in its member policy.

  owner policy put -name production -in policy.json`

// readDocument returns the document in a file, or in what attester show printed.
func readDocument(path string) ([]byte, error) {
	b, err := cli.ReadFile(path, policy.MaxDocument)
	if err != nil {
		return nil, err
	}
	var shown struct {
		Policy json.RawMessage `json:"policy"`
	}
	if err := json.Unmarshal(b, &shown); err == nil && bytes.HasPrefix(shown.Policy, []byte("{")) {
		return shown.Policy, nil
	}
	return b, nil
}

func policyPutCommand() cli.Command {
	return cli.Command{Name: "owner policy put", About: aboutPut, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s := serviceFlags(fs)
		name := fs.String("name", "", "`NAME` of the policy: 1 to 64 of a-z, 0-9, '.', '_' and '-'")
		in := fs.String("in", "", "the document is in this `FILE`")
		return s.command(func(ctx context.Context, c *v1.Client) (result, error) {
			if err := missing("name", *name, "in", *in); err != nil {
				return result{}, err
			}
			doc, err := readDocument(*in)
			if err != nil {
				return result{}, err
			}
			if err := c.PutPolicy(ctx, *name, doc); err != nil {
				return result{}, err
			}
			return line("stored as %s", *name), nil
		})
	}}
}

const aboutGet = `
Print a policy document as it is stored, or the names of all.

  owner policy get -name production > policy.json
  owner policy get`

func policyGetCommand() cli.Command {
	return cli.Command{Name: "owner policy get", About: aboutGet, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s := serviceFlags(fs)
		name := fs.String("name", "", "`NAME` of the policy (default: list the names)")
		out := fs.String("out", "", "write the document to `FILE`, byte for byte")
		return s.command(func(ctx context.Context, c *v1.Client) (result, error) {
			if *name == "" {
				names, err := c.Policies(ctx)
				return result{map[string]any{"policies": names}, func(p *cli.Page) {
					for _, n := range names {
						p.Line(cli.Cell{Text: n})
					}
				}}, err
			}
			doc, err := c.Policy(ctx, *name)
			if err != nil {
				return result{}, err
			}
			if *out != "" {
				return line("%d bytes in %s", len(doc), *out), cli.WriteFile(*out, doc, 0o644)
			}
			return result{json.RawMessage(doc), func(p *cli.Page) {
				for l := range bytes.Lines(doc) {
					p.Line(cli.Cell{Text: string(bytes.TrimRight(l, "\r\n"))})
				}
			}}, nil
		})
	}}
}

const aboutExplain = `
Say which verdicts another policy document would change, and why. Nothing is stored.

The broker judges the evidence of the last releases that it has in memory, of every
instance that names the policy, by the stored policies and by the proposed one. After
a restart it has none. Exit status 1 if a verdict would change.

  owner policy explain -name production -in next.json`

func policyExplainCommand() cli.Command {
	return cli.Command{Name: "owner policy explain", About: aboutExplain, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s := serviceFlags(fs)
		name := fs.String("name", "", "`NAME` of the policy that would be replaced")
		in := fs.String("in", "", "the proposed document is in this `FILE`")
		changed := false
		act := s.command(func(ctx context.Context, c *v1.Client) (result, error) {
			if err := missing("name", *name, "in", *in); err != nil {
				return result{}, err
			}
			doc, err := readDocument(*in)
			if err != nil {
				return result{}, err
			}
			e, err := c.Explain(ctx, *name, doc)
			changed = e.Changed > 0
			return result{e, func(p *cli.Page) { printExplanations(p, e) }}, err
		})
		return func(args []string, stdout io.Writer) (bool, error) {
			yes, err := act(args, stdout)
			return yes && !changed, err
		}
	}}
}

func printExplanations(p *cli.Page, e v1.Explanations) {
	style := cli.Good
	if e.Changed > 0 {
		style = cli.Bad
	}
	p.Line(cli.Cell{Text: strconv.Itoa(e.Changed) + " verdicts would change", Style: style}, cli.Cell{Text: fmt.Sprintf("of %d that can be judged", len(e.Results))})
	for _, x := range e.Results {
		head := fmt.Sprintf("%s, %s, released %s: %s, then %s", x.Instance, x.Purpose, x.Released.Local().Format(time.DateTime), verdict(x.Before), verdict(x.After))
		if x.Reason != "" {
			p.Line()
			p.Line(cli.Cell{Text: fmt.Sprintf("%s, %s: its evidence does not verify any more: %s", x.Instance, x.Purpose, x.Reason), Style: cli.Warn})
			continue
		}
		rows := [][]cli.Cell{}
		for _, m := range x.Mismatches {
			rows = append(rows, []cli.Cell{{Text: m.Claim}, {Text: string(m.Got)}, {Text: string(m.Op), Style: cli.Dim}, {Text: string(m.Want)}, {Text: m.Rule, Style: cli.Dim}})
		}
		if len(rows) == 0 {
			p.Line()
			p.Line(cli.Cell{Text: head})
			continue
		}
		p.Table(head, rows)
	}
	if len(e.Unjudged) > 0 {
		p.Line()
		p.Line(cli.Cell{Text: fmt.Sprintf("%d instances name the policy and have no release in the broker's memory", len(e.Unjudged)), Style: cli.Warn})
	}
}

func verdict(accepted bool) string {
	if accepted {
		return "accepted"
	}
	return "refused"
}
