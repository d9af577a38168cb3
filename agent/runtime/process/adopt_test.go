package process_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/process"
	"github.com/musterhq/muster/agent/runtime/runtimetest"
	"github.com/musterhq/muster/agent/unitfile"
)

// The variables that make this test binary an agent, which is killed at any moment.
const (
	agentDir      = "MUSTER_TEST_AGENT_DIR"
	agentInstance = "MUSTER_TEST_AGENT_INSTANCE"
	agentUnit     = "MUSTER_TEST_AGENT_UNIT"
)

// runAgent starts and stops the unit that it finds in its environment until it is killed.
func runAgent(dir string) {
	check := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	rt, err := process.New(ctx, config(dir, os.Getenv(agentInstance), os.Stderr))
	check(err)
	f, _, err := unitfile.Parse("a.service", []byte(os.Getenv(agentUnit)))
	check(err)
	check(rt.Load(ctx, runtime.Unit{Name: "a.service", Hash: "1", File: f}))
	fmt.Println("ready")
	for {
		check(rt.Start(ctx, "a.service"))
		<-time.After(time.Duration(rand.IntN(20)) * time.Millisecond)
		check(rt.Stop(ctx, "a.service"))
	}
}

// agent runs another agent over the site and kills it after a while.
func (s *site) agent(t *testing.T, unit string, life time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), agentDir+"="+s.Dir, agentInstance+"="+s.Instance, agentUnit+"="+unit)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the agent says %q, %v", line, err)
	}
	<-time.After(life)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// TestAgentDiesAtAnyMoment kills agents while they start and stop a unit. Each time the next one must find the unit in a
// state that is true, no two processes may ever have run at once, and every process must have recorded its start.
func TestAgentDiesAtAnyMoment(t *testing.T) {
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("there is no flock to find two processes at once with")
	}
	s := place(t)
	lock := filepath.Join(t.TempDir(), "lock")
	unit := "[Service]\nExecStartPre=/bin/sh -c 'echo pre'\n" +
		"ExecStart=/bin/sh -c 'exec 9>>" + lock + "; flock -n 9 && echo up $$$$ || echo DOUBLE; exec sleep 1000'\n" +
		"StartLimitBurst=0\nRestart=always\nRestartSec=1ms\n"
	for i := range 25 {
		s.agent(t, unit, time.Duration(rand.IntN(100))*time.Millisecond)
		h := &runtimetest.Host{T: t}
		h.Runtime = s.open(t)
		status := h.Status("a.service")
		switch status.Active {
		case "active":
			h.StopUnit("a.service")
		case "activating", "deactivating":
			h.Await("a.service", "something that lasts", func(s runtime.Status) bool {
				return s.Sub == "running" || s.Sub == "dead"
			})
		case "failed":
			t.Errorf("run %d: the unit failed though nobody touched it: %s", i, status.Reason)
		}
		log := h.Log("a.service")
		if strings.Contains(log, "DOUBLE") {
			t.Fatalf("run %d: two at once:\n%s", i, log)
		}
		h.Shut()
	}
	h := runtimetest.NewHost(t, s.open)
	h.StopUnit("a.service")
	recorded := map[string]int{}
	for _, l := range s.starts(t, "a.service") {
		recorded[fmt.Sprint(l.PID)]++
	}
	log := h.Log("a.service")
	for line := range strings.Lines(log) {
		if pid, ok := strings.CutPrefix(strings.TrimSpace(line), "up "); ok {
			if recorded[pid] == 0 {
				t.Errorf("the start of %s was not recorded", pid)
			}
			recorded[pid]--
		}
	}
	t.Logf("%d starts recorded, %d seen by the unit", len(s.starts(t, "a.service")), strings.Count(log, "up "))
	s.nothingRuns(t)
}

// nothingRuns checks that no process carries the mark of this site.
func (s *site) nothingRuns(t *testing.T) {
	t.Helper()
	if pids := s.marked(t); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
}

