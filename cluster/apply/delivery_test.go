package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cluster/deliver"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

// courier is a Delivery that notes what it is asked.
type courier struct {
	refuses error // what Open answers
	push    func(host string) error

	mu         sync.Mutex
	calls      []string
	unfinished int // at the last call
}

func (c *courier) note(call string, unfinished int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls, c.unfinished = append(c.calls, call), unfinished
}

func (c *courier) Open(_ context.Context, _ string, unfinished [][]byte) error {
	c.note("open", len(unfinished))
	return c.refuses
}

func (c *courier) Push(_ context.Context, provider string, i providers.Instance) error {
	c.note("push "+i.Host+"@"+provider, c.unfinished)
	return c.push(i.Host)
}

func (c *courier) Close(unfinished [][]byte) error {
	c.note("close", len(unfinished))
	return nil
}

// sorted is what was asked, the pushes in the order of the hosts.
func (c *courier) sorted() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := slices.Clone(c.calls)
	if len(calls) > 2 {
		slices.Sort(calls[1 : len(calls)-1])
	}
	return calls
}

// awaiting is a world whose hosts at cloud b await musterd, which the courier brings.
func awaiting(t *testing.T) (*world, *courier) {
	w := newCluster(t, 4)
	var mu sync.Mutex
	has := make(map[string]chan struct{})
	for _, h := range w.spec.Hosts() {
		has[h.Name] = make(chan struct{})
	}
	w.hosts.prepare = func(ctx context.Context, host string, userData []byte) error {
		if !bytes.Contains(userData, []byte("05-awaited.conf")) {
			return nil
		}
		mu.Lock()
		brought := has[host]
		mu.Unlock()
		select {
		case <-brought:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	c := &courier{push: func(host string) error {
		mu.Lock()
		defer mu.Unlock()
		close(has[host])
		return nil
	}}
	return w, c
}

func (w *world) upWith(c Delivery, o Options) error {
	d := w.deps(nil)
	d.Musterd, d.Delivery, o.Confirm = map[string]Musterd{"b": {Pushed: true}}, c, agree
	_, err := Up(w.t.Context(), d, o)
	return err
}

func TestPushesToHostsThatAwait(t *testing.T) {
	w, c := awaiting(t)
	if err := w.upWith(c, Options{}); err != nil {
		t.Fatalf("%v\n%s", err, w.events)
	}
	w.assertFormed()
	want := []string{"open", "push node-2@b", "push node-4@b", "close"}
	if got := c.sorted(); !slices.Equal(got, want) || c.unfinished != 0 {
		t.Errorf("calls %v, %d unfinished", got, c.unfinished)
	}
	if err := w.upWith(c, Options{}); err != nil || len(c.sorted()) != len(want) {
		t.Errorf("with nothing to do: %v, %v", c.sorted(), err)
	}
}

// TestPushesLater goes on with hosts that were asked for without waiting.
func TestPushesLater(t *testing.T) {
	w, c := awaiting(t)
	if err := w.upWith(c, Options{NoWait: true}); err != nil {
		t.Fatal(err)
	}
	if got := c.sorted(); !slices.Equal(got, []string{"open", "close"}) || c.unfinished != 4 {
		t.Errorf("calls %v, %d unfinished", got, c.unfinished)
	}
	if !strings.Contains(w.events.String(), "run it again without --no-wait") {
		t.Errorf("no warning:\n%s", w.events)
	}
	if err := w.upWith(c, Options{}); err != nil {
		t.Fatal(err)
	}
	w.assertFormed()
}

// TestDeliveryThatCannotBegin ends the run before anything is made.
func TestDeliveryThatCannotBegin(t *testing.T) {
	w, c := awaiting(t)
	c.refuses = errors.New("no such address")
	err := w.upWith(c, Options{})
	if !errors.Is(err, c.refuses) || !strings.Contains(err.Error(), "nothing was changed") || len(w.servers()) > 0 {
		t.Errorf("error %v, servers %v", err, w.servers())
	}
}

// TestPushThatFails tells why at once, and does not wait for the host.
func TestPushThatFails(t *testing.T) {
	w, c := awaiting(t)
	fails := errors.New("the key is not known")
	bring := c.push
	c.push = func(host string) error {
		if host == "node-2" {
			return fails
		}
		return bring(host)
	}
	err := w.upWith(c, Options{})
	var host *HostError
	if !errors.As(err, &host) || host.Host != "node-2" || host.Phase != PhaseDeliver || !errors.Is(err, fails) {
		t.Errorf("error %v", err)
	}
}

// site is hosts that run the installer of their user-data, each below a directory of its own.
type site struct {
	dir   string
	power chan struct{} // closed when the hosts may begin
}

func (s site) path(host string) string { return filepath.Join(s.dir, host, "musterd") }

func (s site) prepare(ctx context.Context, host string, userData []byte) error {
	select {
	case <-s.power:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	doc, err := cloudconfig.Parse("user-data", userData)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(doc.WriteFiles, func(f cloudconfig.File) bool { return strings.HasSuffix(f.Path, "/install-musterd") })
	if i < 0 {
		return errors.New("its user-data has no installer")
	}
	cmd := exec.CommandContext(ctx, "sh")
	cmd.Stdin = strings.NewReader(doc.WriteFiles[i].Content)
	cmd.Env = append(os.Environ(), "MUSTERD_PATH="+s.path(host), "no_proxy=*")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestServesMusterd makes hosts that fetch musterd with the real installer from the real server. The run that asks for
// them ends at once; until the next one musterd is built anew, and they get the one that they were told of.
func TestServesMusterd(t *testing.T) {
	if runtime.GOOS != "linux" || cloudconfig.Architecture("x86_64") != runtime.GOARCH && cloudconfig.Architecture("aarch64") != runtime.GOARCH {
		t.Skip("the test's own program is served as musterd, and hosts run Linux on amd64 or arm64")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	w := newCluster(t, 3)
	hosts := site{dir: t.TempDir(), power: make(chan struct{})}
	w.hosts.prepare = hosts.prepare
	musterd := filepath.Join(t.TempDir(), "musterd")
	address := freeAddress(t)
	serve := func(content []byte, o Options) error {
		t.Helper()
		if err := os.WriteFile(musterd, content, 0o755); err != nil {
			t.Fatal(err)
		}
		way := spec.Musterd{Serve: address}
		delivery, err := deliver.New(deliver.Config{Ways: map[string]spec.Musterd{"a": way, "b": way}, Musterd: musterd})
		if err != nil {
			t.Fatal(err)
		}
		d := w.deps(nil)
		d.Musterd = map[string]Musterd{"a": {Downloads: delivery.Downloads("a")}, "b": {Downloads: delivery.Downloads("b")}}
		d.Delivery = delivery
		_, err = Up(t.Context(), d, o)
		return err
	}
	if err := serve(old, Options{NoWait: true}); err != nil {
		t.Fatal(err)
	}
	close(hosts.power)
	if err := serve(append(slices.Clone(old), "new"...), Options{}); err != nil {
		t.Fatalf("%v\n%s", err, w.events)
	}
	w.assertFormed()
	for _, h := range w.spec.Hosts() {
		if got, err := os.ReadFile(hosts.path(h.Name)); err != nil || !bytes.Equal(got, old) {
			t.Errorf("%s has %d bytes, %v", h.Name, len(got), err)
		}
	}
	if left, err := os.Stat(filepath.Join(w.state, "demo", deliveryDir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("copies are left: %v, %v", left, err)
	}
	w.mustDown()
	w.assertNothing()
}

// freeAddress is a loopback address with a port on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
