package dir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/musterhq/muster/cluster/pki"
)

// slotsPath is where slots and their table are, below the host's root directory.
const slotsPath = "var/lib/muster/slots"

// slot is an entry of the table.
type slot struct {
	Version string `json:"version,omitempty"`
	Program string `json:"program,omitempty"` // absolute path of its musterd
	Good    bool   `json:"good,omitempty"`
	Tries   int    `json:"tries"` // -1: not counted
}

// table says what the next boot takes: slot Want while that is good or has tries left, else the other one.
type table struct {
	V     int     `json:"v"`
	Slots [2]slot `json:"slots"`
	Want  int     `json:"want"`
	// Patience is how long a musterd that is not good may run until the next try.
	Patience time.Duration `json:"patience"`
	// Ends is that the next start is a boot, before which everything else on the host is ended.
	Ends bool `json:"ends,omitempty"`
}

const tableVersion = 1

func (t table) pick() int {
	if s := t.Slots[t.Want]; s.Program != "" && (s.Good || s.Tries > 0) {
		return t.Want
	}
	return 1 - t.Want
}

func tablePath(root string) string { return filepath.Join(root, slotsPath, "table.json") }

// readTable says whether there is one.
func readTable(root string) (t table, found bool, err error) {
	data, err := os.ReadFile(tablePath(root))
	if errors.Is(err, fs.ErrNotExist) {
		return t, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err == nil && (t.V != tableVersion || t.Want < 0 || t.Want > 1) {
		err = fmt.Errorf("version %d, this musterd knows %d", t.V, tableVersion)
	}
	if err != nil {
		return t, false, fmt.Errorf("cannot read the table of slots: %w", err)
	}
	return t, true, nil
}

func writeTable(root string, t table) error {
	t.V = tableVersion
	data, err := json.MarshalIndent(t, "", "  ")
	if err == nil {
		err = pki.WriteFile(tablePath(root), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot write the table of slots: %w", err)
	}
	return nil
}
