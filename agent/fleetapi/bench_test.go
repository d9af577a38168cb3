package fleetapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// BenchmarkPoll is what a client asks four times a second while it waits for a unit: of 10,000 units on 1,000 hosts.
func BenchmarkPoll(b *testing.B) {
	const hosts, each = 1000, 10
	st := store.NewMemory(time.Now)
	put := func(key string, data []byte, err error) {
		if err == nil {
			_, err = st.Commit(b.Context(), store.Commit{Ops: []store.Op{store.Put(key, data)}})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	text := []byte("[Service]\nExecStart=/bin/sleep 1\n")
	sum := store.FileSum(text)
	put(store.FileKey(sum), text, nil)
	for h := range hosts {
		id := fmt.Sprintf("%032x", h)
		var schedule store.ScheduleRecord
		var states store.StatesRecord
		for u := range each {
			name := fmt.Sprintf("unit-%05d.service", h*each+u)
			data, err := store.Marshal(store.UnitRecord{File: sum, Desired: store.DesiredLaunched})
			put(store.UnitKey(name), data, err)
			schedule.Units = append(schedule.Units, store.ScheduledUnit{Name: name, File: sum, Desired: store.DesiredLaunched})
			states.Units = append(states.Units, store.UnitState{Name: name, File: sum, Load: "loaded", Active: "active", Sub: "running"})
		}
		data, err := store.Marshal(schedule)
		put(store.ScheduleKey(id), data, err)
		data, err = store.Marshal(states)
		put(store.StatesKey(id), data, err)
		data, err = store.Marshal(store.RosterRecord{Host: roster.Host{ID: id, Name: fmt.Sprint("node-", h), Address: "10.0.0.1"}})
		put(store.RosterKey(id), data, err)
		data, err = store.Marshal(store.Alive{})
		put(store.AliveKey(id), data, err)
	}
	h := New(Config{Store: st, Version: "1.2.3", Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	if _, err := h.mirror.now(ctx); err != nil {
		b.Fatal(err)
	}
	for path, name := range map[string]string{
		"one": "/fleet/v1/units/unit-05000.service", "state": "/fleet/v1/state/unit-05000.service", "page": "/fleet/v1/units",
	} {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				recorder := httptest.NewRecorder()
				h.ServeHTTP(recorder, httptest.NewRequestWithContext(b.Context(), http.MethodGet, name, nil))
				if recorder.Code != http.StatusOK {
					b.Fatal(recorder.Body)
				}
			}
		})
	}
}
