package apply

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
)

// world is two clouds, an operator's machine and, if wanted, hosts that boot and a cluster that they form.
type world struct {
	t      *testing.T
	spec   spec.Spec
	state  string // parent of the state directory
	faults fake.Faults
	clouds map[string]*fake.Provider
	hosts  *datacentre // nil: nothing runs on the instances
	fleet  *fleet
	events *eventLog
	now    func() time.Time
	down   map[string]error // by provider: what List answers instead
}

// cloudNames are the providers of every test.
var cloudNames = []string{"a", "b"}

func newWorld(t *testing.T, hosts int, faults fake.Faults, clientTokens bool) *world {
	t.Helper()
	w := &world{
		t: t, spec: clusterFile(hosts, 0), state: filepath.Join(tempDir(t), "state"), clouds: make(map[string]*fake.Provider),
		faults: faults, events: new(eventLog), now: time.Now, down: make(map[string]error),
	}
	for _, name := range cloudNames {
		config := fake.NewConfig()
		config.ClientTokens, config.Faults = clientTokens, faults
		w.clouds[name] = fake.New(*config, providers.Environment{})
	}
	return w
}

// tempDir is a directory in memory where there is one: a sweep waits for the disk thousands of times.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "muster-apply-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// clusterFile has node-1 to node-hosts spread over the clouds.
func clusterFile(hosts, voters int) spec.Spec {
	s := spec.Spec{Cluster: "demo", Voters: voters, Lease: spec.DefaultLease}
	for _, name := range cloudNames {
		s.Providers = append(s.Providers, spec.Provider{Name: name})
	}
	s.Groups = []spec.Group{{
		Name: "node", Hosts: spec.NumberedHosts("node", hosts), Providers: cloudNames, Labels: map[string]string{"role": "web"},
		Settings: map[string]any{"a": fake.NewSettings(), "b": fake.NewSettings()},
	}}
	return s
}

// deps are for one process: what it calls passes through its bomb.
func (w *world) deps(b *bomb) Deps {
	d := Deps{
		Spec: w.spec, StateDir: w.state, Providers: make(map[string]providers.Provider), Reporter: w.events, Now: w.now,
		Connect: func(*x509.Certificate, pki.Pair, roster.Roster) (Fleet, error) { return b.guardFleet(w.fleet), nil },
	}
	for name, cloud := range w.clouds {
		var p providers.Provider = cloud
		if w.hosts != nil {
			p = w.hosts.at(name, p)
		}
		p = providers.Faults(p, func(c providers.Call) providers.Fault {
			if c.Op == providers.OpList {
				return providers.Fault{Before: w.down[name]}
			}
			return providers.Fault{}
		})
		d.Providers[name] = providers.Retry(b.guard(p), providers.RetryPolicy{Initial: time.Millisecond, Max: 4 * time.Millisecond}, discard)
	}
	if w.hosts != nil {
		d.Dial = b.guardDial(w.hosts.dial)
	}
	return d
}

func agree(context.Context, plan.Plan) (bool, error) { return true, nil }

// up is a process that is not disturbed.
func (w *world) up(o Options) (Result, error) {
	w.t.Helper()
	if o.Confirm == nil {
		o.Confirm = agree
	}
	return Up(w.t.Context(), w.deps(nil), o)
}

// mustUp repeats up until it succeeds, as an operator would after faults that pass.
func (w *world) mustUp(o Options) Result {
	w.t.Helper()
	var result Result
	w.mustDo("up", func() (err error) {
		result, err = w.up(o)
		return err
	})
	return result
}

func (w *world) mustDown() {
	w.t.Helper()
	w.mustDo("down", func() error {
		_, err := Down(w.t.Context(), w.deps(nil), Options{Confirm: agree})
		if errors.Is(err, state.ErrNoCluster) {
			return nil
		}
		return err
	})
}

// tries is how often an operator tries before giving up, and between is the time between two tries.
const (
	tries   = 8
	between = 15 * time.Millisecond
)

func (w *world) mustDo(name string, fn func() error) {
	w.t.Helper()
	var err error
	for range tries {
		if err = fn(); err == nil {
			return
		}
		if providers.Pause(w.t.Context(), between) != nil {
			break
		}
	}
	w.t.Fatalf("%s: %v", name, err)
}

