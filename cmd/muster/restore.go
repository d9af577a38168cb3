package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/cluster/backup"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/state"
)

const restoreLong = `restore puts the cluster's records back to what they were when ` + "`muster backup`" + ` wrote FILE. It is for when a majority of the
voters is lost for good: as many of the hosts that answer as the cluster file asks for become voters and start from the backup.
Units go on meanwhile. What was written after the backup is lost.

Voters that do not answer leave the cluster. They must never be started again: they would go on as the cluster that was.
Run ` + "`muster up`" + ` afterwards: it makes the hosts anew that are gone.

If no host is left at any provider, restore makes new ones first, as ` + "`muster up`" + ` does. Old ones that come back after all are
the cluster that was, until the next ` + "`muster up`" + `, which ends them.

It asks first; --yes answers for scripts. After a failure, run it again. A backup of another cluster can be restored too:
its units and settings come, its hosts do not.`

func (c *cli) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "put the cluster's records back to a backup, after the voters are lost",
		Long:  restoreLong,
		Args:  takes(1, 1, "a FILE that `muster backup` wrote"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.restore(cmd.Context(), args[0])
		},
	}
}

func (c *cli) restore(ctx context.Context, file string) error {
	s, err := c.loadSpec()
	if err != nil {
		return err
	}
	m, err := readBackup(file)
	if err != nil {
		return failed("give a file that `muster backup` wrote", "cannot use %s: %w", file, err)
	}
	err = c.restoreTo(ctx, s, m, file)
	if !errors.Is(err, apply.ErrNobodyAnswers) {
		return err
	}
	if err := c.beginAnew(ctx); err != nil {
		return err
	}
	return c.restoreTo(ctx, s, m, file)
}

// beginAnew makes the cluster's hosts, of which none is left.
func (c *cli) beginAnew(ctx context.Context) error {
	deps, err := c.deps()
	if err != nil {
		return err
	}
	err = apply.BeginAnew(ctx, deps, apply.Options{CrashPoint: crashPoint()}, func() error {
		fmt.Fprintf(c.err, "no host of cluster %s is left at any provider: all are made anew\n", deps.Spec.Cluster)
		return c.agreeRestore()
	})
	if err != nil {
		return failed("", "%w", err)
	}
	return c.up(ctx, changeFlags{})
}

// restoreTo restores onto the hosts that answer.
func (c *cli) restoreTo(ctx context.Context, s spec.Spec, m backup.Manifest, file string) error {
	parent, err := stateParent()
	if err != nil {
		return err
	}
	dir, err := state.Open(parent, s.Cluster, c.now)
	if errors.Is(err, state.ErrNoCluster) {
		return c.noCluster(s.Cluster)
	}
	if err != nil {
		return failed("", "cannot open the cluster's state: %w", err)
	}
	defer func() { _ = dir.Close() }()
	keys, err := dir.Keys(c.now())
	if err != nil {
		return failed("", "cannot read the cluster's keys: %w", err)
	}
	source, err := pki.NewStaticSource(keys.Operator)
	if err != nil {
		return failed("", "cannot use the operator's certificate: %w", err)
	}
	hosts := survivors{root: keys.Root.Cert, source: source, file: file, foreign: m.Cluster != dir.Cluster().ID}
	done, err := apply.Restore(ctx, s, dir, m, hosts, c.now(), func(r apply.Restoration) error {
		return c.confirmRestore(m, r, hosts.foreign)
	})
	if err != nil {
		return failed("", "%w", err)
	}
	return c.say("cluster %s has its records of %s again, and these hosts vote: %s; `muster up` makes what is missing",
		s.Cluster, m.Taken.Local().Format(time.DateTime), hostList(done.Voters))
}

// confirmRestore says what is lost, and asks.
func (c *cli) confirmRestore(m backup.Manifest, r apply.Restoration, foreign bool) error {
	w := c.err
	fmt.Fprintf(w, "backup of cluster %s at revision %d, taken %s ago on %s\n", m.Name, m.Revision,
		c.now().Sub(m.Taken).Round(time.Second), m.Host)
	if foreign {
		fmt.Fprintln(w, "it is of another cluster: its units and settings come, its hosts do not")
	}
	fmt.Fprintf(w, "everything that was written after revision %d is lost\n", m.Revision)
	fmt.Fprintf(w, "these hosts vote then: %s\n", hostList(r.Voters))
	if len(r.Lost) > 0 {
		fmt.Fprintf(w, "these voters do not answer, leave the cluster, and must never be started again: %s\n", hostList(r.Lost))
	}
	return c.agreeRestore()
}

func (c *cli) agreeRestore() error {
	if c.yes {
		return nil
	}
	if !isTerminal(c.in) {
		return usage("add --yes", "restoring needs a yes")
	}
	fmt.Fprint(c.err, "restore? [y/N] ")
	answer, _ := bufio.NewReader(c.in).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return failed("", "nothing was changed")
	}
	return nil
}

func hostList(hosts []roster.Host) string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Name
	}
	return strings.Join(names, ", ")
}

// survivors is apply.Survivors over the agents' API.
type survivors struct {
	root    *x509.Certificate
	source  *pki.Source
	file    string
	foreign bool
}

func (s survivors) client(members ...roster.Host) *api.Client {
	return api.NewClient(memberEndpoints(members), pki.ClientConfig(s.root, s.source, ""))
}

// answerTimeout is how long a host may take to show that it is there.
const answerTimeout = 5 * time.Second

// Answers implements apply.Survivors.
func (s survivors) Answers(ctx context.Context, h roster.Host) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	client := s.client(h)
	defer client.Close()
	health, err := client.Health(ctx)
	return err == nil && health.ID == h.ID
}

// Restore implements apply.Survivors.
func (s survivors) Restore(ctx context.Context, h roster.Host, members roster.Roster, role *join.VoterRole) error {
	client := s.client(h)
	defer client.Close()
	order := api.RestoreOrder{Roster: members, Voter: role, Foreign: s.foreign}
	if role == nil {
		return client.Restore(ctx, order, nil)
	}
	f, err := os.Open(s.file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return client.Restore(ctx, order, f)
}

// Formed implements apply.Survivors.
func (s survivors) Formed(ctx context.Context, members roster.Roster, voters int) bool {
	client := s.client(members...)
	defer client.Close()
	status, err := client.Status(ctx)
	return err == nil && !status.Stale && status.Voters.Leader != "" && status.Voters.Total == voters && status.Voters.Healthy == voters
}
