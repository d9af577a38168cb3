package dir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/agent/update/enginetest"
)

// machine is a host whose boot loader is this package's, without processes.
type machine struct {
	root string
	step func()
	slot int
}

func newMachine(t *testing.T, step func()) enginetest.Host {
	m := &machine{root: t.TempDir(), step: step, slot: -1}
	if err := os.WriteFile(filepath.Join(m.root, "brought"), []byte("musterd 1"), 0o755); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) Engine() update.Engine {
	return New(Config{
		Name: "dir", Root: m.root, Version: "1", Program: filepath.Join(m.root, "brought"), Slot: m.slot, Restart: func() {}, step: m.step,
	})
}

func (m *machine) Contents(version string) map[string]string {
	return map[string]string{program: "musterd " + version}
}

func (m *machine) Boot(t *testing.T) {
	table, found, err := readTable(m.root)
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		m.slot = -1
		return
	}
	m.slot, _ = take(&table)
	if err := writeTable(m.root, table); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) Running(t *testing.T) string {
	s := slot{Version: "1", Program: filepath.Join(m.root, "brought")}
	if m.slot >= 0 {
		table, _, err := readTable(m.root)
		if err != nil {
			t.Fatal(err)
		}
		s = table.Slots[m.slot]
	}
	content, err := os.ReadFile(s.Program)
	if err != nil || string(content) != "musterd "+s.Version {
		t.Fatalf("slot %d of version %s holds %q, %v", m.slot, s.Version, content, err)
	}
	return s.Version
}

func TestEngine(t *testing.T) {
	enginetest.Run(t, enginetest.Rig{New: newMachine, Tries: tries, Older: true})
}
