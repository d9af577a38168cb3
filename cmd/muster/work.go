package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/cmd/muster/progress"
)

// work is one run of a verb that changes hosts: what it works with and where it shows what it does.
type work struct {
	cli     *cli
	deps    apply.Deps
	display progress.Display
}

// begin makes a run of a verb that changes hosts. The caller closes the display.
func (c *cli) begin(deps apply.Deps) (*work, error) {
	display, err := c.newDisplay()
	if err != nil {
		return nil, err
	}
	deps.Reporter = display
	deps.Log = slog.New(slog.NewTextHandler(display, &slog.HandlerOptions{Level: c.logLevel}))
	return &work{cli: c, deps: deps, display: display}, nil
}

// fleet is a client of the cluster that was just made.
func (w *work) fleet(members roster.Roster) (fleet, error) {
	dir, err := state.OpenReader(w.deps.StateDir, w.deps.Spec.Cluster)
	if err != nil {
		return nil, failed("", "cannot open the cluster's state: %w", err)
	}
	return w.cli.client(dir, memberEndpoints(members))
}

// question asks about some of a plan's actions.
type question struct {
	about    []plan.Action
	do, done string // in words
	hint     string // when nobody can be asked
}

// confirm asks whether instances may be destroyed.
func (w *work) confirm(ctx context.Context, p plan.Plan) (bool, error) {
	return w.agree(ctx, p, question{
		about: p.Destroys(), do: "Destroy", done: "destroyed", hint: "run it again with --yes to agree, or `muster plan` to see more",
	})
}

// agree asks a question, unless --yes has answered it.
func (w *work) agree(ctx context.Context, p plan.Plan, q question) (ok bool, err error) {
	c := w.cli
	if c.yes {
		return true, nil
	}
	if !isTerminal(c.in) || !isTerminal(c.err) {
		return false, usage(q.hint, "%s would be %s (%s), and nobody can be asked here", count(len(q.about), "host"), q.done,
			few(hostsOf(q.about)))
	}
	w.display.Ask(func() { ok, err = c.ask(ctx, p, q) })
	return ok, err
}

func hostsOf(actions []plan.Action) []string {
	names := make([]string, len(actions))
	for i, a := range actions {
		names[i] = a.Host
	}
	return names
}

// ask shows what a question is about and reads the answer.
func (c *cli) ask(ctx context.Context, p plan.Plan, q question) (bool, error) {
	shown := p
	shown.Actions = q.about
	if err := writePlan(c.err, shown, planView{color: c.color(c.err)}); err != nil {
		return false, err
	}
	fmt.Fprintf(c.err, "\n%s %s? [y/N] ", q.do, count(len(shown.Actions), "host"))
	answers := make(chan string, 1)
	// A read of a terminal cannot be cancelled: when ctx ends first, this ends with the process.
	go func() {
		line, _ := bufio.NewReader(c.in).ReadString('\n')
		answers <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(c.err)
		return false, context.Cause(ctx)
	case answer := <-answers:
		return answer == "y" || answer == "yes", nil
	}
}

// outcome gives an error of cluster/apply its exit status.
func (w *work) outcome(err error) error {
	var part *apply.PartialError
	switch known := (*failure)(nil); {
	case errors.As(err, &known):
		return err
	case errors.Is(err, apply.ErrNotConfirmed):
		return failed("nothing was destroyed", "not confirmed")
	case errors.As(err, &part):
		hint := advice(err)
		if hint == "" {
			hint = "what is done is kept: run the same command again to go on"
		}
		return partial(hint, "%d of %s failed\n%w", len(part.Failed), count(part.Total, "host"), err)
	default:
		return err
	}
}

// canDraw tells whether the terminal can do more than print lines.
func canDraw() bool {
	term := os.Getenv("TERM")
	return term != "" && term != "dumb"
}

func environ() []string { return os.Environ() }
