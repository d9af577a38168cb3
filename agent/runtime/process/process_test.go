package process_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/process"
	"github.com/musterhq/muster/agent/runtime/runtimetest"
	"github.com/musterhq/muster/agent/unitfile"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(agentDir); dir != "" {
		runAgent(dir)
	}
	beStrict()
	goleak.VerifyTestMain(m)
}

func TestConformance(t *testing.T) {
	runtimetest.Run(t, func(t *testing.T) runtimetest.Open { return place(t).open })
}

// site is a directory of units, with the configuration of its Runtime.
type site struct{ process.Config }

func place(t *testing.T) *site {
	t.Helper()
	return &site{config(filepath.Join(t.TempDir(), "units"), uuid.NewString(), t.Output())}
}

func config(dir, instance string, log io.Writer) process.Config {
	return process.Config{
		Dir: dir, Instance: instance,
		Host: unitfile.HostSpecifiers{Hostname: "node-1", MachineID: "0123"},
		Env:  []string{"MUSTER_HOST=node-1", "OWN=host"},
		Path: os.Getenv("PATH"),
		Log:  slog.New(slog.NewTextHandler(log, nil)),
	}
}

func (s *site) open(t *testing.T) runtime.Runtime {
	t.Helper()
	r, err := process.New(context.WithoutCancel(t.Context()), s.Config)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *site) path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

