//go:build lab

package voter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
)

// powerCutEnv has this binary be one voter, as it says in JSON.
const powerCutEnv = "MUSTER_POWERCUT_VOTER"

// powered is a voter in a process of its own.
type powered struct {
	Host    roster.Host
	Dir     string
	Role    join.VoterRole
	Files   Files
	NoFsync bool // the planted fault: what is acknowledged may be in memory alone
}

func TestMain(m *testing.M) {
	text := os.Getenv(powerCutEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := serve(context.Background(), text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve runs a voter until standard input ends.
func serve(ctx context.Context, text string) error {
	var p powered
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	end, err := p.start(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func (p powered) start(ctx context.Context) (end func(), err error) {
	cfg := Config{Host: p.Host, Dir: p.Dir, Role: p.Role, Files: p.Files, Log: slog.New(slog.DiscardHandler)}
	if !p.NoFsync {
		v, err := Start(ctx, cfg)
		if err != nil {
			return nil, err
		}
		return v.Close, nil
	}
	if _, err := checkData(cfg.Dir); err != nil {
		return nil, err
	}
	ec, err := embedConfig(cfg)
	if err != nil {
		return nil, err
	}
	ec.UnsafeNoFsync = true
	etcd, err := embed.StartEtcd(ec)
	if err != nil {
		return nil, err
	}
	return etcd.Close, nil
}

// disk is an ext4 file system of its own, which can lose its power: what was not synced is gone then.
type disk struct {
	tb        testing.TB
	image, at string
	mounted   bool
}

func newDisk(tb testing.TB) *disk {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Fatal("mounting takes root: run `make lab-voters` as root")
	}
	dir := tb.TempDir()
	d := &disk{tb: tb, image: filepath.Join(dir, "image"), at: filepath.Join(dir, "mounted")}
	err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 512<<20), os.Mkdir(d.at, 0o700))
	if err != nil {
		tb.Fatal(err)
	}
	d.run("mkfs.ext4", "-q", "-F", d.image)
	d.mount()
	tb.Cleanup(d.unmount)
	return d
}

func (d *disk) run(name string, args ...string) {
	d.tb.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.tb.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (d *disk) mount() {
	d.tb.Helper()
	d.run("mount", "-o", "loop", d.image, d.at)
	d.mounted = true
}

func (d *disk) unmount() {
	if d.mounted {
		d.mounted = false
		d.run("umount", d.at)
	}
}

// cut takes the power away: nothing more reaches the disk, not even the journal (EXT4_IOC_SHUTDOWN with
// EXT4_GOING_FLAGS_NOLOGFLUSH, linux/fs/ext4/ext4.h).
func (d *disk) cut() {
	d.tb.Helper()
	const shutdown, noLogFlush = 0x8004587d, 2
	dir, err := os.Open(d.at)
	if err == nil {
		err = errors.Join(unix.IoctlSetPointerInt(int(dir.Fd()), shutdown, noLogFlush), dir.Close())
	}
	if err != nil {
		d.tb.Fatalf("cannot cut the power of %s: %v", d.at, err)
	}
}

// TestPowerCut cuts the power of a voter under writes, again and again: what was acknowledged is there afterwards. A voter
// that does not sync is found.
func TestPowerCut(t *testing.T) {
	t.Run("a voter", func(t *testing.T) {
		m := newMains(t, false)
		for n := range 10 {
			if err := m.cutUnderWrites(time.Duration(200+100*n)*time.Millisecond, time.Minute); err != nil {
				t.Fatalf("cut %d: %v", n, err)
			}
		}
		t.Logf("%d acknowledged writes outlived 10 power cuts", len(m.written))
	})
	t.Run("a voter that does not sync", func(t *testing.T) {
		m := newMains(t, true)
		if err := m.cutUnderWrites(time.Second, time.Minute); err != nil {
			t.Fatal(err)
		}
		for n := range 10 {
			if err := m.cutUnderWrites(time.Second, 15*time.Second); err != nil {
				t.Logf("found by cut %d: %v", n+1, err)
				return
			}
		}
		t.Errorf("%d acknowledged writes outlived 10 power cuts without a sync: the cuts are none", len(m.written))
	})
}

// mains is a voter on a disk of its own, and what is known of its writes.
type mains struct {
	*cluster
	disk    *disk
	voter   powered
	mu      sync.Mutex
	written []string // keys that were acknowledged; guarded by mu
	next    int      // guarded by mu
}

func newMains(t *testing.T, noFsync bool) *mains {
	t.Helper()
	c, d := newCluster(t, 1, 0), newDisk(t)
	return &mains{cluster: c, disk: d, voter: powered{
		Host: c.hosts[0], Dir: filepath.Join(d.at, "etcd"), Role: c.role(), Files: c.files(0), NoFsync: noFsync,
	}}
}

// cutUnderWrites starts the voter, looks for what was acknowledged before, writes, and cuts the power. The error is what was
// lost, the voter itself included, which has some patience to answer.
func (m *mains) cutUnderWrites(after, patience time.Duration) error {
	m.tb.Helper()
	text, err := json.Marshal(m.voter)
	if err != nil {
		m.tb.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), powerCutEnv+"="+string(text))
	stdin, err := cmd.StdinPipe() // ends with this process, if no sooner
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		m.tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(m.tb.Context(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(cmd.Wait(), stdin.Close()); cancel() }()
	client := m.client(m.controlTLS(0))
	err = m.missing(ctx, client)
	if err == nil {
		m.writeFor(ctx, client, after)
	}
	_ = client.Close()
	_ = cmd.Process.Kill()
	<-ended
	m.disk.unmount()
	m.disk.mount()
	return err
}

// missing tells what of the acknowledged writes is not there.
func (m *mains) missing(ctx context.Context, client *clientv3.Client) error {
	r, err := client.Get(ctx, "/w/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return fmt.Errorf("the voter does not answer after the cut: %w", err)
	}
	there := map[string]bool{}
	for _, kv := range r.Kvs {
		there[string(kv.Key)] = true
	}
	lost := 0
	for _, key := range m.written {
		if !there[key] {
			lost++
		}
	}
	if lost > 0 {
		return fmt.Errorf("%d of %d acknowledged writes are lost", lost, len(m.written))
	}
	return nil
}

// writeFor has many write at once, and cuts the power while they do.
func (m *mains) writeFor(ctx context.Context, client *clientv3.Client, after time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for m.writeOne(ctx, client) == nil {
			}
		})
	}
	<-time.After(after)
	m.disk.cut()
	<-time.After(50 * time.Millisecond) // what is acknowledged now must have been synced before
	cancel()
	wg.Wait()
}

func (m *mains) writeOne(ctx context.Context, client *clientv3.Client) error {
	m.mu.Lock()
	m.next++
	key := fmt.Sprintf("/w/%08d", m.next)
	m.mu.Unlock()
	_, err := client.Put(ctx, key, "x")
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.written = append(m.written, key)
	}
	return err
}
