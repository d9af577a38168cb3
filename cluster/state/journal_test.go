package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/roster"
)

func ref(name string, generation int) *Ref { return &Ref{Name: name, Generation: generation} }

// story is a journal with every kind of entry, secrets included.
func story() []Entry {
	return []Entry{
		{Kind: KindGeneration, Host: ref("old", 4)},
		{Kind: KindMachine, Host: ref("kept", 2), Provider: "b"},
		{Kind: KindIntent, Op: OpCreate, Host: ref("a", 1), Provider: "a", Voter: true, Waits: true, Token: Private("canary"), UserData: Private("canary\x00\xff")},
		{Kind: KindDone, Op: OpCreate, Host: ref("a", 1)},
		{Kind: KindListed, Host: ref("a", 1)},
		{Kind: KindBootstrap, Bootstrap: &Bootstrap{ClusterToken: "t", InitialCluster: map[string]string{"1": "https://1"}, Roster: roster.Roster{{ID: "1", Name: "a", Voter: true}}}},
		{Kind: KindAdmitted, Host: ref("a", 1)},
		{Kind: KindJoined, Host: ref("a", 1)},
		{Kind: KindFormed},
		{Kind: KindIntent, Op: OpStart, Host: ref("kept", 2), Provider: "b"},
		{Kind: KindDone, Op: OpStart, Host: ref("kept", 2)},
		{Kind: KindIntent, Op: OpDestroy, Host: ref("x", 3), Provider: "b"},
		{Kind: KindDone, Op: OpDestroy, Host: ref("x", 3)},
		{Kind: KindListed, Host: ref("y", 1), Provider: "a"},
		{Kind: KindGone, Host: ref("y", 1)},
	}
}