// marked are the processes that carry the mark of this site.
func (s *site) marked(t *testing.T) []string {
	t.Helper()
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, path := range environs {
		data, _ := os.ReadFile(path)
		if strings.Contains("\x00"+string(data), "\x00MUSTER_INSTANCE="+s.Instance+"\x00") {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

// TestRecycledProcessID gives the record of a unit the number of a process that is somebody else's.
func TestRecycledProcessID(t *testing.T) {
	bystander := exec.Command("sleep", "1000")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = bystander.Process.Kill()
		_ = bystander.Wait()
	})
	pid := bystander.Process.Pid
	for what, change := range map[string]func(state, main map[string]any){
		"another start time": func(_, main map[string]any) {
			main["start"] = 1
			main["keeper"] = map[string]any{"pid": pid, "start": 1}
		},
		"another boot": func(state, _ map[string]any) { state["boot"] = "yesterday" },
	} {
		s := place(t)
		h := runtimetest.NewHost(t, s.open)
		h.LoadUnit("a.service", sleeper)
		h.StartUnit("a.service")
		real := h.PID("a.service", "up")
		h.AwaitState("a.service", "active", "running")
		h.Shut()
		state := s.state(t, "a.service")
		main, _ := state["main"].(map[string]any)
		main["pid"] = pid
		change(state, main)
		s.setState(t, "a.service", state)
		h.Open()
		status := h.Await("a.service", "at rest", func(s runtime.Status) bool { return s.Sub == "dead" || s.Sub == "failed" })
		t.Logf("%s: %+v", what, status)
		h.StopUnit("a.service")
		if !runtimetest.Runs(pid) {
			t.Fatalf("%s: the process of somebody else was ended", what)
		}
		if runtimetest.Runs(real) {
			t.Errorf("%s: the unit's own process was forgotten", what)
		}
		s.nothingRuns(t)
	}
}

// TestKeeper disturbs the keeper in each way that others can.
func TestKeeper(t *testing.T) {
	s := place(t)
	h := runtimetest.NewHost(t, s.open)
	begin := func() (main, keeper int) {
		h.LoadUnit("a.service", "ExecStart=/bin/sh -c 'trap \"exit 7\" USR1; echo up $$$$; while :; do sleep 1000 & wait $!; done'\n"+
			"StartLimitBurst=0\n")
		var before int
		if _, err := os.Stat(s.path("a.service", "log")); err == nil {
			before = strings.Count(h.Log("a.service"), "up")
		}
		h.StartUnit("a.service")
		ups := h.AwaitLogs("a.service", "up", before+1)
		if _, err := fmt.Sscan(ups[before], &main); err != nil {
			t.Fatal(err)
		}
		h.AwaitState("a.service", "active", "running")
		return main, s.keeper(t, "a.service")
	}
	kill := func(pid int, signal unix.Signal) {
		if err := unix.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
	}
	failed := func(what string, want ...string) {
		if got := h.AwaitState("a.service", "failed", "failed"); !slices.Contains(want, got.Reason) {
			t.Errorf("%s: the reason is %q, want %q", what, got.Reason, want)
		}
		s.nothingRuns(t)
	}

	main, keeper := begin()
	kill(keeper, unix.SIGCONT)
	kill(main, unix.SIGUSR1)
	failed("woken", "exit status 7")

	main, keeper = begin()
	h.Shut()
	kill(keeper, unix.SIGCONT)
	kill(main, unix.SIGUSR1)
	h.AwaitEnd(keeper)
	h.Open()
	failed("woken without an agent", "exit status 7")

	main, keeper = begin()
	kill(keeper, unix.SIGKILL)
	if !runtimetest.Runs(main) {
		t.Error("the unit ended with its keeper")
	}
	kill(main, unix.SIGUSR1)
	// The system's first process inherits the zombie, and we may be there before it collects it.
	failed("killed", "ended while nobody could see how: its keeper was killed, too", "exit status 7")

	main, keeper = begin()
	kill(-keeper, unix.SIGTERM)
	h.AwaitEnd(main)
	h.AwaitState("a.service", "inactive", "dead")
	s.nothingRuns(t)

	_, keeper = begin()
	kill(keeper, unix.SIGKILL)
	h.StopUnit("a.service")
	s.nothingRuns(t)
}

// TestLostRecords removes what the runtime knows of running units.
func TestLostRecords(t *testing.T) {
	for _, damage := range []string{"", "{", `{"version":1,"phase":"nonsense"}`} {
		s := place(t)
		h := runtimetest.NewHost(t, s.open)
		h.LoadUnit("a.service", sleeper)
		h.StartUnit("a.service")
		pid := h.PID("a.service", "up")
		h.Shut()
		if err := os.WriteFile(s.path("a.service", "state.json"), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		h.Open()
		if runtimetest.Runs(pid) {
			t.Errorf("%q: a process that nobody knows goes on", damage)
		}
		h.LoadUnit("a.service", sleeper)
		h.StartUnit("a.service")
		h.AwaitLogs("a.service", "up", 2)
	}
	s := place(t)
	h := runtimetest.NewHost(t, s.open)
	h.LoadUnit("a.service", sleeper)
	h.Shut()
	s.setState(t, "a.service", map[string]any{"version": 2})
	if _, err := process.New(t.Context(), s.Config); err == nil || !strings.Contains(err.Error(), "unknown version 2") {
		t.Errorf("a record of a later version: %v", err)
	}
	if err := os.Remove(s.path("a.service", "state.json")); err != nil {
		t.Fatal(err)
	}
}

// TestAdoptedPhases leaves units in each phase that lasts and finds them again.
func TestAdoptedPhases(t *testing.T) {
	s := place(t)
	h := runtimetest.NewHost(t, s.open)
	gate := s.path("gate")
	wait := "/bin/sh -c 'echo at $$$$; while ! test -e " + gate + "; do sleep 0.01; done'"
	h.LoadUnit("pre.service", "ExecStartPre="+wait+"\n"+sleeper)
	h.LoadUnit("post.service", "ExecStartPost="+wait+"\n"+sleeper)
	h.LoadUnit("once.service", "Type=oneshot\nRemainAfterExit=yes\nExecStart="+wait+"\nExecStart=/bin/echo second\n")
	h.LoadUnit("again.service", "ExecStart=/bin/sh -c 'echo at; test -e "+gate+" && exec sleep 1000'\nRestart=always\nRestartSec=100ms\nStartLimitBurst=0\n")
	h.LoadUnit("stop.service", sleeper+"ExecStop="+wait+"\n")
	for _, name := range []string{"pre", "post", "once", "again", "stop"} {
		h.StartUnit(name + ".service")
	}
	h.AwaitState("stop.service", "active", "running")
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- h.Stop(ctx, "stop.service") }()
	for _, name := range []string{"pre", "post", "once", "again", "stop"} {
		h.AwaitLog(name+".service", "at")
	}
	h.Shut()
	cancel()
	if err := <-stopped; err == nil {
		t.Error("Stop returned as if it was done")
	}
	h.Open()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.AwaitState("pre.service", "active", "running")
	h.AwaitState("post.service", "active", "running")
	h.AwaitState("once.service", "active", "exited")
	h.AwaitState("again.service", "active", "running")
	h.Await("stop.service", "at rest", func(s runtime.Status) bool { return s.Active == "inactive" })
	for name, want := range map[string]int{"pre": 1, "post": 1, "once": 1, "stop": 1} {
		if got := strings.Count(h.Log(name+".service"), "at "); got != want {
			t.Errorf("%s: the command ran %d times", name, got)
		}
	}
}

// TestKeeperOfAProcessThatIsOver has an agent end after it wrote down that a process is over and before it woke that
// one's keeper.
func TestKeeperOfAProcessThatIsOver(t *testing.T) {
	s := place(t)
	h := &runtimetest.Host{T: t, Runtime: s.open(t)}
	h.LoadUnit("a.service", "ExecStart=/bin/sh -c 'echo up $$$$; exec sleep 1000'\n")
	h.StartUnit("a.service")
	pid := h.PID("a.service", "up")
	h.Shut()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if left := s.marked(t); len(left) == 0 {
		t.Fatal("there is no keeper")
	}
	rewrite(t, filepath.Join(s.Dir, "a.service", "state.json"), func(record map[string]any) {
		delete(record, "main")
		record["phase"] = "dead"
	})
	h.Runtime = s.open(t)
	if status := h.Status("a.service"); status.Active != "inactive" {
		t.Errorf("got %+v", status)
	}
	s.nothingRuns(t)
	h.Shut()
}

func rewrite(t *testing.T, path string, change func(map[string]any)) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var record map[string]any
	if err := json.Unmarshal(data, &record); err != nil {
		t.Fatal(err)
	}
	change(record)
	if data, err = json.Marshal(record); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
