package providers

import "log/slog"

// StackOptions says which decorators a provider gets. Logging and retries are always there.
type StackOptions struct {
	Log    *slog.Logger
	DryRun *Recorder // nil: writes are made
	Retry  RetryPolicy
	Limit  LimitPolicy
	Trace  func(TraceEvent) // may be nil
	Faults FaultPolicy      // nil: none
}

// Stack puts the decorators around a driver's provider, in the one order that makes sense. From outside:
//
//	DryRun   nothing below sees a write that is not to be made
//	Retry    repeats what everything below says
//	Limit    every try waits for its turn, a pause between tries holds no turn
//	Trace    every try is seen, without the time it waited
//	Faults   nearest to the driver, so that the rest cannot tell them from real ones
func Stack(p Provider, options StackOptions) Provider {
	if options.Faults != nil {
		p = Faults(p, options.Faults)
	}
	p = Trace(p, options.Log, options.Trace)
	if options.Limit != (LimitPolicy{}) {
		p = Limit(p, options.Limit)
	}
	p = Retry(p, options.Retry, options.Log)
	if options.DryRun != nil {
		p = DryRun(p, options.DryRun)
	}
	return p
}