func encode(t testing.TB, entries []Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, e := range entries {
		e.V, e.Time = Version, epoch
		if err := json.NewEncoder(&b).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestReplay(t *testing.T) {
	v := Replay(story())
	want := View{
		Machines: map[Ref]Machine{
			*ref("kept", 2): {Ref: *ref("kept", 2), Provider: "b", Created: true, Listed: true, Admitted: true, Joined: true},
			*ref("a", 1): {
				Ref: *ref("a", 1), Provider: "a", Voter: true, Waits: true, Created: true, Listed: true, Admitted: true, Joined: true,
				Token: Private("canary"), UserData: Private("canary\x00\xff"),
			},
		},
		Generations: map[string]int{"old": 4, "kept": 2, "a": 1, "x": 3, "y": 1},
		Bootstrap:   v.Bootstrap,
		Formed:      true,
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Error(diff)
	}
	if v.Bootstrap == nil || !v.Settled() {
		t.Errorf("bootstrap %v, settled %v", v.Bootstrap, v.Settled())
	}
}

func TestReplayOpenIntents(t *testing.T) {
	v := Replay([]Entry{
		{Kind: KindIntent, Op: OpCreate, Host: ref("a", 1), Provider: "p", UserData: Private("1"), Time: epoch},
		{Kind: KindIntent, Op: OpCreate, Host: ref("a", 1), Provider: "p", UserData: Private("1"), Time: epoch.Add(1)},
		{Kind: KindListed, Host: ref("b", 1), Provider: "p"},
		{Kind: KindIntent, Op: OpDestroy, Host: ref("b", 1), Provider: "p"},
		{Kind: KindBootstrap, Bootstrap: &Bootstrap{}},
		{Kind: KindAbandoned},
	})
	a, ok := v.Latest("a")
	if !ok || a.Created || !a.Asked.Equal(epoch) {
		t.Errorf("a is %+v", a)
	}
	if b := v.Machines[*ref("b", 1)]; !b.Destroying || !b.Listed {
		t.Errorf("b is %+v", b)
	}
	if v.Bootstrap != nil || v.Settled() {
		t.Errorf("bootstrap %v, settled %v", v.Bootstrap, v.Settled())
	}
}

// A journal that is cut anywhere reads as the entries before the cut.
func TestTornJournal(t *testing.T) {
	whole := encode(t, story())
	for cut := range len(whole) + 1 {
		data := whole[:cut]
		entries, good, err := Decode(data)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if want := bytes.Count(data, []byte("\n")); len(entries) != want || good != bytes.LastIndexByte(data, '\n')+1 {
			t.Fatalf("cut at %d: %d entries in %d bytes, want %d", cut, len(entries), good, want)
		}
	}
}

func TestDecode(t *testing.T) {
	const formed = `{"v":1,"time":"2026-01-02T03:04:05Z","kind":"formed"}` + "\n"
	tests := []struct {
		name, data, err string
		entries         int
	}{
		{"empty", "", "", 0},
		{"last line cut and ended by file system", formed + "{\"v\":1,\x00\x00\n", "", 1},
		{"zeroes at the end", formed + "\x00\x00\x00", "", 1},
		{"damage in the middle", "{\"v\":1,\n" + formed, "line 1: not an entry", 0},
		{"newer version", formed + `{"v":2,"kind":"formed"}` + "\n" + formed, "line 2: written by another version", 0},
		{"newer version at the end", formed + `{"v":2,"kind":"formed"}` + "\n", "line 2: written by another version", 0},
		{"newer version cut at the end", formed + `{"v":2,"kind":"formed"}`, "line 2: written by another version", 0},
		{"no version", `{"kind":"formed"}` + "\n", "another version", 0},
		{"unknown kind", `{"v":1,"kind":"dance"}` + "\n", "another version", 0},
		{"unknown field", `{"v":1,"kind":"formed","time":"2026-01-02T03:04:05Z","colour":1}` + "\n", "unknown field", 0},
		{"no host", `{"v":1,"kind":"joined","time":"2026-01-02T03:04:05Z"}` + "\n", "no host", 0},
		{"generation 0", `{"v":1,"kind":"joined","host":{"name":"a"}}` + "\n", "no host", 0},
		{"no provider", `{"v":1,"kind":"intent","op":"create","host":{"name":"a","generation":1}}` + "\n", "no provider", 0},
		{"unknown operation", `{"v":1,"kind":"done","op":"x","host":{"name":"a","generation":1}}` + "\n", "unknown operation", 0},
		{"no membership", `{"v":1,"kind":"bootstrap"}` + "\n", "no first membership", 0},
		{"a number", "1\n", "not an entry", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			entries, _, err := Decode([]byte(tt.data))
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if len(entries) != tt.entries {
				t.Errorf("%d entries, want %d", len(entries), tt.entries)
			}
		})
	}
}

func TestAppendAfterTornLine(t *testing.T) {
	parent := t.TempDir()
	d := mustCreate(t, parent)
	if err := d.Journal().Append(story()...); err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	name := filepath.Join(d.Path(), fileJournal)
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"v":1,"kind":"int`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	again := mustCreate(t, parent)
	if err := again.Journal().Append(Entry{Kind: KindJoined, Host: ref("z", 1)}); err != nil {
		t.Fatal(err)
	}
	view, err := again.View()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(again.Journal().View(), view); diff != "" {
		t.Errorf("what is read differs from what was written:\n%s", diff)
	}
	if _, ok := view.Latest("z"); !ok {
		t.Error("the entry after the torn line is lost")
	}
}

func TestCompact(t *testing.T) {
	parent := t.TempDir()
	d := mustCreate(t, parent)
	j := d.Journal()
	if err := j.Append(Entry{Kind: KindIntent, Op: OpCreate, Host: ref("late", 1), Provider: "p", Token: Private("canary")}); err != nil {
		t.Fatal(err)
	}
	if done, err := j.Compact(); done || err != nil {
		t.Fatalf("compacted with an open intent: %v, %v", done, err)
	}
	if err := j.Append(append(story(), Entry{Kind: KindListed, Host: ref("late", 1)}, Entry{Kind: KindJoined, Host: ref("late", 1)})...); err != nil {
		t.Fatal(err)
	}
	if done, err := j.Compact(); !done || err != nil {
		t.Fatalf("Compact = %v, %v", done, err)
	}
	if done, err := j.Compact(); done || err != nil {
		t.Fatalf("a second Compact = %v, %v", done, err)
	}
	if err := j.Append(Entry{Kind: KindIntent, Op: OpDestroy, Host: ref("late", 1), Provider: "p"}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(d.Path(), fileJournal))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("canary")) || bytes.Contains(data, []byte("Y2FuYXJ5")) {
		t.Error("a token outlived the compaction")
	}
	_ = d.Close()
	v := mustCreate(t, parent).Journal().View()
	want := map[string]int{"old": 4, "kept": 2, "a": 1, "x": 3, "y": 1, "late": 1}
	if diff := cmp.Diff(want, v.Generations); diff != "" {
		t.Errorf("generations:\n%s", diff)
	}
	if !v.Formed || v.Bootstrap != nil || len(v.Machines) != 3 || !v.Machines[*ref("late", 1)].Destroying {
		t.Errorf("view is %+v", v)
	}
}

