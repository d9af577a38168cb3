package progress

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/musterhq/muster/cluster/apply"
)

// board is what a terminal shows: a row per host, and one for the cluster as a whole.
type board struct {
	rows   []row // hosts, in the order in which they were first heard of
	whole  row   // of events without a host
	width  int   // of the terminal, in cells; 0 when unknown
	height int   // in lines; 0 when unknown
	color  bool
}

// row is one host and the last that was heard of it.
type row struct {
	host, provider string
	text           string
	failed, done   bool
	first, last    time.Time
}

// take puts an event on the board.
func (b *board) take(e apply.Event) {
	r := &b.whole
	if e.Host != "" {
		r = b.row(e.Host)
	}
	if r.first.IsZero() {
		r.first = e.Time
	}
	r.last = e.Time
	if e.Provider != "" {
		r.provider = e.Provider
	}
	r.text = e.Message
	if r.text == "" {
		r.text = string(e.Phase)
	}
	r.failed, r.done = e.Err != nil, e.Done
	if e.Err != nil {
		r.text = fmt.Sprintf("%s failed: %v", e.Phase, e.Err)
	}
}

func (b *board) row(host string) *row {
	i := slices.IndexFunc(b.rows, func(r row) bool { return r.host == host })
	if i < 0 {
		b.rows = append(b.rows, row{host: host})
		i = len(b.rows) - 1
	}
	return &b.rows[i]
}

// spare is how many lines of the terminal are left to the prompt, the cluster's own line and the count of hidden rows.
const spare = 4

// render draws the board. spinner is the mark of what goes on; over says that nothing goes on any more.
func (b *board) render(now time.Time, spinner string, over bool) string {
	rows, hidden := b.visible(over)
	hostWidth, providerWidth := 0, 0
	for _, r := range b.rows {
		hostWidth = max(hostWidth, lipgloss.Width(r.host))
		providerWidth = max(providerWidth, lipgloss.Width(r.provider))
	}
	var text strings.Builder
	for _, r := range rows {
		line := fmt.Sprintf("%s  %s  %s  ", pad(r.host, hostWidth), pad(r.provider, providerWidth), r.elapsed(now, over))
		text.WriteString(b.line(r, spinner, over, line))
	}
	if hidden > 0 {
		fmt.Fprintf(&text, "  and %d more\n", hidden)
	}
	if b.whole.text != "" {
		text.WriteString(b.line(b.whole, spinner, over, ""))
	}
	return text.String()
}

// visible are the rows that the terminal has room for: those that failed or go on before those that are done.
func (b *board) visible(over bool) (rows []row, hidden int) {
	room := b.height - spare
	if over || b.height == 0 || len(b.rows) <= room {
		return b.rows, 0
	}
	for _, done := range []bool{false, true} {
		for _, r := range b.rows {
			if (r.done && !r.failed) == done {
				rows = append(rows, r)
			}
		}
	}
	room = max(room, 1)
	return rows[:room], len(rows) - room
}

// line is a row as it is drawn, no wider than the terminal.
func (b *board) line(r row, spinner string, over bool, front string) string {
	mark, style := spinner, lipgloss.NewStyle()
	switch {
	case r.failed:
		mark, style = "✗", style.Foreground(lipgloss.Red)
	case r.done:
		mark, style = "✓", style.Foreground(lipgloss.Green)
	case over:
		mark = "·"
	}
	text := front + strings.Join(strings.Fields(r.text), " ")
	if room := b.width - lipgloss.Width(mark) - 1; b.width > 0 && lipgloss.Width(text) > room {
		text = shorten(text, room)
	}
	if b.color {
		mark = style.Render(mark)
	}
	return mark + " " + text + "\n"
}

// shorten cuts text to a number of cells and marks the cut.
func shorten(text string, cells int) string {
	runes := []rune(text)
	for len(runes) > 0 && lipgloss.Width(string(runes))+1 > cells {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}

// elapsed is how long a host has taken until now, or until it was done.
func (r row) elapsed(now time.Time, over bool) string {
	end := now
	if r.done || r.failed || over {
		end = r.last
	}
	return fmt.Sprintf("%5.1fs", max(0, end.Sub(r.first)).Seconds())
}

func pad(text string, cells int) string {
	return text + strings.Repeat(" ", max(0, cells-lipgloss.Width(text)))
}
