package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/journal"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// logReader finds what a unit printed: here, or at the host that runs it. Only voters may ask other hosts.
type logReader struct {
	runtime runtime.Runtime
	host    string        // name of this one
	control *tls.Config   // a voter's privileged client; nil on hosts that do not vote
	readers chan struct{} // as many as may read at once here
}

// maxReaders is how many read units' logs here at once. Each may have a journalctl.
const maxReaders = 64

func newLogReader(rt runtime.Runtime, host string) logReader {
	return logReader{runtime: rt, host: host, readers: make(chan struct{}, maxReaders)}
}

// Logs copies what a unit printed to w. With o.Host it is this host's own affair if it is named; the host that a voter
// asks is always named, so that a question travels once.
func (s *service) Logs(ctx context.Context, name string, o api.LogOptions, w io.Writer) error {
	if err := unitfile.CheckName(name); err != nil {
		return api.Errorf(http.StatusBadRequest, "see `muster units`", "%v", err)
	}
	if _, err := journal.ParseFormat(o.Output); err != nil {
		return api.Errorf(http.StatusBadRequest, "see `muster logs --help`", "%v", err)
	}
	if _, err := journal.ParseLevels(o.Priority); err != nil {
		return api.Errorf(http.StatusBadRequest, "see `muster logs --help`", "%v", err)
	}
	if o.Host == s.self.Host {
		return s.logs.local(ctx, name, o, w)
	}
	host, err := s.locate(ctx, name, o.Host)
	if err != nil {
		return err
	}
	if host.ID == s.self.ID {
		return s.logs.local(ctx, name, o, w)
	}
	return s.logs.remote(ctx, host, name, o, w)
}

// locate chooses the host whose logs to show: the one asked for, else this one, else any, live ones first.
func (s *service) locate(ctx context.Context, name, wanted string) (roster.Host, error) {
	v, _, _, err := s.read(ctx, []string{store.PrefixSchedule, store.PrefixUnits, store.PrefixAlive, store.PrefixRoster})
	if err != nil {
		return roster.Host{}, err
	}
	hosts := v.HostsOf(name)
	switch _, known := v.Units[name]; {
	case !known && len(hosts) == 0:
		return roster.Host{}, errNoUnit(name)
	case wanted != "":
		if h, ok := v.Members().ByName(wanted); ok {
			return h, nil
		}
		return roster.Host{}, api.Errorf(http.StatusNotFound, "`muster hosts` lists them", "there is no host %s", wanted)
	case len(hosts) == 0:
		return roster.Host{}, api.Errorf(http.StatusConflict, "`muster why "+name+"` tells why", "unit %s is on no host", name)
	}
	rank := func(h roster.Host) int {
		switch {
		case h.ID == s.self.ID:
			return 0
		case v.Ready(h.ID):
			return 1
		}
		return 2
	}
	slices.SortStableFunc(hosts, func(a, b roster.Host) int { return rank(a) - rank(b) })
	return hosts[0], nil
}

func (l logReader) local(ctx context.Context, name string, o api.LogOptions, w io.Writer) error {
	units, err := l.runtime.List(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(units, func(u runtime.Status) bool { return u.Name == name }) {
		return api.Errorf(http.StatusNotFound, "`muster status` tells where it is", "unit %s is not on this host", name)
	}
	select {
	case l.readers <- struct{}{}:
		defer func() { <-l.readers }()
	default:
		return api.Errorf(http.StatusTooManyRequests, "end some of them (`muster logs -f`)",
			"%d readers of logs are on host %s already", maxReaders, l.host)
	}
	if _, err := w.Write(nil); err != nil {
		return err
	}
	return l.show(ctx, name, o, w)
}

// show writes the log of a unit of this host, in batches, as fast as they are read: what waits is the journal's reader,
// never what writes to the journal.
func (l logReader) show(ctx context.Context, name string, o api.LogOptions, w io.Writer) error {
	format, err := journal.ParseFormat(o.Output)
	if err != nil {
		return err
	}
	levels, err := journal.ParseLevels(o.Priority)
	if err != nil {
		return err
	}
	out := journal.Writer{W: w, Format: format, Host: l.host, Unit: name, Zone: time.Local}
	q := runtime.LogQuery{Lines: o.Lines, Since: o.Since, Levels: levels, System: format != journal.Cat, Follow: o.Follow}
	return l.runtime.Logs(ctx, name, q, out.Write)
}

func (l logReader) remote(ctx context.Context, h roster.Host, name string, o api.LogOptions, w io.Writer) error {
	if l.control == nil {
		return api.Errorf(http.StatusMisdirectedRequest, "ask a voter", "unit %s is on host %s, whose logs this host may not read",
			name, h.Name)
	}
	c := api.NewClient([]api.Endpoint{{Name: h.Name, Address: h.APIAddress()}}, l.control)
	defer c.Close()
	o.Host = h.Name
	err := c.Logs(ctx, name, o, w)
	var answer *api.Error
	if errors.As(err, &answer) && answer.Status == http.StatusServiceUnavailable {
		// The caller is not to try other voters for that, or to wait.
		return api.Errorf(http.StatusBadGateway, "`muster status` tells how the host is",
			"host %s, which has unit %s, does not answer: %s", h.Name, name, answer.Message)
	}
	return err
}
