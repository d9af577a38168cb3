// Package progress shows what `up` and `down` do while they do it: a live line per host on a terminal, a plain line per
// event elsewhere, or a JSON object per event for programs.
//
// A Display is an apply.Reporter. It never fails the work that it shows: what cannot be written is lost. It knows the
// order of events and the look of a line, and nothing of what the phases mean.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/cluster/apply"
)

// Display shows events until it is closed. It is safe for concurrent use. What is written to it, whole lines, appears
// beside the events.
type Display interface {
	apply.Reporter
	io.Writer
	// Ask leaves the terminal to a question. Nothing is shown meanwhile.
	Ask(question func())
	// Close shows how it ended and gives the terminal back. Nothing may be reported afterwards.
	Close()
}

// event is the JSON form of an event. It is stable.
type event struct {
	Time     time.Time `json:"time"`
	Host     string    `json:"host,omitempty"` // none: the cluster as a whole
	Provider string    `json:"provider,omitempty"`
	Phase    string    `json:"phase"`
	Message  string    `json:"message,omitempty"`
	Error    string    `json:"error,omitempty"`
	Done     bool      `json:"done"` // with the host
}

// NewJSON shows one JSON object a line. What is written beside them goes to aside.
func NewJSON(w, aside io.Writer) Display {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return &lines{aside: aside, write: func(e apply.Event) {
		out := event{Time: e.Time, Host: e.Host, Provider: e.Provider, Phase: string(e.Phase), Message: e.Message, Done: e.Done}
		if e.Err != nil {
			out.Error = e.Err.Error()
		}
		_ = encoder.Encode(out)
	}}
}

// NewPlain shows one line of text an event, with the seconds since the first. What is written beside them goes to aside.
func NewPlain(w, aside io.Writer) Display {
	var first time.Time
	return &lines{aside: aside, write: func(e apply.Event) {
		if first.IsZero() {
			first = e.Time
		}
		fmt.Fprintf(w, "%6.1fs  %s\n", e.Time.Sub(first).Seconds(), sentence(e))
	}}
}

// sentence is an event in words.
func sentence(e apply.Event) string {
	text := e.Message
	if text == "" {
		text = string(e.Phase)
	}
	if e.Err != nil {
		text = fmt.Sprintf("%s failed: %v", e.Phase, e.Err)
	}
	text = strings.Join(strings.Fields(text), " ")
	switch {
	case e.Host != "" && e.Provider != "":
		return fmt.Sprintf("%s (%s): %s", e.Host, e.Provider, text)
	case e.Host != "" || e.Provider != "":
		return fmt.Sprintf("%s: %s", e.Host+e.Provider, text)
	default:
		return text
	}
}

// lines shows events one by one.
type lines struct {
	mu    sync.Mutex
	write func(apply.Event)
	aside io.Writer
}

func (l *lines) Report(e apply.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write(e)
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.aside.Write(p)
}

func (l *lines) Ask(question func()) { question() }
func (l *lines) Close()              {}
