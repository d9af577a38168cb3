package providers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/providers"
)

func TestRetry(t *testing.T) {
	lost := fmt.Errorf("connection reset: %w", providers.ErrUnavailable)
	policy := providers.RetryPolicy{Initial: time.Second, Max: 8 * time.Second, Elapsed: time.Minute}
	for _, tt := range []struct {
		name  string
		fails int
		err   error
		calls int // 0: more than five
		class string
	}{
		{"success", 0, nil, 1, ""},
		{"throttled twice", 2, providers.ErrThrottled, 3, ""},
		{"lost answers", 4, lost, 5, ""},
		{"quota", 9, providers.ErrQuota, 1, "quota"},
		{"never answers", 1000, lost, 0, "unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := &bare{answer: failTimes(tt.fails, tt.err)}
				began := time.Now()
				p := providers.Retry(inner, policy, slog.New(slog.DiscardHandler))
				_, err := p.Create(t.Context(), providers.CreateRequest{Identity: web1})
				if providers.Class(err) != tt.class {
					t.Errorf("error %v, want class %q", err, tt.class)
				}
				if n := len(inner.calls); n != tt.calls && (tt.calls > 0 || n <= 5) {
					t.Errorf("%d calls, want %d", n, tt.calls)
				}
				if d := time.Since(began); d > policy.Elapsed {
					t.Errorf("tried for %v, longer than %v", d, policy.Elapsed)
				}
			})
		})
	}
}

func TestRetryEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		p := providers.Retry(&bare{answer: failTimes(1000, providers.ErrThrottled)}, providers.RetryPolicy{}, slog.New(slog.DiscardHandler))
		_, err := p.List(ctx, web1.Cluster)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, providers.ErrThrottled) {
			t.Errorf("error %v, want the deadline's alone", err)
		}
		if !strings.Contains(err.Error(), providers.ErrThrottled.Error()) {
			t.Errorf("error %q does not tell the last answer", err)
		}
	})
}

func TestRetryLogsEachRepetition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := providers.Retry(&bare{answer: failTimes(2, providers.ErrThrottled)}, providers.RetryPolicy{}, slog.New(slog.NewTextHandler(&log, nil)))
		if err := p.Destroy(t.Context(), providers.Instance{Identity: web1, ID: "i-1"}); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "call.op=destroy call.host=web-1 call.generation=1 call.instance=i-1 try=1 class=throttled") {
			t.Errorf("log:\n%s", log.String())
		}
	})
}

func TestLimitRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := providers.Limit(new(bare), providers.LimitPolicy{PerSecond: 2, Burst: 3})
		for range 7 { // three at once, then four at two per second
			if _, err := p.List(t.Context(), web1.Cluster); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("seven calls took %v, want 2s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := p.List(ctx, web1.Cluster); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a turn after the deadline: %v", err)
		}
	})
}

func TestLimitConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		entered := 0
		slow := providers.Decorate(new(bare), func(context.Context, providers.Call, func(context.Context) error) error {
			entered++ // one goroutine at a time, the limit sees to it
			<-release
			return nil
		})
		p := providers.Limit(slow, providers.LimitPolicy{Concurrent: 1})
		for range 3 {
			go func() { _, _ = p.List(t.Context(), web1.Cluster) }()
		}
		synctest.Wait()
		if entered != 1 {
			t.Errorf("%d calls under way, want 1", entered)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.List(ctx, web1.Cluster); !errors.Is(err, context.Canceled) {
			t.Errorf("waiting with an ended context: %v", err)
		}
		close(release)
		synctest.Wait()
		if entered != 3 {
			t.Errorf("%d calls made, want 3", entered)
		}
	})
}

