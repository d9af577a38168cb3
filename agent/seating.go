package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/membership"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
)

// seating keeps what this host does about its vote in line with what the voters say: it asks for a seat when the host was
// appointed, starts an etcd again that stopped, and gives the seat back when etcd has let the host go. All of it follows
// from what is there (membership.NextHostStep), so that it goes on after a crash anywhere.
type seating struct {
	host    func() (h roster.Host, known bool) // as the roster has this host, as last known
	holds   bool                               // what a voter needs
	runs    bool                               // its etcd
	lost    bool                               // its etcd's data is gone
	fresh   bool                               // its etcd has no data yet
	ask     func(ctx context.Context) (api.Seat, error)
	take    func(ctx context.Context) (join.VoterRole, error)
	save    func(join.VoterRole) error
	drop    func() error
	news    signal // the roster has changed
	patient time.Duration
	log     *slog.Logger
}

// How often the voters are asked while what this host does is not what they say.
const (
	longestSeatPause = 2 * time.Second
	// restBeforeVote is how long an etcd that stopped or did not start rests until it is started again.
	restBeforeVote = 5 * time.Second
)

func newSeating(a *agent) *seating {
	s := &seating{
		host: a.members.own, holds: a.id.Voter != nil, runs: a.council != nil, lost: a.lost, fresh: !a.hasData(),
		save: func(role join.VoterRole) error { return a.storage.SaveVoter(a.Config, role) }, drop: a.storage.DropVoter,
		news: newSignal(), patient: restBeforeVote, log: a.log,
	}
	s.ask = func(ctx context.Context) (seat api.Seat, err error) {
		err = a.asHost(func(c *api.Client) error { seat, err = c.Seat(ctx); return err })
		return seat, err
	}
	s.take = func(ctx context.Context) (role join.VoterRole, err error) {
		err = a.asHost(func(c *api.Client) error { role, err = c.TakeSeat(ctx); return err })
		return role, err
	}
	return s
}

// asHost calls the voters in this host's own name.
func (a *agent) asHost(call func(*api.Client) error) error {
	client := api.NewClient(endpoints(a.members.voters()), pki.ClientConfig(a.id.Root, a.source, pki.VoterName))
	defer client.Close()
	return call(client)
}

// run ends with ctx, or with a roleChange when the agent must begin anew.
func (s *seating) run(ctx context.Context) error {
	between := pause.New(longestSeatPause)
	for began := time.Now(); ; {
		if s.settled() {
			between.Reset()
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-s.news:
				continue
			}
		}
		if err := s.step(ctx, time.Since(began)); err != nil {
			return err
		}
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

// settled reports whether the roster, as last known, has this host as what it is. Then nobody need be asked.
func (s *seating) settled() bool {
	h, known := s.host()
	return !known || (h.Voter || h.Appointed) == s.holds && s.holds == s.runs
}

// step asks the voters and does what follows. since is how long this agent has been at work.
func (s *seating) step(ctx context.Context, since time.Duration) error {
	v := membership.HostView{Joined: true, Seat: s.holds, Runs: s.runs, Lost: s.lost}
	if seat, err := s.ask(ctx); err == nil {
		v.Roster = word(seat.Votes)
		v.Member = word(seat.Member || seat.Reserved && (s.fresh || !s.holds))
	} else if ctx.Err() == nil {
		s.log.Debug("cannot ask the voters about this host's vote", "err", err)
	}
	switch step := membership.NextHostStep(v); step {
	case membership.AskSeat:
		return s.seat(ctx)
	case membership.StepDown:
		s.log.Info("this host votes no more and goes on as a client")
		if err := s.drop(); err != nil {
			return err
		}
		return &roleChange{}
	case membership.Vote:
		if since >= s.patient {
			return &roleChange{}
		}
	}
	return nil
}

// seat asks for a seat. It is given when the members can be changed, and asked for again until then.
func (s *seating) seat(ctx context.Context) error {
	role, err := s.take(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Info("this host shall vote and waits to be added", "err", err)
		}
		return ctx.Err()
	}
	if err := s.save(role); err != nil {
		return err
	}
	s.log.Info("this host becomes a voter")
	return &roleChange{}
}

func word(yes bool) membership.Word {
	if yes {
		return membership.Yes
	}
	return membership.No
}
