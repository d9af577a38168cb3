// Package nspawntest starts hosts for tests: systemd as PID 1 in a systemd-nspawn container, with D-Bus and a journal, up
// in a second or two and without a virtual machine. It needs Linux, root and systemd-container, and a tree with a systemd
// in it, which it does not change: a host writes to an overlay, which is gone with it.
//
// It ends what it started and nothing else, also when the test is killed. It knows nothing of muster.
package nspawntest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TreeVariable names the environment variable with the path of the tree.
const TreeVariable = "MUSTER_IMAGE_TREE"

// startPatience is how long a host may take to start or to end.
const startPatience = 3 * time.Minute

// Host is a container that has started.
type Host struct {
	PID  int    // of its init, as seen from here
	Root string // leads to its file system from here
	Bus  string // address of its system bus
}

// Options are what a host may have beyond a file system.
type Options struct {
	// Args are more arguments for systemd-nspawn, such as --network-bridge=br0. Without any the host has a loopback
	// device only.
	Args []string
	// Mask are units of the tree that shall not start.
	Mask []string
	// Prepare changes the file system before the host starts. May be nil.
	Prepare func(root string) error
}

// Tree is where the environment says that the tree is. Without one the test fails.
func Tree(t testing.TB) string {
	t.Helper()
	tree := os.Getenv(TreeVariable)
	if tree == "" {
		t.Fatalf("%s is not set: it names a directory with a Debian tree that has systemd, dbus and a /usr", TreeVariable)
	}
	if _, err := os.Stat(filepath.Join(tree, "usr/lib/systemd/systemd")); err != nil {
		t.Fatalf("%s names no tree with systemd: %v", TreeVariable, err)
	}
	return tree
}

// Start starts a host that ends with the test. The name is the host's, and that of its machine with some of the test's
// process ID.
func Start(t testing.TB, tree, name string, options Options) *Host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("systemd-nspawn needs root")
	}
	for _, program := range []string{"systemd-nspawn", "nsenter", "unshare", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("hosts need %s: %v", program, err)
		}
	}
	s := &starter{tree: tree, name: name, dir: shortDir(t), options: options}
	if err := s.layOut(); err != nil {
		t.Fatalf("cannot lay out the host %s: %v", name, err)
	}
	h, err := s.start(t)
	if err != nil {
		t.Fatalf("cannot start the host %s: %v\n%s", name, err, s.output())
	}
	return h
}

// Command makes a command that runs in the host.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	enter := h.Enter()
	return exec.CommandContext(ctx, enter[0], append(enter[1:], argv...)...)
}

// Enter is the command in front of which one runs in the host.
func (h *Host) Enter() []string {
	return []string{"nsenter", "--target", strconv.Itoa(h.PID), "--all", "--"}
}

// Run runs a command in the host and returns what it wrote. Failing ends the test.
func (h *Host) Run(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := h.Command(t.Context(), argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// CPU is how much processor time a process of the host has used, by its ID in the host.
func (h *Host) CPU(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join(h.Root, "proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, field := range fields[11:13] { // utime, stime (proc_pid_stat(5))
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	const hertz = 100 // USER_HZ, the same on every Linux that Go runs on
	return time.Duration(ticks) * time.Second / hertz
}

// shortDir is a temporary directory whose path leaves room for a socket's name. The overlay needs a file system that
// is no overlay itself, which /var/tmp is more often than /tmp.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "nspawn-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("the host's directory is left over: %v", err)
		}
	})
	return dir
}

// starter is what a host is started with.
type starter struct {
	tree, name, dir string
	options         Options
}

func (s *starter) path(name string) string { return filepath.Join(s.dir, name) }

