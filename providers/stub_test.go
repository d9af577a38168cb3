package providers_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/musterhq/muster/providers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var web1 = providers.Identity{Cluster: "6f1c3b6e-0f43-4a53-9f36-25c3d5a0a001", Host: "web-1", Generation: 1}

var muster1 = providers.Image{Name: "muster_1", Path: "muster_1.raw", SHA256: strings.Repeat("0", 64)}

// bare is a provider without optional abilities that counts its calls and answers what answer says.
type bare struct {
	mu     sync.Mutex
	calls  []providers.Op
	answer func(call int) error // by number of the call, from 1; nil: always well
}

func (b *bare) called(op providers.Op) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, op)
	if b.answer == nil {
		return nil
	}
	return b.answer(len(b.calls))
}

func (b *bare) Create(_ context.Context, req providers.CreateRequest) (providers.Instance, error) {
	return providers.Instance{Identity: req.Identity, ID: "i-1", State: providers.StateRunning}, b.called(providers.OpCreate)
}

func (b *bare) List(context.Context, string) ([]providers.Instance, error) {
	return []providers.Instance{{Identity: web1, ID: "i-1"}}, b.called(providers.OpList)
}

func (b *bare) Destroy(context.Context, providers.Instance) error {
	return b.called(providers.OpDestroy)
}

// able has every optional ability and one of its own.
type able struct{ bare }

func (a *able) Start(context.Context, providers.Instance) error { return a.called(providers.OpStart) }

func (a *able) Stop(context.Context, providers.Instance) error { return a.called(providers.OpStop) }

func (a *able) Cleanup(context.Context, string) error { return a.called(providers.OpCleanup) }

func (a *able) Check(context.Context, []any) error { return a.called(providers.OpCheck) }

func (a *able) UploadImage(context.Context, providers.Image, func(int64)) (string, error) {
	return "image-1", a.called(providers.OpUpload)
}

func (a *able) Special() string { return "special" }

// failTimes answers err to the first n calls.
func failTimes(n int, err error) func(int) error {
	return func(call int) error {
		if call <= n {
			return err
		}
		return nil
	}
}

// decorators is each decorator at work around p without getting in the way.
func decorators(p providers.Provider) map[string]providers.Provider {
	log := slog.New(slog.DiscardHandler)
	return map[string]providers.Provider{
		"retry":   providers.Retry(p, providers.RetryPolicy{}, log),
		"limit":   providers.Limit(p, providers.LimitPolicy{PerSecond: 1e6, Burst: 10, Concurrent: 2}),
		"dry run": providers.DryRun(p, new(providers.Recorder)),
		"faults":  providers.Faults(p, func(providers.Call) providers.Fault { return providers.Fault{} }),
		"trace":   providers.Trace(p, log, nil),
		"stack": providers.Stack(p, providers.StackOptions{
			Log: log, DryRun: new(providers.Recorder), Limit: providers.LimitPolicy{Concurrent: 1},
			Faults: func(providers.Call) providers.Fault { return providers.Fault{} },
		}),
	}
}

func TestDecoratorsKeepAbilities(t *testing.T) {
	for name, p := range decorators(new(able)) {
		if _, ok := providers.As[providers.Starter](p); !ok {
			t.Errorf("%s hides Starter", name)
		}
		if _, ok := providers.As[providers.Stopper](p); !ok {
			t.Errorf("%s hides Stopper", name)
		}
		if _, ok := providers.As[providers.Cleaner](p); !ok {
			t.Errorf("%s hides Cleaner", name)
		}
		if _, ok := providers.As[providers.Checker](p); !ok {
			t.Errorf("%s hides Checker", name)
		}
		if _, ok := providers.As[providers.ImageTaker](p); !ok {
			t.Errorf("%s hides ImageTaker", name)
		}
		if s, ok := providers.As[interface{ Special() string }](p); !ok || s.Special() != "special" {
			t.Errorf("%s hides the driver's own ability", name)
		}
	}
}

func TestDecoratorsInventNoAbilities(t *testing.T) {
	ctx := t.Context()
	for name, p := range decorators(new(bare)) {
		if _, ok := providers.As[providers.Starter](p); ok {
			t.Errorf("%s invents Starter", name)
		}
		if err := providers.Start(ctx, p, providers.Instance{Identity: web1}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: Start: %v", name, err)
		}
		if err := p.(providers.Starter).Start(ctx, providers.Instance{}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: Start past As: %v", name, err)
		}
		if err := providers.Stop(ctx, p, providers.Instance{Identity: web1}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: Stop: %v", name, err)
		}
		if err := p.(providers.Stopper).Stop(ctx, providers.Instance{}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: Stop past As: %v", name, err)
		}
		if _, err := p.(providers.ImageTaker).UploadImage(ctx, muster1, nil); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: UploadImage past As: %v", name, err)
		}
		if err := errors.Join(providers.Check(ctx, p, nil), providers.Cleanup(ctx, p, web1.Cluster)); err != nil {
			t.Errorf("%s: a provider without checks and clean-up fails them: %v", name, err)
		}
	}
}

// callAll makes every call once and returns the errors by call.
func callAll(ctx context.Context, p providers.Provider) map[providers.Op]error {
	instance := providers.Instance{Identity: web1, ID: "i-1"}
	errs := map[providers.Op]error{}
	_, errs[providers.OpCreate] = p.Create(ctx, providers.CreateRequest{Identity: web1})
	_, errs[providers.OpList] = p.List(ctx, web1.Cluster)
	errs[providers.OpDestroy] = p.Destroy(ctx, instance)
	errs[providers.OpStart] = providers.Start(ctx, p, instance)
	errs[providers.OpStop] = providers.Stop(ctx, p, instance)
	errs[providers.OpCleanup] = providers.Cleanup(ctx, p, web1.Cluster)
	errs[providers.OpCheck] = providers.Check(ctx, p, nil)
	if taker, ok := providers.As[providers.ImageTaker](p); ok {
		_, errs[providers.OpUpload] = taker.UploadImage(ctx, muster1, nil)
	}
	return errs
}
