package membership

// HostView is what a host knows of its own vote.
type HostView struct {
	Joined    bool // it has an identity
	Endpoints bool // it was told of voters to join through
	First     bool // it is one of the first voters, which start together
	Seat      bool // it holds what a voter needs
	Roster    Word // what the roster says of it
	Member    Word // whether etcd has a member of its
	Runs      bool // its etcd runs
	Lost      bool // its etcd was a member, and its data is gone
}

// Word is an answer that may not be known, as while the store is away.
type Word int

// The answers.
const (
	Unknown Word = iota
	No
	Yes
)

// HostStep is what a host does about its vote.
type HostStep int

// The steps of a host.
const (
	Stay      HostStep = iota // as it is
	Join                      // ask the voters that it was told of
	AwaitDial                 // wait to be dialled by the operator
	Form                      // start etcd together with the other first voters
	AskSeat                   // ask a voter to be added as a learner
	Vote                      // start etcd with what it has
	StepDown                  // forget its member and what only voters have, and go on as a client
)

// String is the step in words, for logs.
func (s HostStep) String() string {
	return [...]string{"stay", "join", "wait to be dialled", "form", "ask for a seat", "vote", "step down"}[s]
}

// NextHostStep decides what a host does. What it does not know changes nothing: a host that cannot ask keeps its role. A
// voter that shall vote no more goes on until etcd has let it go, since its vote may be needed for that.
func NextHostStep(v HostView) HostStep {
	switch {
	case !v.Joined && v.Endpoints:
		return Join
	case !v.Joined:
		return AwaitDial
	case !v.Seat && v.Roster == Yes:
		return AskSeat
	case !v.Seat || v.Runs && v.Member != No:
		return Stay
	case v.Member == No && v.Roster != Unknown:
		return StepDown // also when it shall vote again: its old member is gone for good, and it asks for a new one
	case v.Lost:
		return Stay // it must not vote; the others replace it
	case v.Runs:
		return Stay
	case v.First:
		return Form
	}
	return Vote
}
