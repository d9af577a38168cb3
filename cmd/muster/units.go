package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

// fleet is what the verbs ask of a running cluster; *api.Client is one.
type fleet interface {
	Status(ctx context.Context) (api.Status, error)
	WatchStatus(ctx context.Context, yield func(api.Status) bool) error
	Units(ctx context.Context) ([]api.Unit, error)
	Unit(ctx context.Context, name string) (api.Unit, error)
	Why(ctx context.Context, name string) (api.Why, error)
	Logs(ctx context.Context, name string, o api.LogOptions, w io.Writer) error
	Reload(ctx context.Context, name, host string) ([]api.Reloaded, error)
	PutUnit(ctx context.Context, u api.Unit) (api.Outcome, error)
	DeleteUnit(ctx context.Context, name string) error
	OrderHost(ctx context.Context, id string, order api.HostOrder) (api.Outcome, error)
	Rebalance(ctx context.Context, moves int) (api.Rebalance, error)
	OrderRebalance(ctx context.Context, order api.RebalanceOrder) error
	ChangeRollout(ctx context.Context, unit, verb string) error
	Locks(ctx context.Context) ([]api.Lock, error)
	OrderLock(ctx context.Context, group, verb string, order api.LockOrder) error
	Update(ctx context.Context) (api.Update, error)
	OrderUpdate(ctx context.Context, verb string, order api.UpdateOrder) error
	Fleet(ctx context.Context, path string, into any) error
	Key(ctx context.Context, key string, recursive bool) (api.KeyEvent, error)
	PutKey(ctx context.Context, key, value string, ttl time.Duration) (api.KeyEvent, error)
	DeleteKey(ctx context.Context, key string, recursive bool) (api.KeyEvent, error)
	WatchKey(ctx context.Context, key string, recursive bool, yield func(api.KeyEvent) bool) error
}

const unitsLong = `units are what runs on the cluster: systemd unit files, with fleet's [X-Fleet] section to say where, and Quadlet's
.container files: web.container is the unit web.service, which its host makes for podman or docker.

A unit is known to the cluster once it is submitted, has a host once it is loaded, and runs once it is started:

  inactive  --load-->  loaded  --start-->  launched
            <-unload-          <--stop---

Arguments are files or names of units that the cluster has. A name without a type is a .service; braces are expanded
(web@{1..6}); stop, unload, restart, reload, destroy, status and cat take patterns ('web@*').

The verbs are fleetctl's, with its flags; list-units, list-unit-files and list-machines print its columns. A template whose
file says Replicas=N below [X-Muster] is loaded, started, stopped and unloaded like any unit.

` + "`muster help fleet`" + ` tells how muster compares with fleet, and how to use fleetctl itself.`

// unitsCommand is the group `muster units`.
func (c *cli) unitsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "units",
		Short: "what runs on the cluster",
		Long:  unitsLong,
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(c.unitVerbs(false)...)
	return cmd
}

// unitVerbs makes the verbs below `muster units`, or those of them that exist at the top too. At the top `status` is the
// cluster's and `list` would say too little.
func (c *cli) unitVerbs(top bool) []*cobra.Command {
	verbs := []*cobra.Command{
		c.submitCommand(), c.startCommand(), c.stopCommand(), c.destroyCommand(), c.catCommand(), c.logsCommand(), c.journalCommand(),
		c.whyCommand(),
	}
	if top {
		return verbs
	}
	return append(verbs, c.loadCommand(), c.unloadCommand(), c.restartCommand(), c.reloadCommand(), c.listCommand(), c.unitStatusCommand(),
		c.sshCommand(), c.verifyCommand(), c.listUnitsCommand(), c.listUnitFilesCommand(), c.listMachinesCommand())
}

// parallelChanges is how many units are changed at once. More would only queue up at the store.
const parallelChanges = 8

// each does something with every unit, some at a time. One unit's refusal does not stop the others; a cluster that does
// not answer does. It tells how many are done.
func each[T any](parent context.Context, list []T, do func(context.Context, T) error) (done int, err error) {
	ctx, stop := context.WithCancel(parent)
	defer stop()
	var g errgroup.Group
	g.SetLimit(parallelChanges)
	errs := make([]error, len(list))
	for i, item := range list {
		g.Go(func() error {
			if ctx.Err() != nil {
				errs[i] = errSkipped
				return nil
			}
			if errs[i] = do(ctx, item); ctx.Err() != nil && errors.Is(errs[i], context.Canceled) {
				errs[i] = errSkipped
			}
			if answer := (*api.Error)(nil); errors.As(errs[i], &answer) && answer.Status == http.StatusServiceUnavailable {
				stop()
			}
			return nil
		})
	}
	_ = g.Wait()
	var failures []error
	for _, err := range errs {
		switch {
		case err == nil:
			done++
		case !errors.Is(err, errSkipped):
			failures = append(failures, err)
		}
	}
	return done, errors.Join(append(failures, parent.Err())...)
}

// errSkipped marks what was not tried because the cluster had stopped to answer.
var errSkipped = errors.New("not tried")

// some makes an error a partial one when something was done before it.
func some(done int, err error) error {
	if err == nil || done == 0 {
		return err
	}
	return &failure{err: fmt.Errorf("%w\n%s done", err, count(done, "unit")), status: statusPartial}
}

// settle waits for units that were changed, unless the operator does not want to, and prints what became of them.
func (c *cli) settle(ctx context.Context, f fleet, names []string, g goal, flags waitFlags) error {
	if flags.noBlock || len(names) == 0 {
		return nil
	}
	entries, err := waitUnits(ctx, f, tellLines(c.lines()), names, g, flags.timeout)
	if c.format != output.Table {
		if printErr := output.Write(c.out, c.format, entries, nil); err == nil {
			err = printErr
		}
	}
	return err
}

// lines is where people read how something comes along, and programs do not.
func (c *cli) lines() io.Writer {
	if c.format != output.Table {
		return c.err
	}
	return c.out
}

// overview connects to the cluster and asks how it is.
func (c *cli) overview(ctx context.Context) (fleet, api.Status, error) {
	f, err := c.connect(ctx)
	if err != nil {
		return nil, api.Status{}, err
	}
	s, err := f.Status(ctx)
	return f, s, err
}

// connectNamed connects to the cluster and turns arguments into names of units.
func (c *cli) connectNamed(ctx context.Context, args []string) (fleet, []string, error) {
	f, err := c.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	names, err := c.named(ctx, f, args)
	return f, names, err
}

// named turns arguments into names of units. It asks the cluster for its units only when there are patterns.
func (c *cli) named(ctx context.Context, f fleet, args []string) ([]string, error) {
	var known []string
	if hasPattern(args) {
		units, err := f.Units(ctx)
		if err != nil {
			return nil, err
		}
		for _, u := range units {
			known = append(known, u.Name)
		}
	}
	return matchUnits(args, known)
}

// completeUnits offers the cluster's units to the shell, and says nothing when the cluster does not answer at once.
func (c *cli) completeUnits(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	f, err := c.connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	units, err := f.Units(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []string
	for _, u := range units {
		if !slices.Contains(args, u.Name) {
			names = append(names, u.Name)
		}
	}
	return names, cobra.ShellCompDirectiveDefault
}
