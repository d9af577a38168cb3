package deliver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

// Config is what a Delivery works with.
type Config struct {
	Ways        map[string]spec.Musterd       // by provider: how its hosts get musterd
	Musterd     string                        // path of the musterd beside muster, see Binaries
	Consoles    map[string]providers.Consoler // by provider, of those that keep what hosts say
	Home        string                        // the operator's home directory
	AgentSocket string                        // of the SSH agent, "" without one
	Log         *slog.Logger                  // nil discards
}

// Delivery brings musterd to the hosts of one cluster. Between Open and Close it serves, and pushes.
type Delivery struct {
	config       Config
	log          *slog.Logger
	binaries     []Binary
	target       string        // where musterd belongs on a host
	firstPause   time.Duration // between attempts
	consolePause time.Duration // between looks at a console

	copies  copies
	servers []*server
	logins  map[string]*login // by provider
}

// New reads the musterds that are to be served or pushed, if any is.
func New(c Config) (*Delivery, error) {
	d := &Delivery{
		config: c, log: cmp.Or(c.Log, slog.New(slog.DiscardHandler)), target: cloudconfig.MusterdPath,
		firstPause: 250 * time.Millisecond, consolePause: 10 * time.Second, logins: make(map[string]*login),
	}
	if !d.needed() {
		return d, nil
	}
	var err error
	d.binaries, err = Binaries(c.Musterd)
	return d, err
}

// needed reports whether this machine has a part in it.
func (d *Delivery) needed() bool {
	return len(d.addresses()) > 0 || slices.ContainsFunc(slices.Collect(maps.Values(d.config.Ways)), func(m spec.Musterd) bool {
		return m.Push != nil
	})
}

// addresses are where musterd is served, sorted.
func (d *Delivery) addresses() []string {
	var all []string
	for _, way := range d.config.Ways {
		if way.Serve != "" {
			all = append(all, way.Serve)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Downloads is where the hosts of a provider fetch musterd; none when they do not.
func (d *Delivery) Downloads(provider string) []cloudconfig.Download {
	way := d.config.Ways[provider]
	if way.Serve == "" {
		return way.Fetch
	}
	downloads := make([]cloudconfig.Download, len(d.binaries))
	for i, b := range d.binaries {
		downloads[i] = cloudconfig.Download{Architecture: b.Architecture, SHA256: b.SHA256, URLs: []string{urlOf(way.Serve, b.SHA256)}}
	}
	return downloads
}

// Open begins to serve, and makes ready to push. dir is for copies, in the state directory of the cluster; unfinished is
// the user-data of every host that was asked for and has not joined. What would keep hosts from getting musterd is an
// error: nothing has to be made to find out.
func (d *Delivery) Open(ctx context.Context, dir string, unfinished [][]byte) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop())
		}
	}()
	d.copies = copies(dir)
	for _, b := range d.binaries {
		if err := d.copies.add(b); err != nil {
			return err
		}
	}
	addresses := d.addresses()
	if err := d.copies.check(unfinished, addresses); err != nil {
		return err
	}
	for _, address := range addresses {
		l, err := listen(ctx, address)
		if err != nil {
			return err
		}
		d.servers = append(d.servers, serve(l, d.copies, d.log))
	}
	for _, provider := range slices.Sorted(maps.Keys(d.config.Ways)) {
		way := d.config.Ways[provider]
		if way.Push == nil {
			continue
		}
		if d.logins[provider], err = openLogin(*way.Push, d.config.Home, d.config.AgentSocket); err != nil {
			delete(d.logins, provider)
			return fmt.Errorf("cannot bring musterd to hosts of provider %s: %w", provider, err)
		}
	}
	return nil
}

// Close ends serving, and forgets the copies that no unfinished host was told of. No Push runs any more.
func (d *Delivery) Close(unfinished [][]byte) error {
	return errors.Join(d.stop(), d.copies.prune(unfinished))
}

func (d *Delivery) stop() error {
	var errs []error
	for _, s := range d.servers {
		errs = append(errs, s.close())
	}
	for _, l := range d.logins {
		errs = append(errs, l.close())
	}
	d.servers = nil
	clear(d.logins)
	return errors.Join(errs...)
}

func addrPort(i providers.Instance, port int) netip.AddrPort {
	return netip.AddrPortFrom(i.Addresses[0].Unmap(), uint16(port))
}