// state reads what the runtime has recorded of a unit.
func (s *site) state(t *testing.T, unit string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(s.path(unit, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	var state map[string]any
	if err := json.Unmarshal(data, &state); err != nil {
		t.Fatal(err)
	}
	return state
}

func (s *site) setState(t *testing.T, unit string, state map[string]any) {
	t.Helper()
	data, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(unit, "state.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// keeper is the process ID of the main process's keeper.
func (s *site) keeper(t *testing.T, unit string) int {
	t.Helper()
	main, _ := s.state(t, unit)["main"].(map[string]any)
	keeper, _ := main["keeper"].(map[string]any)
	pid, _ := keeper["pid"].(float64)
	if pid == 0 {
		t.Fatalf("%s has no keeper", unit)
	}
	return int(pid)
}

type startLine struct {
	Time     time.Time `json:"time"`
	Unit     string    `json:"unit"`
	Instance string    `json:"instance"`
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Hash     string    `json:"hash"`
}

func (s *site) starts(t *testing.T, unit string) []startLine {
	t.Helper()
	data, err := os.ReadFile(s.path(unit, "starts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []startLine
	for line := range bytes.Lines(data) {
		var l startLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, l)
	}
	return lines
}

const sleeper = "ExecStart=/bin/sh -c 'echo up $$$$; exec sleep 1000'\n"

func TestStartsAreRecorded(t *testing.T) {
	s := place(t)
	h := runtimetest.NewHost(t, s.open)
	h.LoadUnit("a@1.service", "ExecStartPre=/bin/true\n"+sleeper)
	for n := range 3 {
		h.StartUnit("a@1.service")
		pids := h.AwaitLogs("a@1.service", "up", n+1)
		h.StopUnit("a@1.service")
		lines := s.starts(t, "a@1.service")
		if len(lines) != n+1 {
			t.Fatalf("%d starts, recorded %+v", n+1, lines)
		}
		l := lines[n]
		if l.Unit != "a@1.service" || l.Instance != s.Instance || l.Host != "node-1" || strconv.Itoa(l.PID) != pids[n] ||
			l.Hash != h.Status("a@1.service").Hash || l.Time.IsZero() {
			t.Errorf("process %s was recorded as %+v", pids[n], l)
		}
	}
}

func TestEnvironment(t *testing.T) {
	s := place(t)
	file := filepath.Join(t.TempDir(), "env file")
	if err := os.WriteFile(file, []byte("FROM_FILE='two words'\nB=file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := runtimetest.NewHost(t, s.open)
	h.LoadUnit("web@7.service", `Type=oneshot
Environment="A=a b" B=unit OWN=unit I=%i line=kept keeper=kept
EnvironmentFile=`+file+`
EnvironmentFile=-/nowhere
WorkingDirectory=`+filepath.Dir(file)+`
ExecStart=/bin/sh -c 'for a; do echo "arg $$a"; done' sh $A ${A} x${B} %n %H $FROM_FILE "${FROM_FILE}" $NONE "$$"
ExecStart=/bin/sh -c 'echo "$$OWN $$I $$line $$keeper $$MUSTER_HOST $$MUSTER_UNIT $$MUSTER_INSTANCE"; pwd; ls /proc/self/fd | grep -c "^[4-9]$$"; true'
ExecStart=-/bin/false
ExecStart=:/bin/echo $A ${B}
`)
	h.StartUnit("web@7.service")
	h.AwaitLog("web@7.service", "$A")
	want := "arg a\narg b\narg a b\narg xfile\narg web@7.service\narg node-1\narg two\narg words\narg two words\narg $\n" +
		"unit 7 kept kept node-1 web@7.service " + s.Instance + "\n" + filepath.Dir(file) + "\n0\n$A ${B}\n"
	if got := h.Log("web@7.service"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCannotBeExecuted(t *testing.T) {
	h := runtimetest.NewHost(t, place(t).open)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]string{
		"ExecStart=no-such-program\n":                                "cannot execute no-such-program: not found in ",
		"ExecStart=/no/such/program\n":                               "cannot execute /no/such/program: no such file",
		"ExecStart=/usr\n":                                           "cannot execute /usr: it is a directory",
		"ExecStart=" + plain + "\n":                                  "permission denied",
		"ExecStart=/bin/true\nWorkingDirectory=/no/such/directory\n": "cannot change to directory /no/such/directory",
		"ExecStart=/bin/true\nWorkingDirectory=~\n":                  "cannot change to the home directory",
		"ExecStart=/bin/true\nEnvironmentFile=/no/such/file\n":       "cannot read the environment: open /no/such/file",
	} {
		h.LoadUnit("a.service", service+"StartLimitBurst=0\n")
		h.StartUnit("a.service")
		if s := h.AwaitState("a.service", "failed", "failed"); !strings.Contains(s.Reason, want) {
			t.Errorf("%s: the reason is %q, want %q", service, s.Reason, want)
		}
	}
	h.LoadUnit("a.service", "ExecStart=-/no/such/program\nStartLimitBurst=0\n")
	h.StartUnit("a.service")
	h.AwaitState("a.service", "inactive", "dead")
}

func TestCannotRunHere(t *testing.T) {
	h := runtimetest.NewHost(t, place(t).open)
	for service, want := range map[string]string{
		"Type=forking\nExecStart=/bin/true\n":   "a service of Type=forking needs systemd",
		"ExecStart=@/bin/sh -sh\n":              "@ in front of /bin/sh needs systemd",
		"ExecStart=/bin/echo %t\n":              "specifier %t has no value here",
		"ExecStart=/bin/true\nUser=nobody-55\n": "cannot find User=nobody-55",
	} {
		h.LoadUnit("a.service", service)
		if s := h.Status("a.service"); s.Load != "error" || !strings.Contains(s.Reason, want) {
			t.Errorf("%s: got %+v, want %q", service, s, want)
		}
	}
	f, _, err := unitfile.Parse("a.timer", []byte("[Timer]\nOnBootSec=5\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Load(t.Context(), runtime.Unit{Name: "a.timer", Hash: "1", File: f}); err != nil {
		t.Fatal(err)
	}
	if s := h.Status("a.timer"); s.Load != "error" || !strings.Contains(s.Reason, "a .timer needs systemd") {
		t.Errorf("got %+v", s)
	}
}

func TestUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("changing to another user needs root")
	}
	h := runtimetest.NewHost(t, place(t).open)
	h.LoadUnit("a.service", "User=nobody\nExecStartPre=+/bin/sh -c 'echo pre $$(id -un)'\n"+
		"ExecStart=/bin/sh -c 'echo main $$(id -un) $$USER; exit 144'\n")
	h.StartUnit("a.service")
	if s := h.AwaitState("a.service", "failed", "failed"); s.Reason != "exit status 144" {
		t.Errorf("got %+v", s)
	}
	if got := h.Log("a.service"); got != "pre root\nmain nobody nobody\n" {
		t.Errorf("got %q", got)
	}
}

func TestStartTimeout(t *testing.T) {
	h := runtimetest.NewHost(t, place(t).open)
	h.LoadUnit("a.service", "ExecStartPre=/bin/sh -c 'echo pre $$$$; exec sleep 1000'\nTimeoutStartSec=300ms\nExecStart=/bin/true\n")
	h.StartUnit("a.service")
	s := h.AwaitState("a.service", "failed", "failed")
	if s.Reason != "ExecStartPre: timeout" {
		t.Errorf("got %+v", s)
	}
	if runtimetest.Runs(h.PID("a.service", "pre")) {
		t.Error("the command goes on")
	}
}

func TestStopCommands(t *testing.T) {
	h := runtimetest.NewHost(t, place(t).open)
	h.LoadUnit("a.service", sleeper+`ExecStartPost=/bin/sh -c 'echo post $$MAINPID'
ExecReload=/bin/sh -c 'echo reload $$MAINPID'
ExecStop=/bin/sh -c 'echo stop $$MAINPID $$SERVICE_RESULT; kill -USR1 $$MAINPID'
ExecStopPost=/bin/sh -c 'echo after $$MAINPID $$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS'
`)
	h.StartUnit("a.service")
	h.AwaitState("a.service", "active", "running")
	reloader, ok := h.Runtime.(runtime.Reloader)
	if !ok {
		t.Fatal("cannot reload")
	}
	if err := reloader.Reload(t.Context(), "a.service"); err != nil {
		t.Fatal(err)
	}
	pid := h.AwaitLog("a.service", "reload")
	h.AwaitState("a.service", "active", "running")
	h.StopUnit("a.service")
	want := fmt.Sprintf("stop %s success\nafter signal killed USR1\n", pid)
	if got := h.Log("a.service"); !strings.HasSuffix(got, want) || !strings.Contains(got, "post "+pid) {
		t.Errorf("process %s: got\n%s\nwant\n%s", pid, got, want)
	}
	if err := reloader.Reload(t.Context(), "a.service"); err == nil {
		t.Error("a stopped unit was reloaded")
	}
}

func TestKillModes(t *testing.T) {
	h := runtimetest.NewHost(t, place(t).open)
	const service = "ExecStart=/bin/sh -c '(trap \"\" TERM; echo child $$(sh -c \"echo \\$PPID\"); exec sleep 1000) & " +
		"echo up $$$$; exec sleep 1000'\n"
	for mode, childRuns := range map[string]bool{"mixed": false, "process": true} {
		name := mode + ".service"
		h.LoadUnit(name, service+"KillMode="+mode+"\n")
		h.StartUnit(name)
		main, child := h.PID(name, "up"), h.PID(name, "child")
		h.StopUnit(name)
		if runtimetest.Runs(main) || runtimetest.Runs(child) != childRuns {
			t.Errorf("%s: main process runs: %v, its child: %v", mode, runtimetest.Runs(main), runtimetest.Runs(child))
		}
		if childRuns {
			_ = unix.Kill(child, unix.SIGKILL)
		}
	}
}

func TestNotify(t *testing.T) {
	if _, err := exec.LookPath("systemd-notify"); err != nil {
		t.Skip("there is no systemd-notify to report readiness with")
	}
	s := place(t)
	h := runtimetest.NewHost(t, s.open)
	h.LoadUnit("a.service", "Type=notify\nNotifyAccess=all\nTimeoutStartSec=1min\n"+
		"ExecStart=/bin/sh -c 'echo up; while ! test -e "+s.path("go")+"; do sleep 0.01; done; "+
		"systemd-notify --ready --status=\"all is well\"; exec sleep 1000'\n")
	h.StartUnit("a.service")
	h.AwaitLog("a.service", "up")
	h.AwaitState("a.service", "activating", "start")
	if err := os.WriteFile(s.path("go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Await("a.service", "active with its own words", func(s runtime.Status) bool {
		return s.Active == "active" && s.Reason == "all is well"
	})

	// As root, systemd-notify speaks as its parent: here a shell that is not the main process.
	h.LoadUnit("b.service", "Type=notify\nTimeoutStartSec=1s\n"+
		"ExecStart=/bin/sh -c 'sh -c \"systemd-notify --ready; echo said\"; exec sleep 1000'\n")
	h.StartUnit("b.service")
	h.AwaitLog("b.service", "said")
	if s := h.AwaitState("b.service", "failed", "failed"); s.Reason != "did not start in time" {
		t.Errorf("another process than the main one was heard: %+v", s)
	}
}

func TestLogsAreBounded(t *testing.T) {
	s := place(t)
	s.LogLimit = 4096
	h := runtimetest.NewHost(t, s.open)
	h.LoadUnit("a.service", "ExecStart=/bin/sh -c 'i=0; while :; do i=$$((i+1)); echo $$i; test -e "+s.path("stop")+
		" && break; done; while :; do echo over; sleep 0.1; done'\n") // a line may fall into the cut
	h.StartUnit("a.service")
	for { // until the log was moved twice
		if _, err := os.Stat(s.path("a.service", "log.1")); err == nil {
			break
		}
		<-time.After(time.Millisecond)
	}
	if err := os.WriteFile(s.path("stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.AwaitLog("a.service", "over")
	if last, err := h.Lines(t.Context(), "a.service", runtime.LogQuery{Lines: 3}); err != nil || !strings.HasSuffix(last, "over\n") {
		t.Errorf("the last lines are %q, %v", last, err)
	}
}

func TestOnlyOneRuntime(t *testing.T) {
	s := place(t)
	h := runtimetest.NewHost(t, s.open)
	if _, err := process.New(t.Context(), s.Config); err == nil || !strings.Contains(err.Error(), "another agent does") {
		t.Errorf("a second runtime: %v", err)
	}
	h.Shut()
	h.Open()
	nameless := s.Config
	nameless.Instance = ""
	if _, err := process.New(t.Context(), nameless); err == nil {
		t.Error("an instance without an ID was accepted")
	}
}

func TestHistory(t *testing.T) {
	s := place(t)
	h := runtimetest.NewHost(t, s.open)
	for i := range 102 {
		name := fmt.Sprintf("a@%d.service", i)
		h.LoadUnit(name, sleeper)
		if i == 0 {
			h.StartUnit(name)
			h.PID(name, "up")
			h.StopUnit(name)
		}
		if err := h.Unload(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if i == 0 && (!strings.Contains(h.Log(name), "up") || len(s.starts(t, name)) != 1) {
			t.Error("unloading a unit removed its log or its starts")
		}
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil || len(entries) != 101 { // and the lock
		t.Errorf("%d directories are left, %v", len(entries), err)
	}
}
