package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/examples/internal/cli"
)

// day is what ends are counted in.
const day = 24 * time.Hour

// span is a flag of days, as in "14d", or of what time.ParseDuration knows.
type span time.Duration

// String implements [flag.Value].
func (s *span) String() string { return fmt.Sprintf("%dd", time.Duration(*s)/day) }

// Set implements [flag.Value].
func (s *span) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, ok := strings.CutSuffix(text, "d"); ok {
		var days uint64
		days, err = strconv.ParseUint(n, 10, 15)
		d = time.Duration(days) * day
	}
	if err != nil || d < 0 {
		return fmt.Errorf("not a time such as 14d or 36h")
	}
	*s = span(d)
	return nil
}

// summary is what there is and when it ends.
type summary struct {
	Path     string     `json:"path"`
	Sequence uint64     `json:"sequence,omitempty"` // of a bundle
	Created  *time.Time `json:"created,omitempty"`  // likewise
	Entries  []entry    `json:"entries"`
	Files    []file     `json:"files,omitempty"`
	Ignored  []string   `json:"ignored,omitempty"` // files that are no collateral

	// Within is how far ahead was looked, and Ending what ends until then.
	Within string `json:"within"`
	Ending int    `json:"ending"`
}

type entry struct {
	Name string     `json:"name"`
	Kind string     `json:"kind"`           // "" if it can't be read
	Ends *time.Time `json:"ends,omitempty"` // likewise absent
	Days *int       `json:"days,omitempty"` // whole days left, negative if it has ended
	Soon bool       `json:"soon"`           // it ends within the time looked ahead
}

type file struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

// add adds f as it is at now.
func (s *summary) add(f collateral.Forecast, now time.Time, within span) {
	s.Within, s.Entries = within.String(), []entry{}
	if d := time.Duration(within); d%day != 0 {
		s.Within = d.String()
	}
	for _, e := range f {
		x := entry{Name: e.Name, Kind: string(e.Kind), Soon: e.Ends.Before(now.Add(time.Duration(within)))}
		if !e.Ends.IsZero() {
			left := e.Left(now)
			days := int(left / day)
			if left < 0 {
				days-- // ended today is not zero days left
			}
			x.Ends, x.Days = &e.Ends, &days
		}
		if x.Soon {
			s.Ending++
		}
		s.Entries = append(s.Entries, x)
	}
}

// addBundle adds what b says of itself.
func (s *summary) addBundle(b *collateral.Bundle) {
	created := b.Created()
	s.Sequence, s.Created = b.Sequence(), &created
	for name, size := range b.Files() {
		s.Files = append(s.Files, file{name, size})
	}
}

// write writes s to w, and answers no if anything ends soon.
func (s *summary) write(w io.Writer, asJSON bool) (bool, error) {
	if asJSON {
		return s.Ending == 0, cli.WriteJSON(w, s)
	}
	page := cli.NewPage(w)
	switch {
	case s.Ending > 0:
		page.Line(cli.Cell{Text: "no", Style: cli.Bad}, cli.Cell{Text: fmt.Sprintf("%d of %d end within %s", s.Ending, len(s.Entries), s.Within)})
	default:
		page.Line(cli.Cell{Text: "yes", Style: cli.Good}, cli.Cell{Text: fmt.Sprintf("none of %d ends within %s", len(s.Entries), s.Within)})
	}
	s.print(page)
	_, err := page.WriteTo(w)
	return s.Ending == 0, err
}

func (s *summary) print(page *cli.Page) {
	if s.Created != nil {
		page.Table("Bundle", [][]cli.Cell{
			{{Text: "sequence", Style: cli.Dim}, {Text: fmt.Sprint(s.Sequence)}},
			{{Text: "created", Style: cli.Dim}, {Text: s.Created.Format(time.RFC3339)}},
		})
	}
	var rows [][]cli.Cell
	for _, e := range s.Entries {
		kind, ends, days, style := e.Kind, "unknown", "-", cli.Plain
		if e.Ends != nil {
			ends, days = e.Ends.UTC().Format(time.RFC3339), fmt.Sprintf("%d days", *e.Days)
		}
		if e.Soon {
			style = cli.Bad
		}
		if kind == "" {
			kind = "unknown"
		}
		rows = append(rows, []cli.Cell{{Text: e.Name}, {Text: kind, Style: cli.Dim}, {Text: ends, Style: style}, {Text: days, Style: style}})
	}
	page.Table("Collateral", rows)
	rows = nil
	for _, f := range s.Files {
		rows = append(rows, []cli.Cell{{Text: f.Name}, {Text: fmt.Sprintf("%d bytes", f.Size), Style: cli.Dim}})
	}
	page.Table("Files", rows)
	rows = nil
	for _, path := range s.Ignored {
		rows = append(rows, []cli.Cell{{Text: path, Style: cli.Warn}})
	}
	page.Table("Ignored", rows)
}
