package output

import (
	"fmt"
	"io"
	"strings"

	"charm.land/lipgloss/v2"
)

// Grid is a table: a title line of column names and rows of cells.
type Grid struct {
	Columns []string
	Rows    [][]string
	Color   bool // colour the words that are states
}

// gap is the space between columns.
const gap = 2

// Add appends a row.
func (g *Grid) Add(cells ...string) { g.Rows = append(g.Rows, cells) }

// Write renders the grid with columns as wide as their widest cell. Empty cells show "-".
func (g *Grid) Write(w io.Writer) error {
	widths := make([]int, len(g.Columns))
	for _, row := range append([][]string{g.Columns}, g.Rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], lipgloss.Width(OneLine(cell)))
		}
	}
	var b strings.Builder
	writeRow(&b, widths, g.Columns, func(s string) string { return s })
	for _, row := range g.Rows {
		writeRow(&b, widths, row, g.paint)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("cannot write the table: %w", err)
	}
	return nil
}

func writeRow(b *strings.Builder, widths []int, row []string, paint func(string) string) {
	for i, cell := range row {
		cell = OneLine(cell)
		b.WriteString(paint(cell))
		if i < len(row)-1 {
			b.WriteString(strings.Repeat(" ", widths[i]-lipgloss.Width(cell)+gap))
		}
	}
	b.WriteString("\n")
}

// OneLine keeps a cell on one line and marks an empty one.
func OneLine(cell string) string {
	cell = strings.Join(strings.FieldsFunc(cell, func(r rune) bool { return r == '\n' || r == '\r' || r == '\t' }), " ")
	if strings.TrimSpace(cell) == "" {
		return "-"
	}
	return cell
}

func (g *Grid) paint(cell string) string {
	if !g.Color {
		return cell
	}
	return Paint(cell)
}

var (
	good    = lipgloss.NewStyle().Foreground(lipgloss.Green)
	bad     = lipgloss.NewStyle().Foreground(lipgloss.Red)
	between = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
)

// Paint colours a word that is a state and leaves any other text alone.
func Paint(word string) string {
	switch word {
	case "ready", "running", "healthy", "create", "start":
		return good.Render(word)
	case "lost", "failed", "unhealthy", "unknown", "destroy", "replace", "error":
		return bad.Render(word)
	case "joining", "starting", "stopping", "pending", "warning", "cordoned", "draining", "drained":
		return between.Render(word)
	default:
		return word
	}
}
