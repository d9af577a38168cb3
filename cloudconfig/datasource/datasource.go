package datasource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/musterhq/muster/cloudconfig"
)

// Data is what a source knows of this host. Everything but InstanceID may be missing.
type Data struct {
	Source     string // name of the source
	InstanceID string // changes when the machine is made anew
	Hostname   string
	UserData   []byte   // as given: see cloudconfig.Open
	SSHKeys    []string // for the image's own account
	Addresses  cloudconfig.Addresses
}

// ErrNotHere says that a source is not present on this machine.
var ErrNotHere = errors.New("the data source is not here")

// Source is one place to look. Fetch returns ErrNotHere quickly when the machine has no such place, and ends with ctx.
type Source interface {
	Name() string
	Fetch(ctx context.Context) (Data, error)
}

// Sources are all sources of a machine in the order in which they count.
func Sources(m Machine) []Source {
	return []Source{CommandLine{m}, NoCloudNet{m}, Seed{m}, NoCloud{m}, ConfigDrive{m}, VMware{m}, EC2{Machine: m}}
}

// interval is how long Detect waits before it looks again.
const interval = 500 * time.Millisecond

// Detect returns the data of the first source that is here. While none is, it looks again until wait has passed, for disks
// that the kernel has not found yet; then the error is ErrNotHere.
func Detect(ctx context.Context, log *slog.Logger, wait time.Duration, sources ...Source) (Data, error) {
	again := time.NewTicker(interval)
	defer again.Stop()
	late := time.NewTimer(wait)
	defer late.Stop()
	for {
		data, err := round(ctx, sources)
		if !errors.Is(err, ErrNotHere) {
			if err == nil {
				log.Info("found the data source", "source", data.Source, "instance", data.InstanceID, "user_data_bytes", len(data.UserData))
			}
			return data, err
		}
		select {
		case <-late.C:
			return Data{}, err
		case <-ctx.Done():
			return Data{}, ctx.Err()
		case <-again.C:
		}
	}
}

// round asks every source once, all at the same time, and ends those that no longer matter.
func round(ctx context.Context, sources []Source) (Data, error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	type answer struct {
		data Data
		err  error
	}
	answers := make([]chan answer, len(sources))
	for i, s := range sources {
		answers[i] = make(chan answer, 1)
		running.Go(func() {
			data, err := s.Fetch(ctx)
			answers[i] <- answer{data, err}
		})
	}
	for i, s := range sources {
		var a answer
		select {
		case a = <-answers[i]:
		case <-ctx.Done():
			return Data{}, ctx.Err()
		}
		switch {
		case errors.Is(a.err, ErrNotHere):
			continue
		case a.err != nil:
			return Data{}, fmt.Errorf("cannot read the data source %s: %w", s.Name(), a.err)
		}
		a.data.Source = s.Name()
		return a.data, nil
	}
	return Data{}, ErrNotHere
}
