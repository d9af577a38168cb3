package ec2

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/ec2/ec2test"
)

// pipes is a network in memory, on which a test's clock may be synctest's.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.ended)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inMinutes runs a test in an account that takes EC2's own time, with the driver's own timing and muster's own retries.
func inMinutes(t *testing.T, options ec2test.Options, test func(t *testing.T, a *account, open func() providers.Provider)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		options.Policy = policyJSON
		cloud, err := ec2test.New(options)
		if err != nil {
			t.Fatal(err)
		}
		network := &pipes{conns: make(chan net.Conn), ended: make(chan struct{})}
		server := &http.Server{Handler: cloud}
		var served error
		done := make(chan struct{})
		go func() {
			defer close(done)
			served = server.Serve(network)
		}()
		transport := &http.Transport{DialContext: network.dial}
		a := &account{Cloud: cloud, url: "http://ec2.test", dir: dir, timing: defaultTiming}
		test(t, a, func() providers.Provider {
			p := a.open(t)
			p.http, p.pace.rate = &http.Client{Transport: transport}, refill
			return providers.Retry(p, providers.DefaultRetry, slog.New(slog.DiscardHandler))
		})
		transport.CloseIdleConnections()
		_ = server.Close()
		if <-done; !errors.Is(served, http.ErrServerClosed) {
			t.Error(served)
		}
	})
}

// TestListsThatAreAMinuteBehind makes and ends a fleet in an account whose lists hide everything for a minute and lose
// the answers of what is made, by a new process each time.
func TestListsThatAreAMinuteBehind(t *testing.T) {
	options := ec2test.Options{
		Hidden: time.Minute, HideCalls: true, Lag: 5 * time.Second, BootTime: 20 * time.Second, EndTime: 45 * time.Second,
		Latency: 300 * time.Millisecond, Faults: everyWrite(2, ec2test.Fault{Lost: true}),
	}
	inMinutes(t, options, func(t *testing.T, a *account, open func() providers.Provider) {
		began := time.Now()
		for range 3 {
			for _, req := range fleet() {
				mustCreate(t, open(), req)
			}
		}
		if got := a.kinds(); !maps.Equal(got, whole) {
			t.Errorf("there are %v, want %v", got, whole)
		}
		t.Logf("made in %v", time.Since(began))
		p := open()
		for _, req := range fleet() {
			if err := p.Destroy(t.Context(), mustCreate(t, open(), req)); err != nil {
				t.Fatal(err)
			}
		}
		if err := providers.Cleanup(t.Context(), p, cluster); err != nil {
			t.Fatal(err)
		}
		if left := a.leftovers(""); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		t.Logf("all in %v, %d calls", time.Since(began), len(a.Calls()))
	})
}

// TestWhatCreateAnsweredIsListed asks for the list at once, which EC2 does not show the host in.
func TestWhatCreateAnsweredIsListed(t *testing.T) {
	inMinutes(t, ec2test.Options{Hidden: time.Minute}, func(t *testing.T, a *account, open func() providers.Provider) {
		p := open()
		made := mustCreate(t, p, request("web-1", tiny(private)))
		for range 30 {
			list, err := p.List(t.Context(), cluster)
			if err != nil || len(list) != 1 || list[0].ID != made.ID {
				t.Fatalf("listed %v: %v", list, err)
			}
			if err := providers.Pause(t.Context(), 10*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		a.Terminate(made.ID)
		if list, err := p.List(t.Context(), cluster); err != nil || len(list) != 0 {
			t.Errorf("listed %v after the end: %v", list, err)
		}
	})
}
