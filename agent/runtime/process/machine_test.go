package process

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/golden"
)

func TestMachine(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/machine.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for _, f := range archive.Files {
		var service strings.Builder
		var stories []string
		for line := range strings.Lines(string(f.Data)) {
			if story, ok := strings.CutPrefix(line, "> "); ok {
				stories = append(stories, story)
			} else {
				service.WriteString(line)
			}
		}
		fmt.Fprintf(&got, "-- %s --\n", f.Name)
		for _, story := range stories {
			p := newPlay(service.String())
			for _, word := range strings.Fields(story) {
				p.act(word)
				fmt.Fprintf(&got, "%-16s %s\n", word, p)
			}
			fmt.Fprintln(&got)
		}
	}
	golden.Compare(t, "testdata/machine.golden", got.Bytes())
}

// play is a unit in a world without processes.
type play struct {
	machine
	record
	pids int
}

func newPlay(service string) *play {
	d := define("a.service", contents{Hash: "h", Text: "[Service]\n" + service}, unitfile.HostSpecifiers{})
	return &play{
		machine: machine{now: time.Unix(1_000_000, 0), next: d},
		record:  record{Phase: dead},
	}
}

// act lets one thing happen.
func (p *play) act(word string) {
	what, arg, _ := strings.Cut(word, ":")
	e := event{control: strings.HasPrefix(what, "control")}
	switch what {
	case "start":
		e.kind = asked
	case "stop":
		e.kind = refused
	case "reload":
		e.kind = reloaded
	case "ready":
		e.kind = ready
	case "gone":
		e.kind = gone
	case "late":
		e.kind = expired
		p.now = p.Deadline
	case "fork":
		w := p.wants(p.record)
		if w.spawn == nil {
			return
		}
		p.pids++
		e = event{kind: spawned, control: w.control, proc: &proc{id: id{PID: p.pids}}}
	case "exit", "control":
		code, _ := strconv.Atoi(arg)
		e.kind, e.exit = ended, exit{Code: code}
	case "signal":
		e.kind, e.exit = ended, exit{Signal: arg}
	case "core":
		e.kind, e.exit = ended, exit{Signal: arg, Core: true}
	case "aborted", "control-aborted":
		e.kind, e.exit = ended, exit{Aborted: true}
	}
	p.record = p.step(p.record, e)
	if p.Running != nil {
		p.current = define("a.service", *p.Running, unitfile.HostSpecifiers{}).service
	}
}

// String tells phase, time left, what is to be done, and the result.
func (p *play) String() string {
	s := string(p.Phase)
	if !p.Deadline.IsZero() {
		s += " for " + p.Deadline.Sub(p.now).String()
	}
	w := p.wants(p.record)
	switch {
	case w.spawn != nil:
		s += ", runs " + w.spawn.Path
	case w.signal != "":
		s += ", sends " + w.signal + " to " + []string{"everybody", "the main process", "the control process"}[w.whom]
	}
	if r := p.reason(); r != "" {
		s += ": " + r
	}
	if p.GaveUp {
		s += " (gave up)"
	}
	return s
}

// TestMachineNeverGetsStuck plays at random: whatever happens, a unit that was told to stop comes to rest once time
// passes, with nothing recorded as running, and without a start beyond the limit.
func TestMachineNeverGetsStuck(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/machine.txtar")
	if err != nil {
		t.Fatal(err)
	}
	words := []string{
		"start", "stop", "reload", "ready", "gone", "late", "fork", "fork", "fork", "exit:0", "exit:1", "signal:SIGSEGV",
		"control:0", "control:1", "aborted", "control-aborted",
	}
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SampledFrom(archive.Files).Draw(t, "unit").Data)
		service, _, _ := strings.Cut(text, "> ")
		p := newPlay(service)
		for _, word := range rapid.SliceOf(rapid.SampledFrom(words)).Draw(t, "story") {
			if (word == "late" && p.Deadline.IsZero()) || !p.possible(word) {
				continue
			}
			p.act(word)
		}
		p.act("stop")
		for range 50 {
			if p.resting() {
				break
			}
			switch {
			case p.wants(p.record).spawn != nil:
				p.act("fork")
			case !p.Deadline.IsZero():
				p.act("late")
			case p.Control != nil:
				p.act("control:0")
			}
		}
		if !p.resting() || p.Main != nil || p.Control != nil || len(p.Starts) > 5 {
			t.Fatalf("the unit does not come to rest: %s, %+v", p, p.record)
		}
	})
}

// possible leaves out ends of processes that do not run.
func (p *play) possible(word string) bool {
	switch what, _, _ := strings.Cut(word, ":"); what {
	case "exit", "signal", "aborted":
		return p.mainRuns()
	case "control", "control-aborted":
		return p.Control != nil
	}
	return true
}
