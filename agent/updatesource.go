package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/cluster/store"
)

// releases is update.Source over a repository of releases.
type releases struct {
	*updater
	client  *release.Client
	channel string
	engine  string

	mu   sync.Mutex
	last release.Release // that was offered
}

// defaultChannel is the channel of hosts whose cluster file names none.
const defaultChannel = "stable"

func (u *updater) newSource(s store.UpdateSettings, engine string) (update.Source, error) {
	client, err := release.New(release.Config{
		Mirrors: s.Source, Root: s.Root, Dir: filepath.Join(u.host.root, updateTrustPath), Log: u.log,
	})
	if err != nil {
		return nil, err
	}
	r := &releases{updater: u, client: client, channel: s.Channel, engine: engine}
	if r.channel == "" {
		r.channel = defaultChannel
	}
	return r, nil
}

// Offer implements update.Source. Metadata that has expired, or is older than what this host has seen, is an error of the
// client's; so what it offers may be booted now.
func (r *releases) Offer(ctx context.Context) (update.Offer, time.Time, error) {
	r.updater.mu.Lock()
	record, version := r.record, r.state.Booted
	id := ""
	if r.agent != nil {
		id = r.agent.self.ID
	}
	r.updater.mu.Unlock()
	retry := wanted(record, id)
	is, err := r.client.Check(ctx, release.Host{
		Version: version, Channel: r.channel, Engine: r.engine, Arch: goruntime.GOARCH, Pin: record.Pin,
	})
	if errors.Is(err, release.ErrNoRelease) {
		return update.Offer{}, retry, nil
	}
	if err != nil {
		return update.Offer{}, retry, err
	}
	r.mu.Lock()
	r.last = is
	r.mu.Unlock()
	o := update.Offer{Version: is.Version}
	for _, f := range is.Contents {
		o.Files = append(o.Files, update.File{Name: f.Name, Size: f.Size, SHA256: f.SHA256})
	}
	return o, retry, nil
}

// Fetch implements update.Source. What older releases left is removed first.
func (r *releases) Fetch(ctx context.Context, o update.Offer, dir string) ([]update.File, error) {
	r.mu.Lock()
	is := r.last
	r.mu.Unlock()
	if is.Version != o.Version {
		if _, _, err := r.Offer(ctx); err != nil {
			return nil, err
		}
		r.mu.Lock()
		is = r.last
		r.mu.Unlock()
		if is.Version != o.Version {
			return nil, errors.New("release " + o.Version + " is not offered any more")
		}
	}
	own := filepath.Join(dir, o.Version)
	others, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, path := range others {
		if path != own {
			_ = os.RemoveAll(path)
		}
	}
	fetched, err := r.client.Fetch(ctx, is, own)
	var files []update.File
	for _, f := range fetched {
		files = append(files, update.File(f))
	}
	return files, err
}
