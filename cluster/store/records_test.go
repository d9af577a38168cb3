package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

func TestMarshal(t *testing.T) {
	data, err := store.Marshal(store.ScheduleRecord{V: 99, Units: []store.ScheduledUnit{
		{Name: "web.service", File: "abc", Desired: store.DesiredLaunched},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"v":1,"units":[{"n":"web.service","f":"abc","d":"launched"}]}`; string(data) != want {
		t.Errorf("got %s, want %s", data, want)
	}
	got, err := store.Unmarshal[store.ScheduleRecord](data)
	if err != nil || got.V != store.RecordVersion || got.Units[0].Name != "web.service" {
		t.Errorf("read back %+v, %v", got, err)
	}
}

func TestMarshalEmbeddedHost(t *testing.T) {
	want := store.RosterRecord{V: 1, Host: roster.Host{ID: "a", Name: "n", Ports: roster.DefaultPorts(), Voter: true}}
	data, err := store.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.Unmarshal[store.RosterRecord](data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		data    string
		version bool
	}{
		"newer version":           {`{"v":3,"units":"another shape"}`, true},
		"no version":              {`{"units":[]}`, true},
		"not JSON":                {`units`, false},
		"empty":                   {``, false},
		"trailing garbage":        {`{"v":1} {}`, false},
		"wrong type":              {`{"v":1,"units":3}`, false},
		"version of a wrong type": {`{"v":"1"}`, false},
	} {
		_, err := store.Unmarshal[store.StatesRecord]([]byte(c.data))
		if err == nil || errors.Is(err, store.ErrVersion) != c.version {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := store.Unmarshal[store.Alive]([]byte(`{"v":1,"later":true}`)); err != nil {
		t.Errorf("a field that a later muster added: %v", err)
	}
}

func TestKeys(t *testing.T) {
	for key, want := range map[string]string{
		store.RosterKey("a"): "/muster/roster/a", store.TokenKey("a"): "/muster/tokens/a",
		store.HostKey("a"): "/muster/hosts/a", store.AliveKey("a"): "/muster/alive/a",
		store.UnitKey("a.service"): "/muster/units/a.service", store.FileKey("a"): "/muster/files/a",
		store.ScheduleKey("a"): "/muster/schedule/a", store.StatesKey("a"): "/muster/states/a",
		store.OrderKey("a"): "/muster/orders/a", store.LockKey("a"): "/muster/lock/a",
		store.RebootKey("a"): "/muster/reboots/a", store.GrantKey("a"): "/muster/grants/a",
	} {
		if key != want {
			t.Errorf("%s, want %s", key, want)
		}
	}
	for key, want := range map[string]string{
		"/muster/units/a.service": "a.service", "/muster/units/": "", "/muster/units/a/b": "", "/muster/hosts/a": "",
	} {
		if name, ok := store.KeyName(store.PrefixUnits, key); name != want || ok != (want != "") {
			t.Errorf("KeyName(%s) = %q, %v", key, name, ok)
		}
	}
}

// encode gives the bytes that a key of the key space might hold: mostly good, sometimes not.
func encode(t *rapid.T, key string) []byte {
	number := rapid.IntRange(0, 9).Draw(t, "number")
	if number == 9 {
		return []byte(`{"v":7}`)
	}
	text := fmt.Sprint(number)
	var data []byte
	var err error
	switch {
	case strings.HasPrefix(key, store.PrefixUnits):
		data, err = store.Marshal(store.UnitRecord{File: text, Desired: store.DesiredLaunched})
	case strings.HasPrefix(key, store.PrefixAlive):
		data, err = store.Marshal(store.Alive{Since: time.Unix(int64(number), 0).UTC()})
	case strings.HasPrefix(key, store.PrefixOrders):
		data, err = store.Marshal(store.OrderRecord{Order: store.OrderCordon, Since: time.Unix(int64(number), 0).UTC()})
	case key == store.KeyRebalance:
		data, err = store.Marshal(store.RebalanceRecord{Left: number})
	case key == store.KeyCluster:
		data, err = store.Marshal(store.Cluster{Name: text})
	case key == store.KeyLock:
		data, err = store.Marshal(store.TurnRecord{Voter: text})
	case strings.HasPrefix(key, store.PrefixLock):
		data, err = store.Marshal(store.LockRecord{Max: number})
	case strings.HasPrefix(key, store.PrefixReboots):
		data, err = store.Marshal(store.RebootRecord{Ticket: int64(number)})
	default:
		data = []byte(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestTablesAgree: tables kept by applying changes are those that reading again would give, whatever the changes were.
func TestTablesAgree(t *testing.T) {
	keys := []string{
		store.KeyCluster, store.KeyRebalance, store.OrderKey("x"), store.UnitKey("a"), store.UnitKey("b"), store.AliveKey("x"), store.FileKey("f"),
		store.KeyLock, store.LockKey("g"), store.RebootKey("x"),
		"/muster/unknown/a", "/muster/units/deeper/a",
	}
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		m := store.NewMemory(time.Now)
		defer m.Close()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		kept := store.NewTables()
		changes := m.Watch(ctx, store.Prefix, 0)
		for range rapid.IntRange(1, 20).Draw(t, "commits") {
			key := rapid.SampledFrom(keys).Draw(t, "key")
			op := store.Delete(key)
			if rapid.Bool().Draw(t, "put") {
				op = store.Put(key, encode(t, key))
			}
			if _, err := m.Commit(ctx, store.Commit{Ops: []store.Op{op}}); err != nil {
				t.Fatal(err)
			}
		}
		view, err := m.Range(ctx, store.Prefix)
		if err != nil {
			t.Fatal(err)
		}
		want := store.NewTables()
		want.Read(view)
		for kept.Revision < view.Revision && view.Revision > 1 {
			kept.Apply(<-changes)
		}
		kept.Revision = want.Revision
		errorText := cmp.Comparer(func(a, b error) bool { return a.Error() == b.Error() })
		if d := cmp.Diff(want, kept, errorText); d != "" {
			t.Fatal(d)
		}
	})
}

func TestTablesFile(t *testing.T) {
	content := []byte("[Service]\nExecStart=/bin/true\n")
	sum := store.FileSum(content)
	tables := store.NewTables()
	tables.Read(store.View{Items: []store.Item{
		{Key: store.FileKey(sum), Value: content}, {Key: store.FileKey("forged"), Value: content},
	}})
	if got, ok := tables.File(sum); !ok || !bytes.Equal(got, content) {
		t.Errorf("File(%s) = %q, %v", sum, got, ok)
	}
	for _, name := range []string{"forged", "missing"} {
		if _, ok := tables.File(name); ok {
			t.Errorf("File(%s) was found", name)
		}
	}
}

func unit(t *testing.T, file string) []byte {
	t.Helper()
	data, err := json.Marshal(store.UnitRecord{V: 1, File: file, Desired: store.DesiredLoaded})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestFollow keeps tables through a cut, a compaction and a store that is away at the start.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(time.Now)
		defer m.Close()
		c := m.Client()
		put(t, m, store.UnitKey("a"), string(unit(t, "1")))
		put(t, m, store.UnitKey("b"), string(unit(t, "1")))

		c.Cut()
		seen := make(chan string)
		done := make(chan error)
		go func() {
			done <- store.Follow(t.Context(), c, []string{store.PrefixUnits, store.PrefixAlive}, store.Pace{},
				func(tables *store.Tables) error {
					a, b := tables.Units["a"].Record.File, tables.Units["b"].Record.File
					seen <- fmt.Sprintf("%s %s %d", a, b, len(tables.Alive))
					return nil
				})
		}()
		time.Sleep(time.Minute) // on the bubble's clock
		c.Heal()
		expect := func(want string) {
			t.Helper()
			if got := <-seen; got != want {
				t.Errorf("saw %s, want %s", got, want)
			}
		}
		expect("1 1 0")
		put(t, m, store.UnitKey("a"), string(unit(t, "2")))
		expect("2 1 0")

		c.Cut()
		synctest.Wait()
		if _, err := m.Commit(t.Context(), store.Commit{Ops: []store.Op{store.Delete(store.UnitKey("b"))}}); err != nil {
			t.Fatal(err)
		}
		m.Compact(put(t, m, store.UnitKey("a"), string(unit(t, "3"))))
		c.Heal()
		expect("3  0") // read again: what was deleted meanwhile must not linger

		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Follow of a closed client: %v", err)
		}
	})
}

func TestFollowEndsWithVisit(t *testing.T) {
	m := store.NewMemory(time.Now)
	defer m.Close()
	enough := errors.New("enough")
	err := store.Follow(t.Context(), m, []string{store.Prefix}, store.Pace{}, func(*store.Tables) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

// TestFollowPace: a burst is one visit; a stream without pause is visited all the same.
func TestFollowPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(time.Now)
		defer m.Close()
		ctx, cancel := context.WithCancel(t.Context())
		visits := 0
		done := make(chan error)
		pace := store.Pace{Settle: time.Second, Bound: 10 * time.Second}
		go func() {
			done <- store.Follow(ctx, m, []string{store.PrefixUnits}, pace, func(*store.Tables) error {
				visits++
				return nil
			})
		}()
		burst := func(changes int) {
			for i := range changes {
				put(t, m, store.UnitKey("a"), string(unit(t, fmt.Sprint(i))))
				time.Sleep(time.Second / 2) // on the bubble's clock
			}
			time.Sleep(2 * time.Second)
		}
		synctest.Wait() // the first visit
		for _, c := range []struct{ changes, visits int }{{1, 2}, {5, 3}, {30, 5}} {
			if burst(c.changes); visits != c.visits {
				t.Errorf("after %d changes %d visits, want %d", c.changes, visits, c.visits)
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestTablesLeader(t *testing.T) {
	tables := store.NewTables()
	if got := tables.Leader(); got != "" {
		t.Errorf("without candidates %q leads", got)
	}
	tables.Read(store.View{Items: []store.Item{
		{Key: store.PrefixLeader + "1", Value: []byte("late"), CreateRevision: 9, ModRevision: 9},
		{Key: store.PrefixLeader + "2", Value: []byte("early"), CreateRevision: 3, ModRevision: 12},
	}})
	if got := tables.Leader(); got != "early" {
		t.Errorf("%q leads, the oldest key is early's", got)
	}
}
