package quadlet_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/quadlet"
	"github.com/musterhq/muster/agent/unitfile"
)

// FuzzRender checks that whatever is taken is rendered for podman under systemd, if it names no other engine, and that a
// rendered service is one that is read again the same.
func FuzzRender(f *testing.F) {
	for _, path := range []string{"refused.txtar", "render/full.txtar", "render/podman.txtar", "render/oneshot.txtar"} {
		archive, err := txtar.ParseFile("testdata/" + path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			f.Add(file.Name, file.Data)
		}
	}
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		name = unitfile.UnitName(name)
		file, _, err := quadlet.Parse(name, content)
		if err != nil || !file.IsContainer() {
			return
		}
		engine := file.Muster(name).Engine
		for _, h := range hosts {
			rendered, err := quadlet.Render(name, file, h.host)
			switch {
			case err == nil:
				sameAgain(t, name, rendered)
			case h.host.Systemd && (h.host.Engine == engine || engine == "" && h.host.Engine == unitfile.Podman):
				t.Fatalf("what was taken cannot be rendered: %v", err)
			}
		}
	})
}

// sameAgain writes and reads a rendered service.
func sameAgain(t *testing.T, name string, rendered unitfile.File) {
	again, _, err := unitfile.Parse(name, rendered.Bytes())
	if err != nil {
		t.Fatalf("the rendered service cannot be read: %v\n%s", err, rendered.Bytes())
	}
	if diff := cmp.Diff(rendered, again, cmpopts.IgnoreFields(unitfile.Option{}, "Line", "Column")); diff != "" {
		t.Fatalf("the rendered service reads differently:\n%s", diff)
	}
	for _, o := range again.Section("Service") {
		if !strings.HasPrefix(o.Name, "Exec") {
			continue
		}
		if commands, err := unitfile.ParseCommands(o.Value); err != nil || len(commands) != 1 {
			t.Fatalf("%s is %d commands, %v: %s", o.Name, len(commands), err, o.Value)
		}
	}
}

// anyWord draws words of what matters to quoting, specifiers and variables.
func anyWord(t *rapid.T, what string) string {
	return rapid.StringOfN(rapid.SampledFrom([]rune("ab;%%i$x{} \t\n\"'\\=-#@é/")), 0, 12, -1).Draw(t, what)
}

// TestWordForWord checks that systemd gives the engine each word of Exec= and of Environment= as the file has it.
func TestWordForWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var args, env []string
		text := "[Container]\nImage=localhost/a\nExec="
		for range rapid.IntRange(1, 5).Draw(t, "args") {
			args = append(args, anyWord(t, "arg"))
			text += " " + unitfile.QuoteWord(args[len(args)-1])
		}
		for range rapid.IntRange(0, 3).Draw(t, "variables") {
			env = append(env, "A="+anyWord(t, "value"))
			text += "\nEnvironment=" + unitfile.QuoteWord(env[len(env)-1])
		}
		file, _, err := quadlet.Parse("a@b.service", []byte(text+"\n"))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for _, h := range hosts {
			rendered, err := quadlet.Render("a@b.service", file, h.host)
			if err != nil {
				t.Fatal(err)
			}
			got := creating(t, rendered)
			at := slices.Index(got, "localhost/a")
			if diff := cmp.Diff(args, got[at+1:]); diff != "" {
				t.Fatalf("%s: arguments differ:\n%s", h.name, diff)
			}
			for _, v := range env {
				if !slices.Contains(got[:at], "--env="+v) {
					t.Fatalf("%s: no %q in %q", h.name, v, got[:at])
				}
			}
		}
	})
}

// creating are the words of the command that makes the container.
func creating(t *rapid.T, f unitfile.File) []string {
	for _, o := range f.Section("Service") {
		if !strings.Contains(o.Value, " --name=") {
			continue
		}
		commands, err := unitfile.ParseCommands(o.Value)
		if err != nil || len(commands) != 1 {
			t.Fatalf("%d commands, %v: %s", len(commands), err, o.Value)
		}
		return commands[0].Args
	}
	t.Fatal("nothing makes the container")
	return nil
}