// servers lists what exists, hidden or not, as "node-1/1@a", sorted.
func (w *world) servers() []string {
	w.t.Helper()
	var names []string
	for cloud, p := range w.clouds {
		servers, err := p.Servers(context.WithoutCancel(w.t.Context()))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, s := range servers {
			parts := strings.Split(s.Name, "/")
			names = append(names, strings.Join(parts[len(parts)-2:], "/")+"@"+cloud)
		}
	}
	slices.Sort(names)
	return names
}

// hostsOf strips the generations: which hosts exist, with duplicates.
func hostsOf(servers []string) []string {
	hosts := make([]string, len(servers))
	for i, s := range servers {
		name, place, _ := strings.Cut(s, "@")
		name, _, _ = strings.Cut(name, "/")
		hosts[i] = name + "@" + place
	}
	slices.Sort(hosts)
	return hosts
}

// wanted is the hosts of the cluster file in the same form.
func (w *world) wanted() []string {
	var hosts []string
	for _, h := range w.spec.Hosts() {
		hosts = append(hosts, h.Name+"@"+h.Provider)
	}
	slices.Sort(hosts)
	return hosts
}

func (w *world) assertExactlyWanted() {
	w.t.Helper()
	if got, want := hostsOf(w.servers()), w.wanted(); !slices.Equal(got, want) {
		w.t.Fatalf("there are %v, wanted %v", w.servers(), want)
	}
}

func (w *world) assertNothing() {
	w.t.Helper()
	if left := w.servers(); len(left) > 0 {
		w.t.Fatalf("left behind: %v", left)
	}
	if left, err := os.ReadDir(w.state); err != nil && !errors.Is(err, fs.ErrNotExist) || len(left) > 0 {
		w.t.Fatalf("left in the state directory: %v, %v", left, err)
	}
}

// calls counts the calls that could change something.
func (w *world) calls() int {
	w.t.Helper()
	n := 0
	for _, p := range w.clouds {
		calls, err := p.Calls(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		n += len(calls)
	}
	return n
}

// errCrashed is what every call answers once the process is dead.
var errCrashed = errors.New("the process is dead")

// bomb ends a simulated process at its nth crash point: from then on nothing that it does has an effect. What was on disk
// at that moment is kept aside, as the process itself goes on to fail and to tidy up.
type bomb struct {
	at   int64
	dir  string // of all clusters' state
	kept string // copy of dir as it was

	points atomic.Int64
	mu     sync.RWMutex // held for reading while a call is made
	dead   bool
	where  string
	err    error
}

func newBomb(at int, w *world) *bomb {
	return &bomb{at: int64(at), dir: w.state, kept: filepath.Join(tempDir(w.t), "state")}
}

func (b *bomb) point(name string) {
	if b.points.Add(1) != b.at {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead, b.where = true, name
	b.err = os.MkdirAll(b.dir, 0o700)
	if b.err == nil {
		b.err = os.CopyFS(b.kept, os.DirFS(b.dir))
	}
	if b.err == nil {
		b.err = private(b.kept)
	}
}

// private gives a copied state directory its modes back.
func private(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
}

// do makes a call unless the process is dead.
func (b *bomb) do(fn func() error) error {
	if b == nil {
		return fn()
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.dead {
		return errCrashed
	}
	return fn()
}

// guard lets calls to a provider pass while the process lives.
func (b *bomb) guard(p providers.Provider) providers.Provider {
	return providers.Decorate(p, func(ctx context.Context, _ providers.Call, next func(context.Context) error) error {
		return b.do(func() error { return next(ctx) })
	})
}

// guardDial lets connections live while the process does.
func (b *bomb) guardDial(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = b.do(func() (err error) {
			conn, err = dial(ctx, network, address)
			return err
		})
		return guardedConn{conn, b}, err
	}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

type guardedConn struct {
	net.Conn
	bomb *bomb
}

// Write says nothing any more when the process is dead.
func (c guardedConn) Write(p []byte) (n int, err error) {
	err = c.bomb.do(func() (err error) {
		n, err = c.Conn.Write(p)
		return err
	})
	return n, err
}

// eventLog collects what was reported.
type eventLog struct {
	mu     sync.Mutex
	events []Event
}

func (l *eventLog) Report(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *eventLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, e := range l.events {
		fmt.Fprintf(&b, "%s %s %s %s %v\n", e.Host, e.Provider, e.Phase, e.Message, e.Err)
	}
	return b.String()
}