// layOut makes the directories of the overlay. What goes above the tree is written there before it is mounted, as the
// mount is seen by the container alone.
func (s *starter) layOut() error {
	for _, dir := range []string{"upper/etc/systemd/system", "work", "root", "var", "memory"} {
		if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(s.path("upper/etc/hostname"), []byte(s.name+"\n"), 0o644); err != nil {
		return err
	}
	for _, unit := range s.options.Mask {
		if err := os.Symlink("/dev/null", s.path("upper/etc/systemd/system/"+unit)); err != nil {
			return err
		}
	}
	if seed := filepath.Join(s.tree, "usr/share/factory/var"); exists(seed) {
		if out, err := exec.Command("cp", "-a", seed+"/.", s.path("var")).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot fill /var: %w: %s", err, out)
		}
	}
	if s.options.Prepare != nil {
		return s.options.Prepare(s.path("upper"))
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// script mounts the overlay, in a mount namespace of its own, and runs systemd-nspawn until that ends by itself or the
// test lets go of the pipe at descriptor 3. A systemd since 256 asks for unified control groups, podman
// for keyrings. Each host has a control group of its own: two systemds in one would end each other's units. A host need not
// outlive a crash, so nothing that it writes waits for a disk, on which others may have gigabytes to write: /var is in
// memory, and what is above the tree is never synced.
const script = `
tree=$1 dir=$2 machine=$3; shift 3
layers=lowerdir=$tree,upperdir=$dir/upper,workdir=$dir/work
mount -t overlay overlay -o "$layers,volatile" "$dir/root" 2> /dev/null || # kernels before 5.10 sync what is copied up
  mount -t overlay overlay -o "$layers" "$dir/root" || exit 1
while read -r line; do
  case $line in *' - cgroup2 '*) read -r _ _ _ _ hierarchy _ <<< "$line" ;; esac
done < /proc/self/mountinfo
mount -t tmpfs -o mode=0755 tmpfs "$dir/memory" && cp -a "$dir/var/." "$dir/memory" || exit 1
group=$hierarchy/$machine
mkdir "$group" || exit 1
export NOTIFY_SOCKET=$dir/notify SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
(echo 0 > "$group/cgroup.procs" && exec systemd-nspawn --quiet --boot --register=no --keep-unit \
  --directory="$dir/root" --bind="$dir/memory:/var" --machine="$machine" --notify-ready=yes --console=pipe \
  --system-call-filter=@keyring "$@") \
  < /dev/null 3<&- &
echo $! > "$dir/pid"
(read -r line <&3; touch "$dir/over"; kill -TERM $! 2> /dev/null) &
exec 3<&-
wait %1
for try in {1..100}; do # its processes may be still ending
  find "$group" -depth -type d -exec rmdir {} + 2> /dev/null && break
  sleep 0.05
done
[ ! -e "$dir/over" ] || { umount "$dir/root" "$dir/memory" && rm -rf "$dir"; }
`

func (s *starter) start(t testing.TB) (*Host, error) {
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: s.path("notify")})
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	hold, holder, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer hold.Close()
	log, err := os.Create(s.path("log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args := s.options.Args
	if len(args) == 0 {
		args = []string{"--private-network"}
	}
	machine := fmt.Sprintf("%s-%d", s.name, os.Getpid())
	cmd := exec.Command("unshare", append([]string{
		"--mount", "--propagation", "private", "setsid", "bash", "-c", script, "nspawn", s.tree, s.dir, machine,
	}, args...)...)
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{hold}, log, log
	if err := cmd.Start(); err != nil {
		holder.Close()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is told to end, so how it does says nothing
	}()
	t.Cleanup(func() { s.end(t, holder, cmd, ended) })
	if err := await(t.Context(), ready, ended); err != nil {
		return nil, err
	}
	return s.host()
}

// end lets go of the pipe and waits until the container is gone.
func (s *starter) end(t testing.TB, holder *os.File, cmd *exec.Cmd, ended <-chan struct{}) {
	_ = holder.Close()
	timer := time.NewTimer(startPatience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		_ = cmd.Process.Kill()
		t.Errorf("the host %s does not end:\n%s", s.name, s.output())
	}
}

// await waits for the message that systemd in the container has started (sd_notify(3)).
func await(ctx context.Context, ready *net.UnixConn, ended <-chan struct{}) error {
	if err := ready.SetReadDeadline(time.Now().Add(startPatience)); err != nil {
		return err
	}
	told := make(chan error, 1)
	go func() {
		message := make([]byte, 4096)
		for {
			n, err := ready.Read(message)
			if err != nil || strings.Contains("\n"+string(message[:n]), "\nREADY=1") {
				told <- err
				return
			}
		}
	}()
	select {
	case err := <-told:
		return err
	case <-ended:
		return errors.New("systemd-nspawn has ended")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// host finds the container's init: the child of systemd-nspawn that leads a namespace of processes.
func (s *starter) host() (*Host, error) {
	text, err := os.ReadFile(s.path("pid"))
	if err != nil {
		return nil, err
	}
	parent := strings.TrimSpace(string(text))
	stats, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return nil, err
	}
	for _, file := range stats {
		status, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if field(string(status), "PPid") != parent {
			continue
		}
		if ids := strings.Fields(field(string(status), "NSpid")); len(ids) > 1 && ids[len(ids)-1] == "1" {
			return newHost(filepath.Base(filepath.Dir(file)))
		}
	}
	return nil, fmt.Errorf("process %s of systemd-nspawn has no init", parent)
}

func newHost(id string) (*Host, error) {
	pid, err := strconv.Atoi(id)
	if err != nil {
		return nil, err
	}
	root := filepath.Join("/proc", id, "root")
	return &Host{PID: pid, Root: root, Bus: "unix:path=" + filepath.Join(root, "run/dbus/system_bus_socket")}, nil
}

func field(status, name string) string {
	_, rest, _ := strings.Cut("\n"+status, "\n"+name+":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}

// output is what systemd-nspawn said.
func (s *starter) output() string {
	text, err := os.ReadFile(s.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}
