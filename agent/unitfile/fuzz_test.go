package unitfile_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/unitfile"
)

var anywhere = cmpopts.IgnoreFields(unitfile.Option{}, "Line", "Column")

// Run the targets with -fuzzminimizetime=10x: minimising inputs of several arguments takes most of the time otherwise.

// FuzzParse checks that what parses is written back the same, and that go-systemd reads it alike.
func FuzzParse(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/findings.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		f.Add(file.Name, file.Data)
	}
	f.Add("web@.service", []byte("[Service]\nExecStart=/bin/web\n[X-Muster]\nReplicas=3\nSpread=rack\nCPU=0.5\nMemory=1.5G\n"+
		"Priority=-2\nOnPartition=keep\nHealthCheck=exec:/bin/check '%i'\nUpdateParallel=25%\nUpdateDelay=1min 30s\n"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		file, _, err := unitfile.Parse(name, content)
		if err != nil {
			return
		}
		again, _, err := unitfile.Parse(name, file.Bytes())
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, file.Bytes())
		}
		if diff := cmp.Diff(file, again, anywhere); diff != "" {
			t.Fatalf("what was written reads differently:\n%s", diff)
		}
		sameAsSystemd(t, file)
	})
}

// sameAsSystemd compares with go-systemd's parser, where it can read the file at all.
func sameAsSystemd(t *testing.T, file unitfile.File) {
	text := file.Bytes()
	for _, line := range strings.Split(string(text), "\n") {
		// It takes an escaped backslash at the end of a line for a continuation, and ends one at a comment.
		if strings.HasSuffix(line, `\\`) || strings.HasPrefix(strings.TrimSpace(line), "#") ||
			strings.HasPrefix(strings.TrimSpace(line), ";") || len(line) >= unit.SYSTEMD_LINE_MAX {
			return
		}
	}
	options, err := unit.DeserializeOptions(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("go-systemd refuses %q: %v", text, err)
	}
	for i, o := range options {
		if got := file.Options[i]; o.Section != got.Section || o.Name != got.Name || o.Value != got.Value {
			t.Fatalf("go-systemd reads %v, we read %v", o, got)
		}
	}
}

// FuzzCommands checks that a command line never panics and that substitution keeps what holds no variable.
func FuzzCommands(f *testing.F) {
	for _, line := range []string{`-/bin/sh -c "a b" ; x 'y'`, `@a b \x41 \101 $A ${B} $$ %n`, `"`, `\`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		commands, err := unitfile.ParseCommands(line)
		if err != nil {
			return
		}
		for _, c := range commands {
			if c.Path == "" {
				t.Fatalf("%q has a command without a program", line)
			}
			if strings.ContainsRune(strings.Join(append(c.Args, c.Path), ""), 0) && !strings.ContainsRune(line, 0) {
				t.Fatalf("%q makes a NUL byte", line)
			}
			_, _ = c.Expand("a@b.service", unitfile.HostSpecifiers{})
			args := c.Arguments(func(string) (string, bool) { return "", false })
			if !strings.Contains(line, "$") && !cmp.Equal(args, c.Args) {
				t.Fatalf("%q: %q became %q", line, c.Args, args)
			}
		}
	})
}

// FuzzExpandBraces checks the bounds, and that what has no braces stays as it is.
func FuzzExpandBraces(f *testing.F) {
	for _, pattern := range []string{"web@{1..6}.service", "{a,{b,c}d}{01..03}", "}{", "{{{{"} {
		f.Add(pattern)
	}
	f.Fuzz(func(t *testing.T, pattern string) {
		names, err := unitfile.ExpandBraces(pattern)
		if err != nil {
			return
		}
		if len(names) == 0 || len(names) > unitfile.MaxExpansion {
			t.Fatalf("%q gives %d names", pattern, len(names))
		}
		if !strings.ContainsAny(pattern, "{}") && names[0] != pattern {
			t.Fatalf("%q became %q", pattern, names[0])
		}
		for _, name := range names {
			if strings.ContainsAny(name, "{}") {
				t.Fatalf("%q gives %q", pattern, name)
			}
			_ = unitfile.CheckName(name)
			_, _ = unitfile.Template(name)
		}
	})
}

// FuzzValues feeds the smaller parsers.
func FuzzValues(f *testing.F) {
	f.Add("1min 30s", "a.service")
	f.Add("A=1 \"B=2 3\"\nC='x", "a@b.service")
	f.Fuzz(func(t *testing.T, text, name string) {
		if d, err := unitfile.ParseTimespan(text); err == nil && d < 0 {
			t.Fatalf("%q lasts %v", text, d)
		}
		_, _ = unitfile.ParseEnvironment(text)
		for _, assignment := range unitfile.ParseEnvironmentFile([]byte(text)) {
			if !strings.Contains(assignment, "=") || strings.ContainsRune(assignment, 0) {
				t.Fatalf("%q gives %q", text, assignment)
			}
		}
		_, _ = unitfile.Expand(text, name, unitfile.HostSpecifiers{Hostname: "h"})
	})
}

// TestRoundTrip makes files rather than bytes, so that most of them parse.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		for range rapid.IntRange(1, 4).Draw(t, "sections") {
			text.WriteString(rapid.SampledFrom([]string{"[Unit]\n", "[Install]\n", "[X-Fleet]\n", "[X-Other]\n"}).Draw(t, "section"))
			for range rapid.IntRange(0, 4).Draw(t, "options") {
				key := rapid.SampledFrom([]string{"A", "Description", " Spaced ", "# comment"}).Draw(t, "key")
				value := rapid.StringMatching(`[a-z "'$#;=]{0,8}(\\\n[ a-z#;\\\n]{0,6}){0,3}`).Draw(t, "value")
				text.WriteString(key + "=" + value + "\n")
			}
		}
		file, _, err := unitfile.Parse("a.target", []byte(text.String()))
		if err != nil {
			return
		}
		again, _, err := unitfile.Parse("a.target", file.Bytes())
		if err != nil || !cmp.Equal(file, again, anywhere) {
			t.Fatalf("%v\n%s", err, cmp.Diff(file, again, anywhere))
		}
	})
}
