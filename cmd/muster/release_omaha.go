package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/omaha"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/release/repository"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/window"
	"github.com/musterhq/muster/cmd/muster/output"
)

// omahaFlags say how Flatcar's hosts are answered that ask `muster release serve`.
type omahaFlags struct {
	on      bool
	base    string
	windows []string
	groups  map[string]string
	policy  release.Policy
}

func (o *omahaFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&o.on, "omaha", false, "answer Flatcar's update_engine as well, at "+omaha.Path)
	flags.StringVar(&o.base, "url", "", "`URL` at which machines reach it, unless that is how they asked")
	flags.StringToStringVar(&o.groups, "group", nil, "`GROUP=CHANNEL` of machines whose group is not called alpha, beta or stable")
	flags.StringToStringVar(&o.policy.Canaries, "canary", nil, "`KEY=VALUE` of machines that go first: group, oem or id")
	flags.DurationVar(&o.policy.Soak, "soak", 0, "how long all canaries have had a release before others follow")
	flags.IntVar(&o.policy.PerHour, "per-hour", 0, "`PERCENT` of the other machines that may begin in an hour (all)")
	flags.StringArrayVar(&o.windows, "window", nil, "`WHEN` machines may begin, as \"Mon,Thu 23:00 2h Europe/Berlin\"; repeat it for more")
	flags.IntVar(&o.policy.Budget, "budget", 0, "`N` machines on which a release may fail until it is offered to no other")
	flags.StringVar(&o.policy.Pin, "pin", "", "the one `VERSION` that is offered")
}

// check reads what flags hold, and refuses those that are of no use.
func (o *omahaFlags) check(cmd *cobra.Command) error {
	for _, name := range []string{"url", "group", "canary", "soak", "per-hour", "window", "budget", "pin"} {
		if !o.on && cmd.Flags().Changed(name) {
			return usage("add --omaha, or leave it out", "--%s is for Flatcar's hosts", name)
		}
	}
	for _, text := range o.windows {
		w, err := window.Parse(text)
		if err != nil {
			return usage("`muster release serve --help` has an example", "%w", err)
		}
		o.policy.Windows = append(o.policy.Windows, w)
	}
	if err := o.policy.Check(); err != nil {
		return usage("`muster release serve --help` tells what there is", "%w", err)
	}
	for _, channel := range o.groups {
		if !slices.Contains(release.Channels, channel) {
			return usage("choose alpha, beta or stable", "there is no channel `%s`", channel)
		}
	}
	for key := range o.policy.Canaries {
		if !slices.Contains([]string{"id", "group", "oem"}, key) {
			return usage("choose group, oem or id", "machines have no `%s`", key)
		}
	}
	u, err := url.Parse(o.base)
	if o.base != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return usage("write it as http://releases.example.org:8080", "`%s` is no URL of a server", o.base)
	}
	o.base = strings.TrimRight(o.base, "/")
	return nil
}

// machinesFile is where is kept what a repository's server remembers of machines.
func machinesFile(r *repository.Repository) string { return r.Dir + ".machines.json" }

// readMachines is what is remembered; nothing where there is no file.
func readMachines(path string) (*omaha.Ledger, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return omaha.NewLedger(), nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return omaha.ReadLedger(f)
}

func writeMachines(path string) func(*omaha.Ledger) error {
	return func(l *omaha.Ledger) error {
		data, err := json.MarshalIndent(l, "", " ")
		if err != nil {
			return err
		}
		return pki.WriteFile(path, append(data, '\n'))
	}
}

// omahaServer answers from a repository.
func (c *cli) omahaServer(r *repository.Repository, o *omahaFlags) (*omaha.Server, error) {
	l, err := readMachines(machinesFile(r))
	if err != nil {
		return nil, failed("move "+machinesFile(r)+" away to begin anew", "%w", err)
	}
	payloads := &repository.Payloads{Repository: r}
	return omaha.NewServer(omaha.Config{
		Catalog: payloads.Catalog,
		Package: func(ctx context.Context, is release.Release) (omaha.Package, string, error) {
			p, err := payloads.Of(ctx, is)
			return omaha.Package{Name: p.Name, Size: p.Size, SHA1: p.SHA1, SHA256: p.SHA256}, p.Dir, err
		},
		Base: o.base, Groups: o.groups, Policy: o.policy, Now: c.now, Log: c.log(),
	}, l), nil
}

// machinesEvery is how long what machines tell may wait until it is kept on disk.
const machinesEvery = 2 * time.Second

// serveOmaha hosts a repository for all hosts and answers Flatcar's, until ctx ends.
func (c *cli) serveOmaha(
	ctx context.Context, s *omaha.Server, file string, files http.Handler, serve func(context.Context, http.Handler) error,
) error {
	mux := http.NewServeMux()
	mux.Handle(omaha.Path, s.Handler())
	mux.Handle(strings.TrimSuffix(omaha.Path, "/"), s.Handler())
	mux.Handle("/", files)
	save := func() error {
		if err := s.Remember(writeMachines(file)); err != nil {
			return fmt.Errorf("cannot keep what machines tell: %w", err)
		}
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx, mux) })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return save()
			case <-s.Changed:
			}
			if err := save(); err != nil {
				c.log().Error("machines are forgotten when this ends", "err", err)
			}
			_ = pause.For(ctx, machinesEvery)
		}
	})
	return g.Wait()
}

// machineEntry is a machine as `muster release machines` shows it.
type machineEntry struct {
	ID string `json:"id"`
	*omaha.Entry
}

func (c *cli) releaseMachinesCommand(o *releaseFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "machines DIR",
		Short: "Flatcar's hosts that have asked `serve --omaha`, and what became of releases there",
		Args:  takes(1, 1, "a directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			r := c.repository(args[0], o)
			if _, err := r.RootFile(); err != nil {
				return releaseFailure(err)
			}
			l, err := readMachines(machinesFile(r))
			if err != nil {
				return failed("move "+filepath.Base(machinesFile(r))+" away to begin anew", "%w", err)
			}
			list := []machineEntry{}
			for _, id := range slices.Sorted(maps.Keys(l.Machines)) {
				list = append(list, machineEntry{ID: id, Entry: l.Machines[id]})
			}
			return output.Write(c.out, c.format, list, func(w io.Writer) error {
				g := output.Grid{Columns: []string{"MACHINE", "GROUP", "RUNS", "OFFERED", "FAILED", "LAST EVENT", "SEEN", "WHY NOT"}}
				for _, m := range list {
					g.Add(m.ID, m.Track, m.Version, m.Offered, m.Failed, m.Event, m.Seen.UTC().Format(time.RFC3339), m.Reason)
				}
				return g.Write(w)
			})
		},
	}
}
