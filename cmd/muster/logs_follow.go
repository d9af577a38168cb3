package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// followLog follows the log of a unit from host to host, as the unit moves. A unit that is on several hosts is followed on
// one of them, which the cluster chooses.
func (c *cli) followLog(parent context.Context, f fleet, name string, o api.LogOptions, w io.Writer) error {
	if o.Host != "" {
		return f.Logs(parent, name, o, w)
	}
	s, err := f.Status(parent)
	if err != nil {
		return err
	}
	hosts := hostsWithLog(s, name)
	if len(hosts) != 1 {
		return f.Logs(parent, name, o, w)
	}
	ctx, cancel := context.WithCancel(parent)
	l := &logFollower{fleet: f, name: name, hosts: hosts, statuses: make(chan api.Status), watch: make(chan error, 1)}
	var watching sync.WaitGroup
	watching.Go(func() { l.watch <- follow(ctx, f, l.statuses) })
	defer watching.Wait()
	defer cancel()
	for o.Host = hosts[0]; ; {
		moved, err := l.show(ctx, o, w)
		if ctx.Err() != nil || !moved && !brokeOff(err) {
			return err
		}
		left := c.now()
		if err := l.await(ctx); err != nil {
			return err
		}
		if l.hosts[0] != o.Host {
			fmt.Fprintf(c.err, "muster: %s is on %s now\n", name, l.hosts[0])
		}
		o.Host, o.Lines, o.Since = l.hosts[0], -1, left.Add(-clocksApart)
	}
}

// logFollower knows where a unit is while its log is followed.
type logFollower struct {
	fleet
	name     string
	hosts    []string // that have the unit, as was seen last
	statuses chan api.Status
	watch    chan error
}

// clocksApart is how far a host's clock may be behind this machine's without a line of a unit that has moved being missed.
const clocksApart = 5 * time.Second

// brokeOff says whether a log ended for a reason that does not last: its host is gone, or has not got the unit yet.
func brokeOff(err error) bool {
	var answer *api.Error
	return err != nil && !errors.Is(err, context.Canceled) && (!errors.As(err, &answer) || answer.Status != 400 && answer.Status != 403)
}

// hostsWithLog are the hosts that have a unit and tell of it.
func hostsWithLog(s api.Status, name string) []string {
	var hosts []string
	for _, e := range entriesOf(s)[name] {
		silent := e.State == api.UnitUnknown || e.State == api.UnitStopping || e.State == api.UnitPending
		if e.Host != "" && !silent {
			hosts = append(hosts, e.Host)
		}
	}
	return hosts
}

// show follows the log on one host until the unit is on another one and not there any more.
func (l *logFollower) show(parent context.Context, o api.LogOptions, w io.Writer) (moved bool, err error) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.Logs(ctx, l.name, o, w) }()
	for {
		select {
		case err := <-ended:
			return false, err
		case s := <-l.statuses:
			if l.hosts = hostsWithLog(s, l.name); len(l.hosts) > 0 && !slices.Contains(l.hosts, o.Host) {
				cancel()
				return true, <-ended
			}
		}
	}
}

// await waits a moment, and then until some host has the unit.
func (l *logFollower) await(ctx context.Context) error {
	rest := time.NewTimer(watchPause)
	defer rest.Stop()
	for rested := false; !rested || len(l.hosts) == 0; {
		select {
		case s := <-l.statuses:
			l.hosts = hostsWithLog(s, l.name)
		case <-rest.C:
			rested = true
		case err := <-l.watch:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
