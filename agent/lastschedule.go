package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/store"
)

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
	record.V = store.RecordVersion
	data, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot keep the schedule: %w", err)
	}
	return pki.WriteFile(l.path, append(data, '\n'))
}
