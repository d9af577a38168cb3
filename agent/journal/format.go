package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/runtime"
)

// Format is how entries are shown. The names are journalctl's.
type Format string

// The formats.
const (
	Cat      Format = "cat"       // what the unit wrote and nothing else
	Short    Format = "short"     // with time, host and who wrote it, as syslog has it
	ShortISO Format = "short-iso" // short, with times as in ISO 8601
	JSON     Format = "json"      // an object per entry and line: Line
)

// Formats are the names of all formats.
var Formats = []string{string(Cat), string(Short), string(ShortISO), string(JSON)}

// ParseFormat reads the name of a format, "" for Cat.
func ParseFormat(name string) (Format, error) {
	if name == "" {
		return Cat, nil
	}
	if !slices.Contains(Formats, name) {
		return "", fmt.Errorf("there is no output %q; choose %s", name, strings.Join(Formats, ", "))
	}
	return Format(name), nil
}

// Line is an entry in JSON. The shape is a contract.
type Line struct {
	Time       *time.Time `json:"time,omitempty"` // RFC 3339, UTC
	Host       string     `json:"host"`
	Unit       string     `json:"unit"`
	Priority   string     `json:"priority"` // emerg, alert, crit, err, warning, notice, info, debug
	Identifier string     `json:"identifier,omitempty"`
	PID        int        `json:"pid,omitempty"`
	Message    string     `json:"message"` // what is not UTF-8 is replaced
}

// Writer shows entries of a unit's log.
type Writer struct {
	W          io.Writer
	Format     Format
	Host, Unit string
	Zone       *time.Location // of times in Short and ShortISO

	buffer bytes.Buffer
}

// Write shows entries with one Write to W.
func (w *Writer) Write(entries []runtime.LogEntry) error {
	w.buffer.Reset()
	for _, e := range entries {
		switch w.Format {
		case JSON:
			if err := w.json(e); err != nil {
				return err
			}
		case Short, ShortISO:
			w.short(e)
		default:
			w.buffer.Write(e.Message)
			w.buffer.WriteByte('\n')
		}
	}
	_, err := w.W.Write(w.buffer.Bytes())
	return err
}

func (w *Writer) json(e runtime.LogEntry) error {
	line := Line{
		Host: w.Host, Unit: w.Unit, Priority: levels[min(max(e.Level, 0), len(levels)-1)], Identifier: e.Identifier, PID: e.PID,
		Message: string(bytes.ToValidUTF8(e.Message, []byte("\uFFFD"))),
	}
	if !e.Time.IsZero() {
		at := e.Time.UTC()
		line.Time = &at
	}
	encoder := json.NewEncoder(&w.buffer) // which ends the line
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(line); err != nil {
		return fmt.Errorf("cannot encode an entry: %w", err)
	}
	return nil
}

// short writes what journalctl does: time, host, writer, message; further lines of it below its first.
func (w *Writer) short(e runtime.LogEntry) {
	var head []byte
	if !e.Time.IsZero() {
		layout := time.Stamp
		if w.Format == ShortISO {
			layout = "2006-01-02T15:04:05-0700"
		}
		head = append(e.Time.In(w.Zone).AppendFormat(head, layout), ' ')
	}
	head = append(head, w.Host...)
	head = append(head, ' ')
	who := e.Identifier
	if who == "" {
		who = w.Unit
	}
	head = append(head, who...)
	if e.PID != 0 {
		head = append(strconv.AppendInt(append(head, '['), int64(e.PID), 10), ']')
	}
	head = append(head, ": "...)
	for i, line := range bytes.Split(e.Message, []byte("\n")) {
		if i > 0 {
			head = bytes.Repeat([]byte(" "), len(head))
		}
		w.buffer.Write(head)
		w.buffer.Write(line)
		w.buffer.WriteByte('\n')
	}
}
