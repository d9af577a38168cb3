package progress

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/musterhq/muster/cluster/apply"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

func events() []apply.Event {
	return []apply.Event{
		{Time: at(0), Phase: apply.PhaseObserve, Message: "asking 2 providers what there is"},
		{Time: at(0.1), Host: "node-1", Provider: "cloud-a", Phase: apply.PhaseCreate},
		{Time: at(0.2), Host: "node-2", Provider: "cloud-b", Phase: apply.PhaseCreate},
		{Time: at(1), Host: "node-1", Phase: apply.PhaseJoin, Message: "told who the cluster is"},
		{Time: at(1.5), Host: "node-2", Provider: "cloud-b", Phase: apply.PhaseCreate, Err: errors.New("quota exceeded:\n10 of 10")},
		{Time: at(2), Host: "node-1", Phase: apply.PhaseReady, Message: "ready", Done: true},
		{Time: at(2.5), Provider: "cloud-b", Phase: apply.PhaseCleanup},
	}
}

func TestPlain(t *testing.T) {
	var out, aside bytes.Buffer
	d := NewPlain(&out, &aside)
	for _, e := range events() {
		d.Report(e)
	}
	_, _ = d.Write([]byte("a log line\n"))
	asked := false
	d.Ask(func() { asked = true })
	d.Close()
	want := `   0.0s  asking 2 providers what there is
   0.1s  node-1 (cloud-a): create
   0.2s  node-2 (cloud-b): create
   1.0s  node-1: told who the cluster is
   1.5s  node-2 (cloud-b): create failed: quota exceeded: 10 of 10
   2.0s  node-1: ready
   2.5s  cloud-b: cleanup
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	if aside.String() != "a log line\n" || !asked {
		t.Errorf("aside %q, asked %t", aside.String(), asked)
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	d := NewJSON(&out, io.Discard)
	for _, e := range events()[4:6] {
		d.Report(e)
	}
	want := `{"time":"2026-11-23T12:00:01.5Z","host":"node-2","provider":"cloud-b","phase":"create","error":"quota exceeded:\n10 of 10","done":false}
{"time":"2026-11-23T12:00:02Z","host":"node-1","phase":"ready","message":"ready","done":true}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestBoard(t *testing.T) {
	b := &board{}
	for _, e := range events()[:4] {
		b.take(e)
	}
	want := `* node-1  cloud-a    2.9s  told who the cluster is
* node-2  cloud-b    2.8s  create
* asking 2 providers what there is
`
	if diff := cmp.Diff(want, b.render(at(3), "*", false)); diff != "" {
		t.Errorf("under way: %s", diff)
	}
	for _, e := range events()[4:] {
		b.take(e)
	}
	want = `✓ node-1  cloud-a    1.9s  ready
✗ node-2  cloud-b    1.3s  create failed: quota exceeded: 10 of 10
· cleanup
`
	if diff := cmp.Diff(want, b.render(at(9), "*", true)); diff != "" {
		t.Errorf("over: %s", diff)
	}
}

func TestBoardFitsTerminal(t *testing.T) {
	b := &board{width: 30, height: 10}
	for i := range 40 {
		host := "node-" + string(rune('A'+i%26)) + string(rune('a'+i/26))
		b.take(apply.Event{Time: at(0), Host: host, Provider: "cloud", Phase: apply.PhaseBoot, Message: strings.Repeat("wide ", 20), Done: i < 20})
	}
	b.take(apply.Event{Time: at(0), Phase: apply.PhaseReady, Message: "20 of 40 ready"})
	lines := strings.Split(strings.TrimRight(b.render(at(1), "*", false), "\n"), "\n")
	if len(lines) > 10 {
		t.Errorf("%d lines on a terminal of 10", len(lines))
	}
	for _, line := range lines {
		if n := len([]rune(line)); n > 30 {
			t.Errorf("%d cells on a terminal of 30: %q", n, line)
		}
	}
	if strings.Contains(lines[0], "✓") {
		t.Errorf("a host that is done comes before those that are not: %q", lines[0])
	}
	if !strings.Contains(strings.Join(lines, "\n"), "and 34 more") {
		t.Errorf("hidden hosts are not counted:\n%s", strings.Join(lines, "\n"))
	}
}

func TestLive(t *testing.T) {
	var out bytes.Buffer
	d := NewLive(LiveOptions{
		Out: &out, Environ: []string{"TERM=xterm"}, Now: func() time.Time { return at(3) }, Width: 100, Height: 24,
	})
	for _, e := range events()[:4] {
		d.Report(e)
	}
	_, _ = d.Write([]byte("a log line\n"))
	before := 0
	d.Ask(func() { before = out.Len() }) // nothing draws while the question is open
	for _, e := range events()[4:] {
		d.Report(e)
	}
	d.Close()
	for _, want := range []string{"told who the cluster is", "a log line", "quota exceeded"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not shown:\n%q", want, out.String())
		}
	}
	if before == 0 || strings.Contains(out.String()[:before], "quota exceeded") {
		t.Errorf("the first part is not drawn before the question:\n%q", out.String()[:before])
	}
	if strings.Contains(out.String(), "\x1b[31m") {
		t.Error("colours although there should be none")
	}
}
