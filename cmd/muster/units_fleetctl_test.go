package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleetapi"
)

// listFleet has a unit that runs, a global one, a template and one that was only submitted.
func listFleet() *smallFleet {
	f := newSmallFleet()
	for name, u := range map[string]api.Unit{
		"web@.service":   {Content: "[Service]\nExecStart=/bin/web %i\n", Desired: "inactive"},
		"web@1.service":  {Content: "[Unit]\nDescription=The web\n[Service]\nExecStart=/bin/web %i\n", Desired: "launched"},
		"agent.service":  {Content: "[Service]\nExecStart=/bin/agent\n[X-Fleet]\nGlobal=true\n", Desired: "launched"},
		"backup.service": {Content: "[Service]\nExecStart=/bin/backup\n", Desired: "inactive"},
	} {
		u.Name = name
		f.units[name] = u
	}
	return f
}

// TestFleetctlLists holds what is printed to fleetctl's columns: tabs between them, whatever is in them.
func TestFleetctlLists(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"list-units", `UNIT		MACHINE			ACTIVE	SUB
agent.service	11111111.../127.0.0.9	active	running
web@1.service	11111111.../127.0.0.9	active	running
`},
		{"list-units --no-legend --fields unit,load,hash,machine -l", `agent.service	loaded	HASH-OF-AGENT-SERVICE	11111111111111111111111111111111/127.0.0.9
web@1.service	loaded	HASH-OF-WEB-1-SERVICE	11111111111111111111111111111111/127.0.0.9
`},
		{"list-unit-files", `UNIT		HASH	DSTATE		STATE		TARGET
agent.service	AGENTHS	launched	-		global
backup.service	BACKUPH	inactive	inactive	-
web@.service	TEMPLAT	inactive	inactive	-
web@1.service	WEB1HAS	launched	launched	11111111.../127.0.0.9
`},
		{"list-unit-files --fields unit,desc,global", `UNIT		DESC	GLOBAL
agent.service	-	true
backup.service	-	false
web@.service	-	false
web@1.service	The web	false
`},
		{"list-machines", `MACHINE		IP		METADATA
11111111...	127.0.0.9	disk=ssd,role=db
`},
		{"list-machines --no-legend --full --fields=machine", `11111111111111111111111111111111
`},
	} {
		f := listFleet()
		status, stdout, stderr := asks(t, f, append([]string{"units"}, strings.Fields(tt.args)...)...)
		if status != statusDone {
			t.Errorf("%s: status %d: %s", tt.args, status, stderr)
		}
		if diff := cmp.Diff(withHashes(t, f, tt.want), stdout); diff != "" {
			t.Errorf("%s: %s", tt.args, diff)
		}
	}
}

// withHashes puts hashes in the place of words for them.
func withHashes(t *testing.T, f *smallFleet, text string) string {
	units, err := fleetapi.AllUnits(t.Context(), f.Fleet)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range units {
		hash := hashOf(u)
		word, full := map[string]string{
			"agent.service": "AGENTHS", "backup.service": "BACKUPH", "web@.service": "TEMPLAT", "web@1.service": "WEB1HAS",
		}[u.Name], map[string]string{"agent.service": "HASH-OF-AGENT-SERVICE", "web@1.service": "HASH-OF-WEB-1-SERVICE"}[u.Name]
		text = strings.ReplaceAll(text, word, hash[:7])
		if full != "" {
			text = strings.ReplaceAll(text, full, hash)
		}
	}
	return text
}

