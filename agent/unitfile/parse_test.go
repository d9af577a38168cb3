package unitfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/golden"
)

func TestFindings(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/findings.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for _, file := range archive.Files {
		fmt.Fprintf(&got, "-- %s --\n", file.Name)
		_, warnings, err := unitfile.Parse(file.Name, file.Data)
		if err != nil {
			fmt.Fprintln(&got, err)
		}
		for _, w := range warnings {
			fmt.Fprintln(&got, "warning:", w)
		}
	}
	golden.Compare(t, "testdata/findings.golden", got.Bytes())
}

func TestParseRefusesWhatIsNoText(t *testing.T) {
	for _, c := range []struct{ name, content, want string }{
		{"a NUL byte", "[Unit]\nDescription=a\x00b\n", "x.service:2:14: the file holds a NUL byte"},
		{"bytes of another encoding", "[Unit]\nDescription=caf\xe9\n", "x.service:2:16: byte 0xe9 is not UTF-8"},
		{"a carriage return alone", "[Unit]\nDescription=a\rb\n", "x.service:2: a carriage return stands inside the line"},
		{"more than a MiB", "[Unit]\n" + strings.Repeat("#", 1<<20), "x.service: the unit file has 1048583 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := unitfile.Parse("x.service", []byte(c.content))
			var findings finding.Findings
			if !errors.As(err, &findings) {
				t.Fatalf("got %v, want findings", err)
			}
			if !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

func TestParseOptions(t *testing.T) {
	const text = "\ufeff[Unit]\r\n Description = two words \r\n; comment\r\n\r\n" +
		"[Service]\r\nExecStart=/bin/echo a \\\r\n  b\r\nExecStartPre=x \\\r\n\r\n"
	f, warnings, err := unitfile.Parse("x.service", []byte(text))
	if err != nil || len(warnings) > 0 {
		t.Fatalf("got %v and warnings %v", err, warnings)
	}
	want := []unitfile.Option{
		{Section: "Unit", Name: "Description", Value: "two words", Line: 2, Column: 16},
		{Section: "Service", Name: "ExecStart", Value: "/bin/echo a \\\n  b", Line: 6, Column: 11},
		{Section: "Service", Name: "ExecStartPre", Value: "x", Line: 8, Column: 14},
	}
	if diff := cmp.Diff(want, f.Options); diff != "" {
		t.Error(diff)
	}
	if got, _ := f.Value("Service", "ExecStart"); got != "/bin/echo a     b" {
		t.Errorf("the continued value reads %q", got)
	}
}

func TestValues(t *testing.T) {
	f := parse(t, "x.service", `[Service]
ExecStart=/bin/true
ExecStartPre=one
ExecStartPre=two
ExecStartPre=
ExecStartPre=three
User=a
User=b
Group=a
Group=
`)
	if diff := cmp.Diff([]string{"three"}, f.Values("Service", "ExecStartPre")); diff != "" {
		t.Error(diff)
	}
	if got, ok := f.Value("Service", "User"); got != "b" || !ok {
		t.Errorf("User is %q, %v", got, ok)
	}
	if got, ok := f.Value("Service", "Group"); ok {
		t.Errorf("Group was emptied and is %q", got)
	}
	if got := f.Values("Unit", "User"); got != nil {
		t.Errorf("another section has %q", got)
	}
}

func TestBytesAndHash(t *testing.T) {
	f := parse(t, "x.service", "# c\n[Unit]\nDescription=a\n\n[Service]\nExecStart=/bin/a \\\n  b\n[Unit]\nAfter=b.service\n")
	const want = "[Unit]\nDescription=a\n\n[Service]\nExecStart=/bin/a \\\n  b\n\n[Unit]\nAfter=b.service\n"
	if got := string(f.Bytes()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// printf '[Unit]\nDescription=a\nAfter=b.service\n\n[Service]\nExecStart=/bin/a \\\n  b\n' | sha1sum
	if got := f.Hash(); got != "5fcca63bdcfd3d8cd3dbea56ef309b92f8c99211" {
		t.Errorf("the hash is %s", got)
	}
}

func parse(t *testing.T, name, text string) unitfile.File {
	t.Helper()
	f, _, err := unitfile.Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestParseIsBounded holds files that are made to cost much against a bound on findings, not on time.
func TestParseIsBounded(t *testing.T) {
	const size = unitfile.MaxSize - 100
	for name, text := range map[string]string{
		"nonsense":       strings.Repeat("x\n", size/2),
		"unknown keys":   "[X-Fleet]\n" + strings.Repeat("Conflict=\n", size/10),
		"a long key":     "[X-Fleet]\n" + strings.Repeat("x", size) + "=",
		"odd escapes":    "[Service]\nExecStart=/bin/a " + strings.Repeat(`\q`, size/2),
		"odd labels":     "[X-Fleet]\nMachineMetadata=" + strings.Repeat("x ", size/2),
		"a continuation": "[Service]\nExecStart=a " + strings.Repeat("\\\n", size/2),
		"commands":       "[Service]\nExecStart=" + strings.Repeat("a;", size/2) + strings.Repeat(" ; a", 9),
	} {
		t.Run(name, func(t *testing.T) {
			_, warnings, err := unitfile.Parse("x.service", []byte(text))
			var findings finding.Findings
			errors.As(err, &findings)
			if len(warnings)+len(findings) > 210 {
				t.Errorf("%d findings", len(warnings)+len(findings))
			}
		})
	}
}
