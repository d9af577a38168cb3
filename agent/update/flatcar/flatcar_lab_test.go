//go:build lab

package flatcar

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/agent/update/enginetest"
)

// startBus starts a message bus of the test's own and tells its address.
func startBus(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Fatal("dbus-daemon is missing: install Debian's package dbus-daemon")
	}
	cmd := exec.Command(program, "--session", "--nofork", "--nopidfile", "--print-address", "--address=unix:dir="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(address)
}

// slot is a partition for /usr and the bits of its entry.
type slot struct {
	content                     string
	priority, tries, successful int
}

// host is a machine with Flatcar: its partitions, its boot loader, and update_engine on a bus.
type host struct {
	root, address string
	step          func()

	mu       sync.Mutex
	slots    [2]slot // guarded by mu
	runs     int     // the slot that does; guarded by mu
	offered  string  // version; guarded by mu
	status   status  // guarded by mu
	fails    bool    // the next attempt does; guarded by mu
	attempts int     // guarded by mu
	power    chan struct{}
	service  *dbus.Conn
	ended    sync.WaitGroup
}

func content(version string) string { return strings.Repeat("what "+version+" has in /usr\n", 50) }

func newHost(t *testing.T, address string, step func()) *host {
	h := &host{root: t.TempDir(), address: address, step: step}
	h.slots[0] = slot{content: content("1"), priority: 1, successful: 1}
	for i, name := range []string{"sda3", "sda4"} {
		node := "/sys/devices/sda/" + name
		h.write(t, node+"/partition", strconv.Itoa(i+3)+"\n")
		if err := os.MkdirAll(h.path("/sys/class/block"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(h.path(node), h.path("/sys/class/block/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	h.on(t, "1")
	t.Cleanup(h.off)
	return h
}

func (h *host) path(p string) string { return filepath.Join(h.root, p) }

func (h *host) write(t *testing.T, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(h.path(path)), 0o755)
	if err == nil {
		err = os.WriteFile(h.path(path), []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// on starts what runs after a boot of that version.
func (h *host) on(t *testing.T, version string) {
	t.Helper()
	h.write(t, osRelease, "ID=flatcar\nVERSION_ID="+version+"\n")
	h.status, h.power = status{Operation: idle}, make(chan struct{})
	conn, err := dbus.Connect(h.address)
	if err == nil {
		h.service = conn
		err = conn.Export(&manager{h, h.power}, objectPath, managerName)
	}
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := conn.RequestName(busName, dbus.NameFlagReplaceExisting|dbus.NameFlagAllowReplacement); err != nil ||
		answer != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(answer, err)
	}
}

func (h *host) off() {
	close(h.power)
	h.ended.Wait()
	_ = h.service.Close()
}

func (h *host) Engine() update.Engine {
	e := New(Host{
		Root: h.root, Run: h.run,
		Dial:  func(ctx context.Context) (*dbus.Conn, error) { return dbus.Connect(h.address, dbus.WithContext(ctx)) },
		Offer: h.offer,
	}, slog.New(slog.DiscardHandler))
	e.step = h.step
	return e
}

func (h *host) Contents(version string) map[string]string {
	return map[string]string{"flatcar_production_update.gz": content(version)}
}

func (h *host) offer(_ context.Context, r update.Release) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.offered = r.Version
	return nil
}

// Boot is what the boot loader does: of the partitions that can be booted it takes that of the highest priority, and counts.
func (h *host) Boot(t *testing.T) {
	t.Helper()
	h.off()
	best := -1
	for i, s := range h.slots {
		if s.priority > 0 && (s.successful == 1 || s.tries > 0) && (best < 0 || s.priority > h.slots[best].priority) {
			best = i
		}
	}
	if best < 0 {
		t.Fatal("nothing to boot")
	}
	h.runs = best
	if s := &h.slots[best]; s.successful == 0 {
		s.tries--
	}
	h.on(t, h.version(t))
}

func (h *host) version(t *testing.T) string {
	t.Helper()
	for _, version := range []string{"1", "2", "3"} {
		if h.slots[h.runs].content == content(version) {
			return version
		}
	}
	t.Fatalf("partition %d was booted, and is not whole", h.runs)
	return ""
}

func (h *host) Running(t *testing.T) string {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.version(t)
}

// run stands for the programs.
func (h *host) run(_ context.Context, program string, args ...string) ([]byte, error) {
	call := filepath.Base(program) + " " + strings.Join(args, " ")
	if strings.HasPrefix(call, "cgpt add") || strings.HasPrefix(call, "cgpt prioritize") {
		h.step()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case call == "systemctl reboot":
		return nil, nil
	case call == "rootdev -s /usr":
		return fmt.Appendf(nil, "/dev/sda%d\n", h.runs+3), nil
	case call == "cgpt find -t flatcar-usr":
		return []byte("/dev/sda3\n/dev/sda4\n"), nil
	case len(args) > 3 && args[1] == "-i" && args[len(args)-1] == "/dev/sda":
		number, err := strconv.Atoi(args[2])
		if err == nil && (number == 3 || number == 4) {
			return h.cgpt(args[0], number-3, args[3:len(args)-1])
		}
	}
	return nil, errors.New("no such call: " + call)
}

func (h *host) cgpt(verb string, i int, flags []string) ([]byte, error) {
	s := &h.slots[i]
	switch {
	case verb == "prioritize" && len(flags) == 0:
		h.slots[1-i].priority, s.priority = 1, 2
		return nil, nil
	case verb == "add" && len(flags) == 4 && flags[0] == "-S" && flags[2] == "-T":
		s.successful, _ = strconv.Atoi(flags[1])
		s.tries, _ = strconv.Atoi(flags[3])
		return nil, nil
	case verb == "show" && len(flags) == 1:
		if value, ok := map[string]int{"-P": s.priority, "-T": s.tries, "-S": s.successful}[flags[0]]; ok {
			return fmt.Appendln(nil, value), nil
		}
	}
	return nil, fmt.Errorf("no such call: %s %v", verb, flags)
}

// manager is update_engine's object.
type manager struct {
	h     *host
	power <-chan struct{}
}

func (m *manager) GetStatus() (int64, float64, string, string, int64, *dbus.Error) {
	m.h.mu.Lock()
	defer m.h.mu.Unlock()
	s := m.h.status
	return s.Checked, s.Progress, s.Operation, s.Version, s.Size, nil
}

func (m *manager) ResetStatus() *dbus.Error {
	m.h.mu.Lock()
	busy := !slices.Contains([]string{idle, needsReboot}, m.h.status.Operation)
	m.h.mu.Unlock()
	if busy {
		return dbus.MakeFailedError(errors.New("an update is in progress"))
	}
	m.tell(status{Operation: idle})
	return nil
}

func (m *manager) AttemptUpdate() *dbus.Error {
	m.h.mu.Lock()
	defer m.h.mu.Unlock()
	m.h.attempts++
	if m.h.status.Operation != idle {
		return nil // it goes on with what it does
	}
	m.h.ended.Add(1)
	go m.update(m.h.offered, m.h.fails)
	m.h.fails = false
	return nil
}

// tell sets the status and sends the signal.
func (m *manager) tell(s status) {
	m.h.mu.Lock()
	m.h.status = s
	m.h.mu.Unlock()
	_ = m.h.service.Emit(objectPath, managerName+"."+statusUpdate, s.Checked, s.Progress, s.Operation, s.Version, s.Size)
}

// update writes the partition that does not run, a part at a time until the power is cut.
func (m *manager) update(version string, fails bool) {
	defer m.h.ended.Done()
	text := content(version)
	m.tell(status{Operation: "UPDATE_STATUS_CHECKING_FOR_UPDATE"})
	const parts = 4
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	m.set(func(s *slot) { s.priority, s.successful, s.tries = 0, 0, 0 })
	for part := range parts {
		select {
		case <-m.power:
			return
		case <-pace.C:
		}
		if fails && part == parts/2 {
			m.tell(status{Operation: reportingError, Version: version})
			m.tell(status{Operation: idle})
			return
		}
		m.set(func(s *slot) { s.content = text[:len(text)*(part+1)/parts] })
		m.tell(status{Operation: "UPDATE_STATUS_DOWNLOADING", Version: version, Progress: float64(part+1) / parts, Size: int64(len(text))})
	}
	m.tell(status{Operation: "UPDATE_STATUS_FINALIZING", Version: version})
	m.set(func(s *slot) { s.priority, s.tries = 3, 1 })
	m.tell(status{Operation: needsReboot, Version: version})
}

func (m *manager) set(change func(*slot)) {
	m.h.mu.Lock()
	defer m.h.mu.Unlock()
	change(&m.h.slots[1-m.h.runs])
}

func TestLabConformance(t *testing.T) {
	address := startBus(t)
	enginetest.Run(t, enginetest.Rig{
		New: func(t *testing.T, step func()) enginetest.Host { return newHost(t, address, step) }, Tries: 1,
	})
}

// TestLabFailure has update_engine give up: the passive partition holds nothing, and the next attempt succeeds.
func TestLabFailure(t *testing.T) {
	h := newHost(t, startBus(t), func() {})
	h.fails = true
	r := enginetest.Release(t, "2", h.Contents("2"))
	if err := h.Engine().Stage(t.Context(), r); !errors.Is(err, errGaveUp) {
		t.Fatal(err)
	}
	slots, err := h.Engine().Slots(t.Context())
	if err != nil || slots.Next != "1" || slots.Other.Version != "" {
		t.Fatal(slots, err)
	}
	if err := h.Engine().Stage(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if slots, err = h.Engine().Slots(t.Context()); err != nil || slots.Next != "1" || slots.Other.Version != "2" || h.attempts != 2 {
		t.Fatal(slots, err, h.attempts)
	}
}

func TestLabOtherSystems(t *testing.T) {
	h := newHost(t, startBus(t), func() {})
	h.write(t, osRelease, "ID=debian\nVERSION_ID=12\n")
	if _, err := h.Engine().Slots(t.Context()); !errors.Is(err, ErrNotFlatcar) {
		t.Fatal(err)
	}
}
