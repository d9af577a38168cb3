package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/musterhq/muster/cluster/pki"
)

// stateVersion is State.V of the states that this program writes, and the only one that it reads.
const stateVersion = 1

// stateFile is where a host's State is: always the old one or the new one, whatever is cut short.
type stateFile string

// load returns what is to be continued with Started. A state that cannot be read, as one of a newer agent that did not do, is
// of a host that may hold the lock: it has to be well before it goes on. The error is then told with it.
func (f stateFile) load() (State, error) {
	data, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return State{Phase: Idle}, nil
	}
	var s State
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err == nil && s.V != stateVersion {
		err = fmt.Errorf("version %d, this musterd knows %d", s.V, stateVersion)
	}
	if err != nil {
		return State{Phase: Recovering, Asked: true, Unproven: true}, fmt.Errorf("cannot read the state of updates from %s: %w", f, err)
	}
	return s, nil
}

// save returns when the state is on stable storage.
func (f stateFile) save(s State) error {
	s.V = stateVersion
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(string(f)), 0o700)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the state of updates: %w", err)
	}
	return pki.WriteFile(string(f), append(data, '\n'))
}
