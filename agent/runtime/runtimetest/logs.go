package runtimetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/runtime"
)

// testChooseLogs prints on both sides of a moment, and at several severities.
func testChooseLogs(t *testing.T, h *Host) {
	h.LoadUnit("a.service", "ExecStart=/bin/sh -c 'end() { echo \"<3>bad\"; echo late; exit 0; }; trap end TERM; "+
		"exec 2>/dev/null; echo up $$$$; while :; do sleep 1000 & wait $!; done'\n")
	h.StartUnit("a.service")
	h.PID("a.service", "up")
	began := time.Now()
	<-time.After(2 * time.Second) // more than the time of an entry may be off
	between := time.Now()
	<-time.After(2 * time.Second)
	h.StopUnit("a.service")
	h.AwaitLog("a.service", "late")
	for name, c := range map[string]struct {
		query runtime.LogQuery
		want  string
	}{
		"since a moment":                {runtime.LogQuery{Lines: -1, Since: between}, "bad\nlate\n"},
		"the last since a moment":       {runtime.LogQuery{Lines: 1, Since: between}, "late\n"},
		"errors":                        {runtime.LogQuery{Lines: -1, Levels: 4}, "bad\n"},
		"the last error":                {runtime.LogQuery{Lines: 1, Levels: 4}, "bad\n"},
		"nothing as severe as that":     {runtime.LogQuery{Lines: -1, Levels: 1}, ""},
		"nothing since what is to come": {runtime.LogQuery{Lines: -1, Since: time.Now().Add(time.Hour)}, ""},
	} {
		if got, err := h.Lines(h.context(), "a.service", c.query); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	err := h.Logs(h.context(), "a.service", runtime.LogQuery{Lines: -1}, func(entries []runtime.LogEntry) error {
		for _, e := range entries {
			late := string(e.Message) == "bad" || string(e.Message) == "late"
			if e.Time.After(time.Now()) || late != e.Time.After(between) || !late && e.Time.After(began.Add(2*time.Second)) {
				t.Errorf("%q was written at %v", e.Message, e.Time)
			}
			if want := map[bool]int{true: 3, false: runtime.DefaultLevel}[string(e.Message) == "bad"]; e.Level != want {
				t.Errorf("%q has level %d, want %d", e.Message, e.Level, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// testLogsOfReaders has readers that give up, that read nothing, and that are left by a unit that writes a lot.
func testLogsOfReaders(t *testing.T, h *Host) {
	h.LoadUnit("a.service", "Type=oneshot\nRemainAfterExit=yes\n"+
		"ExecStart=/bin/sh -c 'i=0; while [ $$i -lt 20000 ]; do i=$$((i+1)); echo line $$i; done; echo over'\n")
	enough := errors.New("enough")
	err := h.Logs(h.context(), "a.service", runtime.LogQuery{Lines: -1}, func([]runtime.LogEntry) error { return enough })
	if err != nil {
		t.Errorf("a reader of an empty log: %v", err)
	}
	slow, stop := context.WithCancel(h.context())
	defer stop()
	stuck, ended := make(chan bool, 1000), make(chan error, 1)
	go func() {
		ended <- h.Logs(slow, "a.service", runtime.LogQuery{Follow: true}, func([]runtime.LogEntry) error {
			stuck <- true
			<-slow.Done()
			return slow.Err()
		})
	}()
	h.StartUnit("a.service")
	h.AwaitState("a.service", "active", "exited") // a reader that is stuck keeps nobody from writing
	h.AwaitLog("a.service", "over")
	<-stuck
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the reader that was stuck: %v", err)
	}
	err = h.Logs(h.context(), "a.service", runtime.LogQuery{Lines: -1, Follow: true}, func([]runtime.LogEntry) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("a reader that has had enough: %v", err)
	}
}
