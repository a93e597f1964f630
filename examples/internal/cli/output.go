package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// WriteJSON writes v as one indented JSON object with a newline.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// Printable returns s with everything that a terminal could take for a command,
// or that would not be seen, written as an escape. Names in certificates and
// texts of others may hold anything.
func Printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// A Style is how a Cell looks on a terminal.
type Style string

// The Styles.
const (
	Plain Style = ""
	Good  Style = "\x1b[32m"
	Bad   Style = "\x1b[31m"
	Warn  Style = "\x1b[33m"
	Dim   Style = "\x1b[2m"
	Bold  Style = "\x1b[1m"
)

// A Cell is a piece of text in one Style.
type Cell struct {
	Text  string
	Style Style
}

// A Page is output for people. It is written at once, by WriteTo.
type Page struct {
	b      strings.Builder
	colour bool
}

// NewPage returns an empty Page for w, in colour if w is a terminal and
// nobody objects with NO_COLOR or TERM=dumb.
func NewPage(w io.Writer) *Page {
	return &Page{colour: terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Line adds one line of cells with a space between them.
func (p *Page) Line(cells ...Cell) { p.row(cells, nil) }

// Table adds a blank line, a heading and the rows, indented and aligned. It
// adds nothing if there are no rows.
func (p *Page) Table(heading string, rows [][]Cell) {
	if len(rows) == 0 {
		return
	}
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(Printable(c.Text)))
		}
	}
	p.Line()
	p.Line(Cell{heading, Bold})
	for _, r := range rows {
		p.b.WriteString("  ")
		p.row(r, widths)
	}
}

// row adds a line, its cells padded to widths except for the last.
func (p *Page) row(cells []Cell, widths []int) {
	for i, c := range cells {
		text := Printable(c.Text)
		if p.colour && c.Style != Plain {
			p.b.WriteString(string(c.Style) + text + "\x1b[0m")
		} else {
			p.b.WriteString(text)
		}
		if i == len(cells)-1 {
			break
		}
		p.b.WriteByte(' ')
		if i < len(widths) {
			p.b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+1))
		}
	}
	p.b.WriteByte('\n')
}

// WriteTo implements [io.WriterTo].
func (p *Page) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, p.b.String())
	return int64(n), err
}

// Progress returns what tells people at a terminal, on standard error, what is done
// next. Elsewhere nobody is told.
func Progress() func(step string) {
	if !terminal(os.Stderr) {
		return func(string) {}
	}
	return func(step string) { fmt.Fprintf(os.Stderr, "… %s\n", Printable(step)) }
}