func TestDryRun(t *testing.T) {
	inner := new(able)
	recorder := new(providers.Recorder)
	p := providers.DryRun(inner, recorder)
	for op, err := range callAll(t.Context(), p) {
		if err != nil {
			t.Errorf("%s: %v", op, err)
		}
	}
	if want := []providers.Op{providers.OpList, providers.OpCheck}; !slices.Equal(inner.calls, want) {
		t.Errorf("calls that reached the provider: %v, want %v", inner.calls, want)
	}
	var recorded []string
	for _, call := range recorder.Calls() {
		recorded = append(recorded, call.String())
	}
	want := []string{"create web-1/1", "destroy web-1/1", "start web-1/1", "stop web-1/1", "cleanup cluster " + web1.Cluster, "upload image muster_1"}
	if !slices.Equal(recorded, want) {
		t.Errorf("recorded %q, want %q", recorded, want)
	}
	instance, _ := p.Create(t.Context(), providers.CreateRequest{Identity: web1})
	if instance.Identity != web1 || instance.State != providers.StatePending || instance.ID != "" {
		t.Errorf("a create that was not made answers %+v", instance)
	}
}

func TestFaults(t *testing.T) {
	crashes := 0
	crash := func() { crashes++ }
	for _, tt := range []struct {
		name    string
		fault   providers.Fault
		reached bool
		class   string
	}{
		{"before", providers.Fault{Before: providers.ErrThrottled}, false, "throttled"},
		{"lost answer", providers.Fault{After: providers.ErrUnavailable}, true, "unavailable"},
		{"none", providers.Fault{}, true, ""},
		{"crash hooks", providers.Fault{CrashBefore: crash, CrashAfter: crash}, true, ""},
	} {
		for op := range callAll(t.Context(), new(able)) {
			inner := new(able)
			p := providers.Faults(inner, providers.FaultAt(op, 1, tt.fault))
			err := callAll(t.Context(), p)[op]
			if providers.Class(err) != tt.class {
				t.Errorf("%s: %s: %v", tt.name, op, err)
			}
			if reached := slices.Contains(inner.calls, op); reached != tt.reached {
				t.Errorf("%s: %s reached the provider: %v", tt.name, op, reached)
			}
		}
	}
	if crashes != 2*8 {
		t.Errorf("%d crashes, want two for each of eight calls", crashes)
	}
}

func TestFaultEvery(t *testing.T) {
	p := providers.Faults(new(bare), providers.FaultEvery(3, providers.Fault{Before: providers.ErrThrottled}))
	var failed []int
	for n := 1; n <= 7; n++ {
		if _, err := p.List(t.Context(), web1.Cluster); err != nil {
			failed = append(failed, n)
		}
	}
	if !slices.Equal(failed, []int{3, 6}) {
		t.Errorf("calls %v failed, want 3 and 6", failed)
	}
}

func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var events []providers.TraceEvent
		slow := providers.Decorate(new(bare), func(ctx context.Context, _ providers.Call, next func(context.Context) error) error {
			<-time.After(2 * time.Second)
			return errors.Join(next(ctx), providers.ErrQuota)
		})
		handler := slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})
		p := providers.Trace(slow, slog.New(handler), func(e providers.TraceEvent) { events = append(events, e) })
		_, _ = p.Create(t.Context(), providers.CreateRequest{Identity: web1, UserData: []byte("token")})
		if len(events) != 1 || events[0].Duration != 2*time.Second || events[0].Class != "quota" ||
			events[0].Call.String() != "create web-1/1" {
			t.Errorf("events %+v", events)
		}
		if line := log.String(); !strings.Contains(line, "call.host=web-1 call.generation=1 duration=2s class=quota") ||
			strings.Contains(line, "token") {
			t.Errorf("log: %s", line)
		}
	})
}

// TestStackOrder shows what the order is for: a fault is repeated and every try traced, but a dry run sees nothing.
func TestStackOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := new(able)
		var tries int
		options := providers.StackOptions{
			Log:    slog.New(slog.DiscardHandler),
			Limit:  providers.LimitPolicy{Concurrent: 1},
			Trace:  func(providers.TraceEvent) { tries++ },
			Faults: providers.FaultAt(providers.OpCreate, 1, providers.Fault{After: providers.ErrUnavailable}),
		}
		if _, err := providers.Stack(inner, options).Create(t.Context(), providers.CreateRequest{Identity: web1}); err != nil {
			t.Fatal(err)
		}
		if len(inner.calls) != 2 || tries != 2 {
			t.Errorf("%d calls and %d tries traced, want 2 and 2", len(inner.calls), tries)
		}
		options.DryRun = new(providers.Recorder)
		if _, err := providers.Stack(inner, options).Create(t.Context(), providers.CreateRequest{Identity: web1}); err != nil {
			t.Fatal(err)
		}
		if len(inner.calls) != 2 || tries != 2 {
			t.Errorf("a dry run made calls: %v", inner.calls)
		}
	})
}

