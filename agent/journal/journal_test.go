package journal

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/runtime"
)

func TestLines(t *testing.T) {
	for name, c := range map[string]struct {
		writes []string
		want   []string // the lines of each call, each followed by |
		end    string   // what End hands on
	}{
		"nothing":                 {},
		"whole lines":             {writes: []string{"a\nb\n"}, want: []string{"a\n|b\n|"}},
		"a line in pieces":        {writes: []string{"a", "b", "c\nd"}, want: []string{"abc\n|"}, end: "d|"},
		"empty lines":             {writes: []string{"\n\n"}, want: []string{"\n|\n|"}},
		"as long as it may be":    {writes: []string{"12345678\n"}, want: []string{"12345678\n|"}},
		"longer":                  {writes: []string{"123456789\n"}, want: []string{"12345678|9\n|"}},
		"longer, never ending":    {writes: []string{"12345", "67890", "12345"}, want: []string{"12345678|"}, end: "9012345|"},
		"longer, in one piece":    {writes: []string{"1234567812345678x"}, want: []string{"12345678|12345678|"}, end: "x|"},
		"the limit before an end": {writes: []string{"12345678", "\nx\n"}, want: []string{"12345678\n|x\n|"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			l := &Lines{Max: 8, Each: func(lines [][]byte) error {
				got = append(got, string(bytes.Join(lines, []byte("|")))+"|")
				return nil
			}}
			for _, w := range c.writes {
				if n, err := l.Write([]byte(w)); n != len(w) || err != nil {
					t.Fatalf("wrote %d of %d: %v", n, len(w), err)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			got = nil
			if pending := max(0, len(c.end)-1); l.Pending() != pending {
				t.Errorf("%d bytes are pending, want %d", l.Pending(), pending)
			}
			if err := l.End(); err != nil || strings.Join(got, "") != c.end {
				t.Errorf("the end is %q, %v; want %q", got, err, c.end)
			}
		})
	}
}

func TestLinesFail(t *testing.T) {
	enough := errors.New("enough")
	l := &Lines{Each: func([][]byte) error { return enough }}
	if _, err := l.Write([]byte("a\nb")); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestParse(t *testing.T) {
	at := time.UnixMicro(1700000000123456)
	for name, c := range map[string]struct {
		line string
		want runtime.LogEntry
	}{
		"a line": {
			`{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1700000000123456","MESSAGE":"hello \u001b","PRIORITY":"3","SYSLOG_IDENTIFIER":"sh","_COMM":"bash","_PID":"7"}`,
			runtime.LogEntry{Time: at, Level: 3, Identifier: "sh", PID: 7, Message: []byte("hello \x1b")},
		},
		"bytes": {
			`{"__REALTIME_TIMESTAMP":"1700000000123456","MESSAGE":[104,105,255,10],"_COMM":"bash"}`,
			runtime.LogEntry{Time: at, Level: 6, Identifier: "bash", Message: []byte("hi\xff\n")},
		},
		"several messages": {
			`{"__REALTIME_TIMESTAMP":"1700000000123456","MESSAGE":["a","b"]}`,
			runtime.LogEntry{Time: at, Level: 6, Message: []byte("a\nb")},
		},
		"left out": {
			`{"__REALTIME_TIMESTAMP":"1700000000123456","MESSAGE":null,"PRIORITY":"9","_PID":"x"}`,
			runtime.LogEntry{Time: at, Level: 6},
		},
	} {
		got, err := Parse([]byte(c.line))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	for _, bad := range []string{"", "-- No entries --", `{"MESSAGE":"x"}`, `{"__REALTIME_TIMESTAMP":"soon"}`} {
		if e, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, e)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"__REALTIME_TIMESTAMP":"1700000000123456","MESSAGE":[104,105],"PRIORITY":"3","_PID":"7"}`))
	f.Add([]byte(`{"__REALTIME_TIMESTAMP":"1","MESSAGE":["a",[1,2],null]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Parse(line)
		if err == nil && (e.Level < 0 || e.Level > 7 || e.PID < 0) {
			t.Errorf("%q is %+v", line, e)
		}
	})
}

func TestPrinted(t *testing.T) {
	for line, want := range map[string]runtime.LogEntry{
		"plain":   {Level: 6, Message: []byte("plain")},
		"<3>bad":  {Level: 3, Message: []byte("bad")},
		"<8>odd":  {Level: 6, Message: []byte("<8>odd")},
		"<3":      {Level: 6, Message: []byte("<3")},
		"<0>":     {Level: 0, Message: []byte{}},
		"<b>html": {Level: 6, Message: []byte("<b>html")},
	} {
		if d := cmp.Diff(want, Printed([]byte(line), time.Time{})); d != "" {
			t.Errorf("%q: %s", line, d)
		}
	}
}

func TestParseLevels(t *testing.T) {
	for text, want := range map[string]int{"": 0, "emerg": 1, "0": 1, "err": 4, "3": 4, "debug": 8, "7": 8} {
		if got, err := ParseLevels(text); got != want || err != nil {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"error", "8", "-1", " err"} {
		if n, err := ParseLevels(bad); err == nil || !strings.Contains(err.Error(), "warning") {
			t.Errorf("%q is %d, %v", bad, n, err)
		}
	}
}

func TestFormats(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 89000, time.FixedZone("", 3600))
	entries := []runtime.LogEntry{
		{Time: at, Level: 6, Identifier: "sh", PID: 12, Message: []byte("one\ntwo")},
		{Level: 3, Message: []byte("bad \xff <&>")},
	}
	for format, want := range map[Format]string{
		Cat:      "one\ntwo\nbad \xff <&>\n",
		Short:    "Mar  4 04:06:07 node-1 sh[12]: one\n                               two\nnode-1 web.service: bad \xff <&>\n",
		ShortISO: "2026-03-04T04:06:07+0000 node-1 sh[12]: one\n                                        two\nnode-1 web.service: bad \xff <&>\n",
		JSON: `{"time":"2026-03-04T04:06:07.000089Z","host":"node-1","unit":"web.service","priority":"info","identifier":"sh","pid":12,"message":"one\ntwo"}` + "\n" +
			`{"host":"node-1","unit":"web.service","priority":"err","message":"bad ` + "\uFFFD" + ` <&>"}` + "\n",
	} {
		var b bytes.Buffer
		w := &Writer{W: &b, Format: format, Host: "node-1", Unit: "web.service", Zone: time.UTC}
		if err := w.Write(entries); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, b.String()); d != "" {
			t.Errorf("%s: %s", format, d)
		}
	}
	if f, err := ParseFormat(""); f != Cat || err != nil {
		t.Errorf("got %q, %v", f, err)
	}
	if _, err := ParseFormat("yaml"); err == nil || !strings.Contains(err.Error(), "short-iso") {
		t.Errorf("got %v", err)
	}
}
