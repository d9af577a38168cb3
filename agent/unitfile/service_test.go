package unitfile_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/unitfile"
)

func TestServiceDefaults(t *testing.T) {
	f := parse(t, "a.service", "[Service]\nExecStart=/bin/true\n")
	got, err := f.Service("a.service")
	if err != nil {
		t.Fatal(err)
	}
	want := unitfile.Service{
		Type: "simple", NotifyAccess: "none",
		Exec:    unitfile.Exec{Start: []unitfile.Command{{Path: "/bin/true"}}},
		Restart: unitfile.Restart{Policy: "no", Delay: 100 * time.Millisecond},
		Limit:   unitfile.StartLimit{Interval: 10 * time.Second, Burst: 5},
		Timeout: unitfile.Timeout{Start: 90 * time.Second, Stop: 90 * time.Second},
		Kill:    unitfile.Kill{Mode: "control-group", Signal: "SIGTERM", SendSIGKILL: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestService(t *testing.T) {
	f := parse(t, "a.service", `[Unit]
StartLimitIntervalSec=1min
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPre=-/bin/false
ExecStart=/bin/a ; /bin/b
ExecStart=/bin/c
ExecStop=/bin/d
TimeoutSec=3
TimeoutStopSec=0
StartLimitInterval=5
StartLimitBurst=7
Restart=on-failure
RestartSec=1.5
KillMode=mixed
KillSignal=INT
SendSIGKILL=no
SuccessExitStatus=3 TEMPFAIL SIGKILL
SuccessExitStatus=
SuccessExitStatus=143 USR1
RestartPreventExitStatus=2
Environment="A=1 2" B=3
Environment=C=
EnvironmentFile=-/etc/a
WorkingDirectory=~
User=nobody
`)
	got, err := f.Service("a.service")
	if err != nil {
		t.Fatal(err)
	}
	want := unitfile.Service{
		Type: "oneshot", RemainAfterExit: true, NotifyAccess: "none",
		Exec: unitfile.Exec{
			StartPre: []unitfile.Command{{Path: "/bin/false", IgnoreFailure: true}},
			Start:    []unitfile.Command{{Path: "/bin/a"}, {Path: "/bin/b"}, {Path: "/bin/c"}},
			Stop:     []unitfile.Command{{Path: "/bin/d"}},
		},
		Restart: unitfile.Restart{
			Policy: "on-failure", Delay: 1500 * time.Millisecond, Prevent: unitfile.ExitSet{Codes: map[int]bool{2: true}},
		},
		Limit:   unitfile.StartLimit{Interval: time.Minute, Burst: 7},
		Timeout: unitfile.Timeout{Start: 3 * time.Second, Stop: unitfile.Infinity},
		Kill:    unitfile.Kill{Mode: "mixed", Signal: "SIGINT"},
		Success: unitfile.ExitSet{Codes: map[int]bool{143: true}, Signals: map[string]bool{"SIGUSR1": true}},
		Process: unitfile.Process{
			Environment:      []string{"A=1 2", "B=3", "C="},
			EnvironmentFiles: []unitfile.OptionalPath{{Path: "/etc/a", Optional: true}},
			WorkingDirectory: unitfile.OptionalPath{Path: "~"},
			User:             "nobody",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestServiceType(t *testing.T) {
	for text, want := range map[string]string{
		"ExecStart=/bin/a\n":                                     "simple",
		"ExecStart=/bin/a\nBusName=a.b\n":                        "dbus",
		"ExecStop=/bin/a\nRemainAfterExit=yes\n":                 "oneshot",
		"Type=notify\nExecStart=/bin/a\n":                        "notify",
		"Type=forking\nExecStart=/bin/a\nPIDFile=/run/a.pid\n":   "forking",
		"Type=simple\nExecStart=/bin/a\nExecStart=\nExecStart=b": "simple",
	} {
		got, err := parse(t, "a.service", "[Service]\n"+text).Service("a.service")
		if err != nil || got.Type != want {
			t.Errorf("%q: type %q, %v; want %q", text, got.Type, err, want)
		}
	}
}

func TestParseCommands(t *testing.T) {
	for _, c := range []struct {
		line string
		want []unitfile.Command
	}{
		{`/bin/echo a  "b c" 'd "e"' f'g h'i`, []unitfile.Command{
			{Path: "/bin/echo", Args: []string{"a", "b c", `d "e"`, "fg hi"}},
		}},
		{`echo "" '' x`, []unitfile.Command{{Path: "echo", Args: []string{"", "", "x"}}}},
		{`/bin/echo \t\x41\101\u00e9\U0001F600\s\"\'\\ \.\q`, []unitfile.Command{
			{Path: "/bin/echo", Args: []string{"\tAAé😀 \"'\\", `\.\q`}},
		}},
		{`-/bin/a`, []unitfile.Command{{Path: "/bin/a", IgnoreFailure: true}}},
		{`@-/bin/sh -sh -l`, []unitfile.Command{{Path: "/bin/sh", Argv0: "-sh", Args: []string{"-l"}, IgnoreFailure: true}}},
		{`:+/bin/a $A`, []unitfile.Command{{Path: "/bin/a", Literal: true, Privileged: true, Args: []string{"$A"}}}},
		{`!!/bin/a`, []unitfile.Command{{Path: "/bin/a", Privileged: true}}},
		{`/bin/a 1 ; -/bin/b 2 \; ";"`, []unitfile.Command{
			{Path: "/bin/a", Args: []string{"1"}},
			{Path: "/bin/b", Args: []string{"2", ";", ";"}, IgnoreFailure: true},
		}},
		{`/bin/a ;`, []unitfile.Command{{Path: "/bin/a"}}},
		{`%h/bin/a`, []unitfile.Command{{Path: "%h/bin/a"}}},
	} {
		got, err := unitfile.ParseCommands(c.line)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.line, diff)
		}
	}
	for line, offset := range map[string]int{"": 0, ";": 0, `a "b`: 2, `a b\`: 3, `a \x00`: 2, "a ; --b": 4} {
		_, err := unitfile.ParseCommands(line)
		var syntax *unitfile.SyntaxError
		if !errors.As(err, &syntax) || syntax.Offset != offset {
			t.Errorf("%q: got %#v, want an error at %d", line, err, offset)
		}
	}
}

func TestCommandArguments(t *testing.T) {
	env := map[string]string{"ONE": "1", "TWO": "a 'b c'", "ODD": `x "y`, "EMPTY": ""}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	for _, c := range []struct{ line, want string }{
		{`x $ONE ${ONE} a${ONE}b`, "1|1|a1b"},
		{`x $TWO ${TWO}`, "a|b c|a 'b c'"},
		{`x "$TWO"`, "a|b c"},
		{`x $ODD`, `x|"y`},
		{`x $EMPTY ${EMPTY} $NONE ${NONE}.`, "|."},
		{`x $$ONE $$ $${ONE} cost:$`, "$ONE|$|${ONE}|cost:$"},
		{`x a$ONE $ONE.b ${ONE ${1} $1`, "a$ONE|$ONE.b|${ONE|${1}|$1"},
		{`:x $ONE $$`, "$ONE|$$"},
	} {
		commands, err := unitfile.ParseCommands(c.line)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(commands[0].Arguments(lookup), "|"); got != c.want {
			t.Errorf("%s gives %s, want %s", c.line, got, c.want)
		}
	}
}

func TestCommandExpand(t *testing.T) {
	commands, err := unitfile.ParseCommands(`/bin/%p "%i %%" x`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := commands[0].Expand("web@a.service", unitfile.HostSpecifiers{})
	want := unitfile.Command{Path: "/bin/web", Args: []string{"a %", "x"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if commands[0].Args[0] != "%i %%" {
		t.Error("expanding changed the command itself")
	}
	commands, _ = unitfile.ParseCommands("/bin/a %H")
	if _, err := commands[0].Expand("web.service", unitfile.HostSpecifiers{}); err == nil {
		t.Error("an unknown host has a name")
	}
}

func TestParseTimespan(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"90":            90 * time.Second,
		"0":             0,
		" 1min 30s ":    90 * time.Second,
		"1min30s":       90 * time.Second,
		"1.5h":          90 * time.Minute,
		"2 weeks 1 day": 15 * 24 * time.Hour,
		"300 ms":        300 * time.Millisecond,
		"5us 3µs":       8 * time.Microsecond,
		"1y":            8766 * time.Hour,
		"infinity":      unitfile.Infinity,
	} {
		if got, err := unitfile.ParseTimespan(in); err != nil || got != want {
			t.Errorf("ParseTimespan(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "soon", "5 fortnights", "1..2s", "-5", "300y", "5 infinity", "s", "1e3"} {
		if got, err := unitfile.ParseTimespan(in); err == nil {
			t.Errorf("ParseTimespan(%q) = %v", in, got)
		}
	}
}

func TestParseEnvironmentFile(t *testing.T) {
	const text = `# comment
; another
A=1
 B = two words  
C="quoted \"x\" \n \$y
over lines"
D='single \n'
E=a\
b
F={"json": 1}
G="a" 'b'
no assignment
export H=1
2I=no
J=
K=a\ b`
	want := []string{
		"A=1", "B=two words", "C=quoted \"x\" \\n $y\nover lines", `D=single \n`, "E=ab", `F={"json": 1}`, "G=ab", "H=1", "J=",
		"K=a b",
	}
	if diff := cmp.Diff(want, unitfile.ParseEnvironmentFile([]byte(text))); diff != "" {
		t.Error(diff)
	}
}