func TestClass(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("odd"), "unknown"},
		{fmt.Errorf("cannot create: %w", providers.ErrConflict), "conflict"},
		{fmt.Errorf("cannot create: %w", context.Canceled), "canceled"},
		{providers.ErrNotFound, "not-found"},
		{providers.ErrAuth, "auth"},
		{providers.ErrInvalid, "invalid"},
		{context.DeadlineExceeded, "timeout"},
		{errors.ErrUnsupported, "unsupported"},
	} {
		if got := providers.Class(tt.err); got != tt.want {
			t.Errorf("Class(%v) = %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestIdentityValidate(t *testing.T) {
	change := func(f func(*providers.Identity)) providers.Identity {
		id := web1
		f(&id)
		return id
	}
	for _, tt := range []struct {
		name string
		id   providers.Identity
		ok   bool
	}{
		{"good", web1, true},
		{"empty", providers.Identity{}, false},
		{"cluster is a path", change(func(id *providers.Identity) { id.Cluster = "../" + web1.Cluster[3:] }), false},
		{"host is a path", change(func(id *providers.Identity) { id.Host = "../web" }), false},
		{"host with a capital", change(func(id *providers.Identity) { id.Host = "Web" }), false},
		{"host ends with a hyphen", change(func(id *providers.Identity) { id.Host = "web-" }), false},
		{"host of 63 letters", change(func(id *providers.Identity) { id.Host = strings.Repeat("a", 63) }), true},
		{"host of 64 letters", change(func(id *providers.Identity) { id.Host = strings.Repeat("a", 64) }), false},
		{"generation 0", change(func(id *providers.Identity) { id.Generation = 0 }), false},
	} {
		if err := tt.id.Validate(); (err == nil) != tt.ok || err != nil && !errors.Is(err, providers.ErrInvalid) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestImageValidate(t *testing.T) {
	change := func(f func(*providers.Image)) providers.Image {
		image := muster1
		f(&image)
		return image
	}
	for _, tt := range []struct {
		name  string
		image providers.Image
		ok    bool
	}{
		{"good", muster1, true},
		{"empty", providers.Image{}, false},
		{"name is a path", change(func(i *providers.Image) { i.Name = "../muster" }), false},
		{"name is hidden", change(func(i *providers.Image) { i.Name = ".muster" }), false},
		{"name of 64 letters", change(func(i *providers.Image) { i.Name = strings.Repeat("a", 64) }), true},
		{"name of 65 letters", change(func(i *providers.Image) { i.Name = strings.Repeat("a", 65) }), false},
		{"sum in capitals", change(func(i *providers.Image) { i.SHA256 = strings.Repeat("A", 64) }), false},
		{"no file", change(func(i *providers.Image) { i.Path = "" }), false},
	} {
		if err := tt.image.Validate(); (err == nil) != tt.ok || err != nil && !errors.Is(err, providers.ErrInvalid) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestIdentityTagsRoundTrip(t *testing.T) {
	if id, ok := providers.IdentityFromTags(web1.Tags()); !ok || id != web1 {
		t.Errorf("round trip gives %+v, %v", id, ok)
	}
	for _, tag := range []string{providers.TagCluster, providers.TagHost, providers.TagGeneration} {
		tags := web1.Tags()
		delete(tags, tag)
		if _, ok := providers.IdentityFromTags(tags); ok {
			t.Errorf("an identity without %s", tag)
		}
	}
}

func TestRegistryLookup(t *testing.T) {
	registry := providers.NewRegistry(providers.Driver{Name: "local"}, providers.Driver{Name: "fake"})
	if d, err := registry.Lookup("fake"); err != nil || d.Name != "fake" {
		t.Errorf("Lookup(fake) = %v, %v", d.Name, err)
	}
	_, err := registry.Lookup("locl")
	if err == nil || !strings.Contains(err.Error(), "[fake local]") || !strings.Contains(err.Error(), "did you mean `local`?") {
		t.Errorf("Lookup(locl): %v", err)
	}
}
