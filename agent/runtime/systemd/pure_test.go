package systemd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/golden"
)

func parse(t testing.TB, name, text string) runtime.Unit {
	t.Helper()
	f, _, err := unitfile.Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return runtime.Unit{Name: name, Hash: "5eed", File: f}
}

func TestFilesOfUnits(t *testing.T) {
	env := []string{"MUSTER_HOST=node-1", "MUSTER_ADDRESS=10.0.0.1", `MUSTER_SOCKET=/run/a "b" 5%\c`}
	for _, c := range []struct{ golden, name, text string }{
		{"web.service", "web@1.service", "# ours\n[Unit]\nDescription=Web\n[Service]\nExecStart=/bin/web \\\n  --port 80\n[Install]\nWantedBy=multi-user.target\n"},
		{"own.service", "own.service", "[Service]\nEnvironment=\"MUSTER_HOST=mine\" A=b\nExecStart=/bin/true\n[X-Fleet]\nGlobal=true\n"},
		{"web.timer", "web.timer", "[Timer]\nOnCalendar=daily\n"},
		{"web.socket", "web.socket", "[Socket]\nListenStream=80\n"},
	} {
		u := parse(t, c.name, c.text)
		golden.Compare(t, "testdata/"+c.golden, contents(u))
		golden.Compare(t, "testdata/"+c.golden+".conf", dropIn(u, env))
		if got := hashIn(string(contents(u))); got != u.Hash {
			t.Errorf("%s tells hash %q", c.name, got)
		}
	}
}

