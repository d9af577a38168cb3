package output

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type sample struct {
	Name   string            `json:"name"`
	Voter  bool              `json:"voter"`
	Count  int               `json:"count"`
	Labels map[string]string `json:"labels,omitempty"`
	Text   string            `json:"text"`
}

func TestWrite(t *testing.T) {
	value := []sample{{Name: "node-1", Voter: true, Count: 3, Labels: map[string]string{"role": "db"}, Text: "a <b> & c"}, {
		Name: "yes", Text: "12",
	}}
	for _, tt := range []struct {
		format Format
		want   string
	}{
		{JSON, `[
  {
    "name": "node-1",
    "voter": true,
    "count": 3,
    "labels": {
      "role": "db"
    },
    "text": "a <b> & c"
  },
  {
    "name": "yes",
    "voter": false,
    "count": 0,
    "text": "12"
  }
]
`},
		{YAML, `- name: node-1
  voter: true
  count: 3
  labels:
    role: db
  text: a <b> & c
- name: "yes"
  voter: false
  count: 0
  text: "12"
`},
		{Table, "a table\n"},
	} {
		var b bytes.Buffer
		err := Write(&b, tt.format, value, func(w io.Writer) error {
			_, err := io.WriteString(w, "a table\n")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, b.String()); diff != "" {
			t.Errorf("%s: %s", tt.format, diff)
		}
	}
}

func TestFormatSet(t *testing.T) {
	var f Format
	for _, good := range Formats {
		if err := f.Set(good); err != nil || f.String() != good {
			t.Errorf("%s: %v, %s", good, err, f.String())
		}
	}
	if err := f.Set("xml"); err == nil || !strings.Contains(err.Error(), "table, json or yaml") {
		t.Errorf("xml: %v", err)
	}
}

func TestGrid(t *testing.T) {
	g := Grid{Columns: []string{"NAME", "STATE", "REASON"}}
	g.Add("node-1", "ready", "")
	g.Add("naïve", "lost", "two\nlines")
	var b bytes.Buffer
	if err := g.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := "NAME    STATE  REASON\nnode-1  ready  -\nnaïve   lost   two lines\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestGridColorsKeepColumns(t *testing.T) {
	plain, colored := Grid{Columns: []string{"A", "B"}}, Grid{Columns: []string{"A", "B"}, Color: true}
	for _, g := range []*Grid{&plain, &colored} {
		g.Add("ready", "x")
		g.Add("something", "x")
	}
	var a, b bytes.Buffer
	_ = plain.Write(&a)
	_ = colored.Write(&b)
	if !strings.Contains(b.String(), "\x1b[") {
		t.Fatal("no colour")
	}
	stripped := strings.NewReplacer("\x1b[32m", "", "\x1b[m", "", "\x1b[0m", "").Replace(b.String())
	if diff := cmp.Diff(a.String(), stripped); diff != "" {
		t.Error(diff)
	}
}
