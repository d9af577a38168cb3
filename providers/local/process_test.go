package local

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
)

// TestTables compares what the two process tables say of a child.
func TestTables(t *testing.T) {
	tables := map[string]table{"this machine's": thisMachine()}
	if _, err := exec.LookPath("ps"); err == nil {
		tables["ps"] = ps{environment: "e"}
	} else {
		t.Log("there is no ps(1) to test")
	}
	child := exec.Command("sleep", "600")
	child.Env = append(os.Environ(), instanceVariable+"=tables")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // the session of this test may lie outside its pid namespace
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	for name, table := range tables {
		all, err := table.all()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(p process) bool { return p.pid == child.Process.Pid })
		one, ok := table.one(child.Process.Pid)
		if i < 0 || !ok {
			t.Errorf("%s table does not show the child", name)
			continue
		}
		for _, p := range []process{all[i], one} {
			if p.instance() != "tables" || p.parent != os.Getpid() || p.zombie || p.started == "" || p.session != p.pid || p.args[1] != "600" {
				t.Errorf("%s table shows pid %d, parent %d, session %d, started %q, args %q", name, p.pid, p.parent, p.session, p.started, p.args)
			}
		}
	}
}

func TestKin(t *testing.T) {
	marked := func(pid, parent, session int, instance string) process {
		return process{pid: pid, parent: parent, session: session, started: "1", env: []string{instanceVariable + "=" + instance}}
	}
	plain := func(pid, parent, session int) process {
		return process{pid: pid, parent: parent, session: session, started: "1"}
	}
	daemon := marked(100, 1, 100, "ours")
	table := []process{
		plain(1, 0, 1), plain(50, 1, 50),
		plain(104, 103, 103), plain(103, 101, 103), // listed before what proves them
		daemon, marked(101, 100, 100, "ours"), plain(102, 100, 100),
		marked(200, 100, 200, "theirs"), plain(201, 200, 200),
		marked(os.Getpid(), 100, 100, "ours"),
		{pid: 105, parent: 1, session: 105, started: "1", zombie: true, env: []string{instanceVariable + "=ours"}},
	}
	pids := func(list []process) []int {
		var out []int
		for _, p := range list {
			out = append(out, p.pid)
		}
		slices.Sort(out)
		return out
	}
	k := newKin("ours")
	if got, want := pids(k.live(table)), []int{100, 101, 102, 103, 104}; !slices.Equal(got, want) {
		t.Errorf("live = %v, want %v", got, want)
	}
	// The daemon and 103 are gone, and what they left has only its session to tell.
	later := []process{plain(1, 0, 1), plain(102, 1, 100), plain(104, 1, 103), plain(106, 1, 100)}
	if got, want := pids(k.live(later)), []int{102, 104, 106}; !slices.Equal(got, want) {
		t.Errorf("live = %v, want %v", got, want)
	}
	// Both pids were given to others since.
	recycled := []process{
		{pid: 100, parent: 1, session: 100, started: "2"},
		{pid: 107, parent: 100, session: 100, started: "2"},
		{pid: 102, parent: 1, session: 50, started: "2"},
	}
	if got := pids(k.live(recycled)); len(got) != 0 {
		t.Errorf("live = %v, want none", got)
	}
}
