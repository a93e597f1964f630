package main

import (
	"fmt"
	"iter"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
)

// print writes r for people: the verdict, why, and then everything it rests on.
func (r *result) print(p *cli.Page, in input) {
	r.printVerdict(p, in)
	p.Table("Checks", r.checkRows())
	p.Table("Not acceptable", r.mismatchRows())
	if r.Authentic {
		p.Table("Claims", claimRows(r.claims(in)))
		return
	}
	if in.tee == nil {
		return
	}
	if said, err := in.tee.hearsay(in.raw); err == nil {
		p.Table("It says, and nothing vouches for it", claimRows(said))
	}
}

func (r *result) printVerdict(p *cli.Page, in input) {
	word, style := r.verdict()
	title := "evidence"
	if in.tee != nil {
		title = in.tee.title
	}
	p.Line(cli.Cell{Text: word, Style: style}, cli.Cell{Text: title})
	var rows [][]cli.Cell
	row := func(name, text string, style cli.Style) {
		rows = append(rows, []cli.Cell{{Text: name, Style: cli.Dim}, {Text: text, Style: style}})
	}
	if r.Reason != "" {
		row("reason", string(r.Reason), cli.Bad)
		row("check", r.Check, cli.Plain)
		row("field", r.Field, cli.Plain)
		row("detail", r.Detail, cli.Plain)
	}
	if r.Authentic {
		row("binding", r.bindingText(in), cli.Plain)
		for _, name := range r.verified.Skipped {
			row("left out", name, cli.Warn)
		}
		row("until", r.NotAfter.Format(time.RFC3339), cli.Plain)
	}
	if in.policy != nil {
		row("policy", in.policy.String(), cli.Plain)
	}
	p.Table("Verdict", rows)
}

// verdict returns the answer in a word or two.
func (r *result) verdict() (string, cli.Style) {
	switch {
	case !r.Authentic && (r.Reason == evidence.Unavailable || r.Reason == evidence.Stale):
		return "NOT SHOWN TO BE GENUINE", cli.Bad // other collateral, or another time, may show it
	case !r.Authentic:
		return "NOT GENUINE", cli.Bad
	case r.Binding == bindingMismatch:
		return "GENUINE, SIGNED FOR SOMETHING ELSE", cli.Bad
	case r.Accepted == nil:
		return "GENUINE", cli.Good
	case *r.Accepted:
		return "GENUINE AND ACCEPTED", cli.Good
	}
	return "GENUINE, NOT ACCEPTED", cli.Bad
}

func (r *result) bindingText(in input) string {
	if r.Binding == bindingUnchecked && in.policy != nil {
		return "unchecked: the policy judged everything else; a broker would refuse"
	}
	return r.Binding
}

func (r *result) checkRows() (rows [][]cli.Cell) {
	styles := map[evidence.Outcome]cli.Style{evidence.Passed: cli.Good, evidence.Failed: cli.Bad, evidence.Skipped: cli.Warn, evidence.NotReached: cli.Dim}
	for _, c := range r.Checks {
		rows = append(rows, []cli.Cell{{Text: string(c.Outcome), Style: styles[c.Outcome]}, {Text: c.Name}, {Text: c.doc, Style: cli.Dim}})
	}
	return rows
}

func (r *result) mismatchRows() (rows [][]cli.Cell) {
	for _, m := range r.Mismatches {
		rows = append(rows, []cli.Cell{
			{Text: m.Claim, Style: cli.Bad},
			{Text: "got " + m.Got.String()},
			{Text: fmt.Sprintf("want %s %v", m.Op, m.Want)},
			{Text: m.Rule, Style: cli.Dim},
		})
	}
	return rows
}

func claimRows(claims iter.Seq2[string, evidence.Value]) (rows [][]cli.Cell) {
	for name, value := range claims {
		rows = append(rows, []cli.Cell{{Text: name}, {Text: value.String()}})
	}
	return rows
}
