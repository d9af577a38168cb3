package fleetapi

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// world is a cluster in memory, whose hosts do what the test says.
type world struct {
	t     *testing.T
	store *store.Memory
	admin *control.Admin
	*Server
}

func newWorld(t *testing.T) *world {
	quiet := slog.New(slog.DiscardHandler)
	w := &world{t: t, store: store.NewMemory(time.Now)}
	w.admin = &control.Admin{Store: w.store, Log: quiet, Now: time.Now}
	w.Server = New(Config{Store: w.store, Changes: w.admin, Version: "1.2.3", Log: quiet})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = w.store.Close()
	})
	return w
}

// machine is the ID of machine "7": 777…
func machine(n string) string { return strings.Repeat(n, 32) }

// tell makes something happen:
//
//	machine N ADDRESS [KEY=VALUE...]    a machine joins
//	lost N                              its lease ends
//	unit NAME DESIRED                   a unit is submitted with muster, not with fleet's API
//	schedule N [UNIT DESIRED]...        everything that a machine shall have
//	report N [UNIT LOAD ACTIVE SUB]...  everything that it says it has, with the contents of now
//	store away|back
//
// Replicas of a template are written web@.service#1-3.
func (w *world) tell(line string) {
	w.t.Helper()
	word := strings.Fields(line)
	switch word[0] {
	case "machine":
		w.join(word[1], word[2], word[3:])
	case "lost":
		w.commit(store.Delete(store.AliveKey(machine(word[1]))))
	case "unit":
		const text = "# a comment\n[Service]\nExecStart=/bin/sleep 1\n"
		if _, err := w.admin.PutUnit(w.t.Context(), api.Unit{Name: word[1], Content: text, Desired: word[2]}); err != nil {
			w.t.Fatal(err)
		}
	case "schedule":
		record := store.ScheduleRecord{}
		for unit := range slices.Chunk(word[2:], 2) {
			name, replicas := w.replicas(unit[0])
			record.Units = append(record.Units, store.ScheduledUnit{
				Name: name, File: w.fileOf(name), Desired: store.Desired(unit[1]), Instances: replicas,
			})
		}
		write(w, store.ScheduleKey(machine(word[1])), store.Marshal[store.ScheduleRecord], record)
	case "report":
		record := store.StatesRecord{}
		for unit := range slices.Chunk(word[2:], 4) {
			name, replicas := w.replicas(unit[0])
			record.Units = append(record.Units, store.UnitState{
				Name: name, File: w.fileOf(name), Load: unit[1], Active: unit[2], Sub: unit[3], Instances: replicas,
			})
		}
		write(w, store.StatesKey(machine(word[1])), store.Marshal[store.StatesRecord], record)
	case "store":
		w.store.SetQuorum(word[1] == "back")
	default:
		w.t.Fatalf("cannot tell %q", line)
	}
}

func (w *world) join(n, address string, labels []string) {
	number, _ := strconv.Atoi(n)
	h := roster.Host{
		ID: machine(n), Name: fmt.Sprintf("node-%d", number), Generation: 1, Provider: "cloud-a", Address: address,
		Ports: roster.DefaultPorts(),
	}
	for _, label := range labels {
		if h.Labels == nil {
			h.Labels = map[string]string{}
		}
		key, value, _ := strings.Cut(label, "=")
		h.Labels[key] = value
	}
	write(w, store.RosterKey(h.ID), store.Marshal[store.RosterRecord], store.RosterRecord{Host: h})
	write(w, store.AliveKey(h.ID), store.Marshal[store.Alive], store.Alive{})
}

// replicas takes a word of tell apart.
func (w *world) replicas(word string) (name string, set instances.Set) {
	w.t.Helper()
	name, text, ok := strings.Cut(word, "#")
	if !ok {
		return name, nil
	}
	set, err := instances.Parse(text)
	if err != nil {
		w.t.Fatal(err)
	}
	return name, set
}

// fileOf is the file of a unit, or of a replica's template.
func (w *world) fileOf(unit string) string {
	w.t.Helper()
	item, err := w.store.Get(w.t.Context(), store.UnitKey(unit))
	if template, _, ok := instances.Split(unit); ok && err == nil && item.ModRevision == 0 {
		item, err = w.store.Get(w.t.Context(), store.UnitKey(template))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	record, err := store.Unmarshal[store.UnitRecord](item.Value)
	if err != nil {
		w.t.Fatalf("unit %s: %v", unit, err)
	}
	return record.File
}

func (w *world) commit(ops ...store.Op) {
	w.t.Helper()
	revision, err := w.store.Commit(w.t.Context(), store.Commit{Ops: ops})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, op := range ops {
		if slices.ContainsFunc(mirrored, func(prefix string) bool { return strings.HasPrefix(op.Key, prefix) }) {
			w.see(revision)
		}
	}
}

// see waits until the server knows of a commit.
func (w *world) see(revision int64) {
	w.t.Helper()
	for {
		v, err := w.mirror.now(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if v.Revision >= revision {
			return
		}
		w.mirror.mu.Lock()
		seen, changed := w.mirror.view.Tables, w.mirror.changed
		w.mirror.mu.Unlock()
		if seen == v.Tables {
			<-changed
		}
	}
}

func write[T any](w *world, key string, marshal func(T) ([]byte, error), record T) {
	w.t.Helper()
	data, err := marshal(record)
	if err != nil {
		w.t.Fatal(err)
	}
	w.commit(store.Put(key, data))
}
