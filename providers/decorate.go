package providers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// Op is a kind of call to a provider.
type Op string

// The calls that a provider may answer.
const (
	OpCreate  Op = "create"
	OpList    Op = "list"
	OpDestroy Op = "destroy"
	OpStart   Op = "start"
	OpStop    Op = "stop"
	OpCleanup Op = "cleanup"
	OpCheck   Op = "check"
	OpUpload  Op = "upload"
)

// Writes tells whether the call may change something at the provider.
func (o Op) Writes() bool { return o != OpList && o != OpCheck }

// Call describes one call to a provider: what is asked, not how it went.
type Call struct {
	Op       Op
	Identity Identity // List and Cleanup know the cluster alone, Check and Upload nothing
	Instance string   // the provider's identifier, for Destroy, Start and Stop
	Image    string   // the image's name, for Upload
}

// String renders "create web-1/2": host and generation, or the cluster or the image where there is no host.
func (c Call) String() string {
	switch {
	case c.Identity.Host != "":
		return fmt.Sprintf("%s %s/%d", c.Op, c.Identity.Host, c.Identity.Generation)
	case c.Identity.Cluster != "":
		return fmt.Sprintf("%s cluster %s", c.Op, c.Identity.Cluster)
	case c.Image != "":
		return fmt.Sprintf("%s image %s", c.Op, c.Image)
	default:
		return string(c.Op)
	}
}

// LogValue groups what is known of the call.
func (c Call) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("op", string(c.Op))}
	if c.Identity.Host != "" {
		attrs = append(attrs, slog.String("host", c.Identity.Host), slog.Int("generation", c.Identity.Generation))
	}
	if c.Instance != "" {
		attrs = append(attrs, slog.String("instance", c.Instance))
	}
	if c.Image != "" {
		attrs = append(attrs, slog.String("image", c.Image))
	}
	return slog.GroupValue(attrs...)
}

// Interceptor stands around every call to a provider. It may call next never, once or several times, and what it
// returns is what the caller sees. When it returns nil without having called next, Create answers a pending instance
// without an identifier, List an empty list and UploadImage no reference.
type Interceptor func(ctx context.Context, call Call, next func(context.Context) error) error

// Decorate puts an interceptor around p. The result has the optional abilities of p, as As sees them.
func Decorate(p Provider, around Interceptor) Provider {
	return &decorated{inner: p, around: around}
}

// decorated implements every optional interface; whether it has the ability is for As to say, which asks the provider
// at the core.
type decorated struct {
	inner  Provider
	around Interceptor
}

// Unwrap returns the provider inside, for As.
func (d *decorated) Unwrap() Provider { return d.inner }

func (d *decorated) Create(ctx context.Context, req CreateRequest) (Instance, error) {
	made := Instance{Identity: req.Identity, State: StatePending}
	err := d.around(ctx, Call{Op: OpCreate, Identity: req.Identity}, func(ctx context.Context) (err error) {
		made, err = d.inner.Create(ctx, req)
		return err
	})
	if err != nil {
		return Instance{}, err
	}
	return made, nil
}

func (d *decorated) List(ctx context.Context, cluster string) ([]Instance, error) {
	var list []Instance
	call := Call{Op: OpList, Identity: Identity{Cluster: cluster}}
	err := d.around(ctx, call, func(ctx context.Context) (err error) {
		list, err = d.inner.List(ctx, cluster)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (d *decorated) Destroy(ctx context.Context, instance Instance) error {
	call := Call{Op: OpDestroy, Identity: instance.Identity, Instance: instance.ID}
	return d.around(ctx, call, func(ctx context.Context) error { return d.inner.Destroy(ctx, instance) })
}

func (d *decorated) Start(ctx context.Context, instance Instance) error {
	call := Call{Op: OpStart, Identity: instance.Identity, Instance: instance.ID}
	return optional(ctx, d, call, func(ctx context.Context, s Starter) error { return s.Start(ctx, instance) })
}

func (d *decorated) Stop(ctx context.Context, instance Instance) error {
	call := Call{Op: OpStop, Identity: instance.Identity, Instance: instance.ID}
	return optional(ctx, d, call, func(ctx context.Context, s Stopper) error { return s.Stop(ctx, instance) })
}

func (d *decorated) Cleanup(ctx context.Context, cluster string) error {
	call := Call{Op: OpCleanup, Identity: Identity{Cluster: cluster}}
	return optional(ctx, d, call, func(ctx context.Context, c Cleaner) error { return c.Cleanup(ctx, cluster) })
}

func (d *decorated) Check(ctx context.Context, settings []any) error {
	return optional(ctx, d, Call{Op: OpCheck}, func(ctx context.Context, c Checker) error {
		return c.Check(ctx, settings)
	})
}

func (d *decorated) UploadImage(ctx context.Context, image Image, progress func(bytes int64)) (reference string, err error) {
	err = optional(ctx, d, Call{Op: OpUpload, Image: image.Name}, func(ctx context.Context, t ImageTaker) (err error) {
		reference, err = t.UploadImage(ctx, image, progress)
		return err
	})
	if err != nil {
		return "", err
	}
	return reference, nil
}

// optional makes a call that needs ability T of the provider inside.
func optional[T any](ctx context.Context, d *decorated, call Call, do func(context.Context, T) error) error {
	able, ok := As[T](d.inner)
	if !ok {
		return fmt.Errorf("cannot %s: the provider has no such ability: %w", call, errors.ErrUnsupported)
	}
	return d.around(ctx, call, func(ctx context.Context) error { return do(ctx, able) })
}
