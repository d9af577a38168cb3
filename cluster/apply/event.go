package apply

import "time"

// Phase is a part of the work.
type Phase string

// The phases.
const (
	PhaseObserve Phase = "observe" // asking what there is
	PhasePlan    Phase = "plan"
	PhaseCreate  Phase = "create"
	PhaseStart   Phase = "start"
	PhaseStop    Phase = "stop" // powering off
	PhaseDestroy Phase = "destroy"
	PhaseBoot    Phase = "boot"    // waiting for an address
	PhaseDeliver Phase = "deliver" // bringing musterd to it
	PhaseJoin    Phase = "join"    // the host is told who the cluster is
	PhaseForm    Phase = "form"    // the voters come together
	PhaseReady   Phase = "ready"   // waiting until the host works
	PhaseRelabel Phase = "relabel" // changing labels
	PhaseVote    Phase = "vote"    // changing who votes
	PhaseForget  Phase = "forget"  // taking a host out of the cluster
	PhaseUnits   Phase = "units"   // submitting units
	PhaseCleanup Phase = "cleanup" // removing what is not a host's
)

// Event is something that happened. Host and Provider are empty for what concerns all.
type Event struct {
	Time     time.Time
	Host     string
	Provider string
	Phase    Phase
	Message  string
	Err      error
	Done     bool // the host needs no more attention
}

// Reporter is shown what happens. One Report is called at a time.
type Reporter interface{ Report(Event) }

// report fills in the time and passes the event on.
func (r *run) report(e Event) {
	if r.deps.Reporter == nil {
		return
	}
	r.reporting.Lock()
	defer r.reporting.Unlock()
	e.Time = r.deps.Now()
	r.deps.Reporter.Report(e)
}