func TestDirectory(t *testing.T) {
	d := directory{path: t.TempDir(), env: []string{"A=b"}}
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(d.path, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("host.service", "[Service]\n")
	put("host.service.d/local.conf", "[Service]\n")
	put("torn.service.d/"+dropInFile, "")
	put(".muster-123", "")
	put("a.service.d/.muster-123", "")
	a := parse(t, "a.service", "[Service]\nExecStart=/bin/true\n[Install]\nAlias=b.service\n")
	past := history{{Hash: "old", Since: 7}, {Hash: "5eed"}}
	if err := d.write(a, past); err != nil {
		t.Fatal(err)
	}
	found, err := d.all()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]stored{
		"a.service": {hash: "5eed", enabled: true, dropIn: string(dropIn(a, d.env)), history: past},
	}
	if diff := cmp.Diff(want, found, cmp.AllowUnexported(stored{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := d.remove("a.service"); err != nil {
		t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(d.path, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Join(d.path, "host.service"), filepath.Join(d.path, "host.service.d")}; !slices.Equal(entries, want) {
		t.Errorf("left: %v", entries)
	}
	if left, _ := filepath.Glob(filepath.Join(d.path, scratch)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestInterruptedReplacement(t *testing.T) {
	d := directory{path: t.TempDir()}
	u := parse(t, "a.service", "[Service]\nExecStart=/bin/true\n")
	u.Hash = "one"
	if err := d.write(u, history{{Hash: "one", Since: 3}}); err != nil {
		t.Fatal(err)
	}
	// The history of the next content is written, the agent ends before its file is.
	if err := d.writeHistory(u.Name, history{{Hash: "one", Since: 3}, {Hash: "two"}}); err != nil {
		t.Fatal(err)
	}
	s, err := d.read(u.Name)
	if err != nil {
		t.Fatal(err)
	}
	if s.hash != "one" || s.history.running(100) != "one" || s.history.read(50).running(100) != "one" {
		t.Errorf("got %+v", s)
	}
}

func TestHistory(t *testing.T) {
	var h history
	h = h.replace("a", true, 0).read(10)
	h = h.replace("b", false, 20).read(30)
	if got := h.running(20); got != "a" {
		t.Errorf("started before the replacement, it runs %s", got)
	}
	if got := h.running(31); got != "b" {
		t.Errorf("started after the replacement, it runs %s", got)
	}
	h = h.replace("c", false, 20)
	if got := h.running(20); got != "a" {
		t.Errorf("with two replacements it runs %s", got)
	}
	if got := h.running(40); got != "b" {
		t.Errorf("started before c was read, it runs %s", got)
	}
	if again := h.replace("d", false, 40); len(again) != 2 || again[0].Hash != "b" {
		t.Errorf("what cannot run any more stays: %v", again)
	}
	if fresh := h.replace("d", true, 40); len(fresh) != 1 {
		t.Errorf("a unit at rest keeps %v", fresh)
	}
}

func TestStatus(t *testing.T) {
	failed := func(result string, code, status int32) properties {
		return properties{LoadState: loaded, ActiveState: "failed", SubState: "failed", Result: result, MainCode: code, MainStatus: status}
	}
	for _, c := range []struct {
		what   string
		unit   unit
		load   string
		active string
		reason string
	}{
		{"never started", unit{properties: properties{LoadState: loaded, ActiveState: "inactive", SubState: "dead", Condition: true}}, "loaded", "inactive", ""},
		{"exit status", unit{properties: failed("exit-code", exited, 3)}, "loaded", "failed", "exit status 3"},
		{"status of systemd's own", unit{properties: failed("exit-code", exited, 217)}, "loaded", "failed", "exit status 217/USER"},
		{"signal", unit{properties: failed("signal", killed, 9)}, "loaded", "failed", "killed by SIGKILL"},
		{"core", unit{properties: failed("core-dump", dumped, 11)}, "loaded", "failed", "killed by SIGSEGV, which left a core dump"},
		{"timeout", unit{properties: failed("timeout", killed, 15)}, "loaded", "failed", "timeout"},
		{"unknown result", unit{properties: failed("later-version", 0, 0)}, "loaded", "failed", "later-version"},
		{
			"no such program",
			unit{properties: failed("exit-code", exited, 203), ran: commands{mainSetting: {{path: "/no", code: exited, status: 203}}}},
			"loaded", "failed", "cannot execute /no: exit status 203/EXEC",
		},
		{
			"engine of containers",
			unit{properties: failed("exit-code", exited, 125), ran: commands{mainSetting: {{path: "/usr/bin/podman", code: exited, status: 125}}}},
			"loaded", "failed", "exit status 125 of podman: it cannot make the container: an image that the host lacks, " +
				"a name or a port that is taken, a bad option; its log tells more",
		},
		{
			"its status of something else",
			unit{properties: failed("exit-code", exited, 125), ran: commands{mainSetting: {{path: "/a", code: exited, status: 125}}}},
			"loaded", "failed", "exit status 125",
		},
		{
			"before the start",
			unit{properties: failed("exit-code", 0, 0), ran: commands{"ExecStartPre": {{path: "/a", code: exited}, {path: "/b", code: exited, status: 4}}}},
			"loaded", "failed", "ExecStartPre: exit status 4",
		},
		{"limit, never failed before", unit{properties: failed(startLimitHit, 0, 0)}, "loaded", "failed", "start limit hit"},
		{
			"limit of restarts",
			unit{properties: func() properties {
				p := failed("exit-code", exited, 1)
				p.MainStartedMonotonic, p.MainEndedMonotonic, p.InactiveExitMonotonic = 10, 20, 30
				return p
			}()},
			"loaded", "failed", "start limit hit: exit status 1",
		},
		{
			"waits for its restart",
			unit{properties: properties{LoadState: loaded, ActiveState: "activating", SubState: "auto-restart", Result: "exit-code", MainCode: exited, MainStatus: 1}},
			"loaded", "activating", "exit status 1",
		},
		{"condition", unit{properties: properties{LoadState: loaded, ActiveState: "inactive", ConditionTime: 5}}, "loaded", "inactive", "a condition of [Unit] is not met"},
		{"requirement", unit{job: "dependency", properties: properties{LoadState: loaded, ActiveState: "inactive"}}, "loaded", "inactive", "a unit that it requires did not start"},
		{"shall start", unit{starting: 7, properties: failed("exit-code", exited, 3)}, "loaded", "activating", ""},
		{"bad setting", unit{properties: properties{LoadState: "bad-setting", LoadError: "No ExecStart.", ActiveState: "inactive"}}, "error", "inactive", "No ExecStart."},
		{"masked", unit{properties: properties{LoadState: "masked", ActiveState: "inactive"}}, "error", "inactive", "it is masked on the host"},
		{"the host's own", unit{barred: "the host has a unit of this name, /etc/systemd/system/a.service"}, "error", "inactive", "the host has a unit of this name, /etc/systemd/system/a.service"},
	} {
		s := c.unit.status()
		if s.Load != c.load || s.Active != c.active || s.Reason != c.reason {
			t.Errorf("%s: got %s, %s, %q", c.what, s.Load, s.Active, s.Reason)
		}
	}
}

func TestRefusedStart(t *testing.T) {
	u := newUnit("a.service")
	u.merge(map[string]dbus.Variant{
		"ActiveState": dbus.MakeVariant("failed"), "Result": dbus.MakeVariant("exit-code"),
		"InactiveExitTimestampMonotonic": dbus.MakeVariant(uint64(40)), "NoSuchThing": dbus.MakeVariant(1), "SubState": dbus.MakeVariant(7),
	})
	u.starting = 5
	u.jobEnded(4, "done")
	if u.starting != 5 || u.limited() {
		t.Error("another job counted")
	}
	u.jobEnded(5, "failed")
	if u.starting != 0 || !u.limited() {
		t.Error("a start that failed without anything having run is a refusal")
	}
	u.told(map[string]dbus.Variant{"InactiveExitTimestampMonotonic": dbus.MakeVariant(uint64(50))})
	if u.limited() {
		t.Error("a later start is no refusal")
	}
}

func TestSince(t *testing.T) {
	p := properties{InactiveExit: 1e6, ActiveEnter: 2e6, ActiveExit: 3e6, InactiveEnter: 4e6}
	for active, want := range map[string]int64{"activating": 1, "active": 2, "reloading": 2, "deactivating": 3, "inactive": 4, "failed": 4} {
		p.ActiveState = active
		if got := p.since(); got.Unix() != want {
			t.Errorf("%s since %v", active, got)
		}
	}
	if !(&properties{ActiveState: "inactive"}).since().IsZero() {
		t.Error("never is not the beginning of time")
	}
}

func TestJobs(t *testing.T) {
	j := newJobs()
	_, result, err := j.start(func() (int, error) {
		j.end(3, "done") // before its ID is known
		return 3, nil
	})
	if err != nil || <-result != "done" {
		t.Error("an early end was missed")
	}
	_, one, _ := j.start(func() (int, error) { return 4, nil })
	_, two, _ := j.start(func() (int, error) { return 4, nil })
	if !slices.Equal(j.awaited(), []uint32{4}) {
		t.Errorf("awaited: %v", j.awaited())
	}
	j.end(4, "canceled")
	if <-one != "canceled" || <-two != "canceled" {
		t.Error("requests that systemd joined have one end")
	}
	if _, _, err := j.start(func() (int, error) { return 0, errors.New("no") }); err == nil || len(j.awaited()) > 0 {
		t.Error("a job that was not made is awaited")
	}
}

func TestTurnsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var owner sync.WaitGroup
		times := 0
		var names []string
		r := &turns{ctx: ctx, owner: &owner, run: func(_ context.Context, units []string) error {
			times++
			names = append(names, units...)
			time.Sleep(time.Second)
			return nil
		}}
		var callers sync.WaitGroup
		ask := func(n int) {
			for range n {
				callers.Go(func() {
					if err := r.do(ctx, "a"); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
		}
		ask(1)
		ask(500) // while the first is under way
		callers.Wait()
		if times != 2 || len(names) != 501 {
			t.Errorf("%d turns for %d callers", times, len(names))
		}
		r.end(cancel)
		owner.Wait()
		if err := r.do(t.Context()); !errors.Is(err, errClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestLogArguments(t *testing.T) {
	now := time.Unix(1700000000, 123456789)
	since := time.Unix(1600000000, 0)
	const name = "--a.service" // no option of journalctl
	base := []string{
		"--quiet", "--no-pager", "--all", "--output=json", "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_COMM,_PID",
	}
	for _, c := range []struct {
		query runtime.LogQuery
		want  []string
		also  []string
	}{
		{query: runtime.LogQuery{Lines: -1}, want: []string{"--lines=all"}},
		{query: runtime.LogQuery{Lines: 5}, want: []string{"--lines=5"}},
		{query: runtime.LogQuery{Lines: 5, Follow: true}, want: []string{"--follow", "--lines=5"}},
		{query: runtime.LogQuery{Follow: true}, want: []string{"--follow", "--lines=all", "--since=@1700000000.123456"}},
		{query: runtime.LogQuery{Follow: true, Since: since}, want: []string{"--follow", "--lines=all", "--since=@1700000000.123456"}},
		{query: runtime.LogQuery{Lines: 5, Since: since}, want: []string{"--lines=5", "--since=@1600000000.000000"}},
		{query: runtime.LogQuery{Lines: -1, Levels: 4}, want: []string{"--lines=all", "--priority=3"}},
		{query: runtime.LogQuery{Lines: 5, System: true}, want: []string{"--lines=5"}, also: []string{"+", "_PID=1", "UNIT=" + name}},
	} {
		want := slices.Concat(base, c.want, []string{"_SYSTEMD_UNIT=" + name}, c.also)
		if got := logArguments(name, c.query, now); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestNamesOnTheBus(t *testing.T) {
	if got := objectPath("web@1.service"); got != "/org/freedesktop/systemd1/unit/web_401_2eservice" {
		t.Errorf("got %s", got)
	}
	if got := typeInterface("web@1.service"); got != "Service" {
		t.Errorf("got %s", got)
	}
}
