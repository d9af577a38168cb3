package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/musterhq/muster/agent/reconcile"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/store"
)

// readSettings reads a file that need not be there. It must have nothing that T does not know.
func readSettings[T any](path string) (T, error) {
	var s, none T
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return none, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// lastSchedule is the schedule that this host saw last, kept on disk for a start without the store.
type lastSchedule struct{ path string }

// load returns nil when the host never had a schedule.
func (l lastSchedule) load() (*store.ScheduleRecord, error) {
	data, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the last schedule: %w", err)
	}
	record, err := store.Unmarshal[store.ScheduleRecord](data)
	if err != nil {
		return nil, fmt.Errorf("cannot read the last schedule from %s: %w", l.path, err)
	}
	return &record, nil
}

func (l lastSchedule) save(record store.ScheduleRecord) error {
	packed, err := store.Marshal(record)
	if err != nil {
		return fmt.Errorf("cannot keep the schedule: %w", err)
	}
	var data bytes.Buffer
	if err := json.Indent(&data, packed, "", "  "); err != nil {
		return fmt.Errorf("cannot keep the schedule: %w", err)
	}
	return pki.WriteFile(l.path, append(data.Bytes(), '\n'))
}

// startedUnits is what was started on this host, kept on disk for as long as the host is up: what was started before a
// boot does not run after it.
type startedUnits struct {
	path string
	boot string // ID
}

// startedRecord is its content.
type startedRecord struct {
	Boot  string            `json:"boot"`
	Units reconcile.Started `json:"units"`
}

// load returns what was started since the host booted; with an error, nothing.
func (s startedUnits) load() (reconcile.Started, error) {
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return reconcile.Started{}, nil
	}
	if err != nil {
		return reconcile.Started{}, fmt.Errorf("cannot read what was started: %w", err)
	}
	var record startedRecord
	if err := json.Unmarshal(data, &record); err != nil {
		return reconcile.Started{}, fmt.Errorf("cannot read what was started from %s: %w", s.path, err)
	}
	if record.Boot != s.boot || record.Units == nil {
		return reconcile.Started{}, nil
	}
	return record.Units, nil
}

func (s startedUnits) save(units reconcile.Started) error {
	data, err := json.MarshalIndent(startedRecord{Boot: s.boot, Units: units}, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot keep what was started: %w", err)
	}
	return pki.WriteFile(s.path, append(data, '\n'))
}