func TestPrivateIsNotPrinted(t *testing.T) {
	m := Replay(story()).Machines[*ref("a", 1)]
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "machine", m, "token", m.Token)
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %s %x %d", m, m, m, m.Token, m.Token, m.UserData), log.String()} {
		if strings.Contains(s, "canary") || strings.Contains(s, "63616e617279") || strings.Contains(s, "99 97 110") {
			t.Errorf("secret in %q", s)
		}
	}
}

func TestAppendRefusesNonsense(t *testing.T) {
	d := mustCreate(t, t.TempDir())
	if err := d.Journal().Append(Entry{Kind: KindJoined}); err == nil {
		t.Error("an entry that could not be read was written")
	}
	if err := d.Journal().Append(Entry{Kind: KindFormed}); err != nil {
		t.Errorf("the journal is good still: %v", err)
	}
}

func TestAppendIsConcurrent(t *testing.T) {
	d := mustCreate(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if err := d.Journal().Append(Entry{Kind: KindListed, Host: ref(fmt.Sprint("h", i), 1)}); err != nil {
				t.Error(err)
			}
			_ = d.Journal().View()
		})
	}
	wg.Wait()
	view, err := d.View()
	if err != nil || len(view.Machines) != 16 {
		t.Errorf("%d machines, %v", len(view.Machines), err)
	}
}

func TestFailedWriteBreaksTheJournal(t *testing.T) {
	d := mustCreate(t, t.TempDir())
	_ = d.Journal().file.Close() // the disk is gone
	first := d.Journal().Append(Entry{Kind: KindFormed})
	if first == nil {
		t.Fatal("written to a closed file")
	}
	if err := d.Journal().Append(Entry{Kind: KindFormed}); !errors.Is(err, first) {
		t.Errorf("then %v, want %v", err, first)
	}
	if d.Journal().View().Formed {
		t.Error("what was not written is believed")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, story()))
	f.Add([]byte(`{"v":2}` + "\n"))
	f.Add([]byte("{\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, good, err := Decode(data)
		if err != nil {
			if entries != nil || good != 0 {
				t.Fatal("entries beside an error")
			}
			return
		}
		if good > len(data) {
			t.Fatalf("%d good bytes of %d", good, len(data))
		}
		again, all, err := Decode(data[:good])
		if err != nil || all != good || !cmp.Equal(entries, again) {
			t.Fatalf("the good part reads differently: %v", err)
		}
		view := Replay(entries)
		if diff := cmp.Diff(view, Replay(view.thenCompacted(entries))); diff != "" {
			t.Fatal(diff)
		}
	})
}

// thenCompacted is the compacted entries when the view is settled and holds nothing that compaction drops, else all.
func (v View) thenCompacted(entries []Entry) []Entry {
	if !v.Settled() || v.Bootstrap != nil || v.secret() {
		return entries
	}
	for _, m := range v.Machines {
		if !m.Asked.IsZero() {
			return entries
		}
	}
	return v.compacted(epoch)
}