func TestFleetctlListMistakes(t *testing.T) {
	status, _, stderr := asks(t, listFleet(), "units", "list-units", "--fields", "unit,colour")
	if status != statusUsage || !strings.Contains(stderr, "`colour`") || !strings.Contains(stderr, "unit,machine,active,sub,load,hash") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if status, _, stderr := asks(t, listFleet(), "units", "list-machines", "all"); status != statusUsage {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestFleetctlListsAsJSON(t *testing.T) {
	_, stdout, _ := asks(t, listFleet(), "units", "list-unit-files", "-o", "json")
	var units []fleetapi.Unit
	if err := json.Unmarshal([]byte(stdout), &units); err != nil || len(units) != 4 || units[3].MachineID == "" {
		t.Errorf("%v: %s", err, stdout)
	}
	_, stdout, _ = asks(t, newSmallFleet(), "units", "list-units", "-o", "json")
	if stdout != "[]\n" {
		t.Errorf("nothing is %q", stdout)
	}
}

// noting notes what becomes of units on the way.
type noting struct {
	*smallFleet
	changes []string
}

func (f *noting) PutUnit(ctx context.Context, u api.Unit) (api.Outcome, error) {
	f.changes = append(f.changes, u.Name+" "+u.Desired)
	return f.smallFleet.PutUnit(ctx, u)
}

func TestRestart(t *testing.T) {
	f := &noting{smallFleet: newSmallFleet("web@.service")}
	for _, name := range []string{"web@1.service", "web@2.service"} {
		f.units[name] = api.Unit{Name: name, Content: "[Service]\nExecStart=/bin/web\n", Desired: "launched"}
	}
	status, _, stderr := asks(t, f, "units", "restart", "web@*")
	want := []string{"web@1.service loaded", "web@1.service launched", "web@2.service loaded", "web@2.service launched"}
	if diff := cmp.Diff(want, f.changes); diff != "" || status != statusDone {
		t.Errorf("status %d: %s\n%s", status, stderr, diff)
	}
	f.units["db.service"] = api.Unit{Name: "db.service", Content: "[Service]\nExecStart=/bin/db\n", Desired: "loaded"}
	status, _, stderr = asks(t, f, "units", "restart", "--no-block", "web@1", "db")
	if status != statusPartial || !strings.Contains(stderr, "db.service: it is loaded, not launched") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if status, _, stderr := asks(t, f, "units", "restart", "ghost"); status != statusFailed || !strings.Contains(stderr, "ghost.service") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestVerify(t *testing.T) {
	unitFiles(t)
	f := newSmallFleet()
	f.units["db.service"] = api.Unit{Name: "db.service", Content: "# submitted\n[Service]\nExecStart=/bin/db\n"}
	f.units["web@.service"] = api.Unit{Name: "web@.service", Content: "[Service]\nExecStart=/bin/web --old %i\n"}
	status, stdout, stderr := asks(t, f, "units", "verify", "units/db.service")
	if status != statusDone || stdout != "db.service: as in the file\n" {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
	status, stdout, stderr = asks(t, f, "units", "verify", "units/db.service", "units/web@.service", "units/odd.service")
	want := "db.service: as in the file\nweb@.service: differs from the file\nodd.service: not submitted\n"
	if diff := cmp.Diff(want, stdout); diff != "" || status != statusFailed || !strings.Contains(stderr, "web@.service, odd.service not as in the file") {
		t.Errorf("status %d: %s%s", status, diff, stderr)
	}
	if status, _, _ := asks(t, f, "units", "verify", "units/both.service"); status != statusUsage {
		t.Errorf("a file that is wrong: status %d", status)
	}
}

// TestReplace takes fleetctl's flag and does what it does anyway.
func TestReplace(t *testing.T) {
	unitFiles(t)
	f := newSmallFleet("db.service")
	for _, verb := range []string{"submit", "load", "start"} {
		if status, _, stderr := asks(t, f, "units", verb, "--replace", "units/db.service"); status != statusDone {
			t.Errorf("%s: status %d: %s", verb, status, stderr)
		}
	}
	if got := f.units["db.service"].Content; !strings.Contains(got, "/bin/db") {
		t.Errorf("the cluster has %q", got)
	}
}

// TestSSH puts a program in ssh's place that prints what it was told.
func TestSSH(t *testing.T) {
	bin := t.TempDir()
	const script = "#!/bin/sh\necho \"$@\"\ncase \"$*\" in *fail*) exit 7;; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	f := listFleet()
	for _, tt := range []struct {
		args   []string
		status int
		says   string // all of standard output, or a part of standard error
	}{
		{[]string{"web@1"}, statusDone, "-- 127.0.0.9\n"},
		{[]string{"node-1", "uptime", "-p"}, statusDone, "-- 127.0.0.9 uptime -p\n"},
		{[]string{"-A", "--user", "core", "--ssh-port", "2222", "web@1.service", "ls"}, statusDone, "-A -l core -p 2222 -- 127.0.0.9 ls\n"},
		{[]string{"--unit=web@1", "ls", "-l"}, statusDone, "-- 127.0.0.9 ls -l\n"},
		{[]string{"-m", "node-1"}, statusDone, "-- 127.0.0.9\n"},
		{[]string{"-m", "node-1", "-u", "web@1"}, statusUsage, "both say where"},
		{[]string{"web@1", "fail"}, statusFailed, "ended with status 7"},
		{[]string{"backup"}, statusFailed, "backup.service is on no host"},
		{[]string{"ghost"}, statusFailed, "no unit or host `ghost`"},
		{nil, statusUsage, "needs the name of a unit or host"},
	} {
		status, stdout, stderr := asks(t, f, append([]string{"units", "ssh"}, tt.args...)...)
		if status != tt.status || status == statusDone && stdout != tt.says || !strings.Contains(stdout+stderr, tt.says) {
			t.Errorf("%v: status %d, %q, %q", tt.args, status, stdout, stderr)
		}
	}
}
