package process

import "github.com/musterhq/muster/agent/unitfile"

func (m machine) refused(r record) record {
	switch r.Phase {
	case dead, failed:
		return r
	case autoRestart:
		return m.rest(r, dead)
	}
	r.StopWanted, r.StartWanted = true, false
	switch r.Phase {
	case startPre, start, startPost, reload:
		return m.stopSigterm(r)
	case running, exited:
		return m.stop(r)
	}
	return r
}

// stop begins the end of a unit that was up (systemd.service(5): ExecStop= is for those alone).
func (m machine) stop(r record) record {
	if len(m.current.Exec.Stop) > 0 {
		return m.enter(r, stop, m.current.Timeout.Stop)
	}
	return m.stopSigterm(r)
}

func (m machine) stopSigterm(r record) record {
	if m.current.Kill.Mode == "none" {
		return m.stopPost(r)
	}
	return m.enter(r, stopSigterm, m.current.Timeout.Stop)
}

func (m machine) stopPost(r record) record {
	switch {
	case len(m.current.Exec.StopPost) > 0:
		return m.enter(r, stopPost, m.current.Timeout.Stop)
	case m.current.Kill.Mode == "mixed" && r.Phase == stopSigterm:
		// The main process was asked, what it leaves is killed (systemd.kill(5)).
		return m.enter(r, finalSigkill, m.current.Timeout.Stop)
	}
	return m.over(r)
}

func (m machine) expired(r record) record {
	late := result{Kind: timedOut, Text: "did not start in time"}
	if active[r.Phase] == "deactivating" {
		late.Text = "did not stop in time"
	}
	if _, what := m.commands(r.Phase); what != "" {
		late.Text = what + ": timeout"
	}
	if r.Result.Kind == success && r.Phase != reload && r.Phase != autoRestart {
		r.Result = late
	}
	switch r.Phase {
	case startPre, start, startPost, stop:
		return m.stopSigterm(r)
	case reload:
		r = m.within(r, unitfile.Infinity)
		r.Expired = true
	case stopSigterm:
		if m.current.Kill.SendSIGKILL {
			return m.enter(r, stopSigkill, m.current.Timeout.Stop)
		}
		r.GaveUp, r.Control = true, nil
		return m.stopPost(r)
	case stopSigkill:
		r.GaveUp, r.Control = true, nil
		return m.stopPost(r)
	case stopPost:
		return m.enter(r, finalSigterm, m.current.Timeout.Stop)
	case finalSigterm:
		if m.current.Kill.SendSIGKILL {
			return m.enter(r, finalSigkill, m.current.Timeout.Stop)
		}
		r.GaveUp = true
		return m.over(r)
	case finalSigkill:
		r.GaveUp = true
		return m.over(r)
	case autoRestart:
		return m.begin(r)
	}
	return r
}

func (m machine) gone(r record) record {
	switch r.Phase {
	case stopSigterm, stopSigkill:
		r.Control = nil
		return m.stopPost(r)
	case finalSigterm:
		if m.current.Kill.Mode == "mixed" {
			return m.enter(r, finalSigkill, m.current.Timeout.Stop)
		}
		return m.over(r)
	case finalSigkill:
		return m.over(r)
	}
	return r
}

// over is where every unit ends that was started.
func (m machine) over(r record) record {
	switch {
	case r.StopWanted:
	case r.Result.again(m.current.Restart, r.MainExit):
		r.Main, r.Control = nil, nil
		r.Restarts++
		return m.enter(r, autoRestart, m.current.Restart.Delay)
	}
	wanted := r.StartWanted
	if r.Result.Kind == success {
		r = m.rest(r, dead)
	} else {
		r = m.rest(r, failed)
	}
	if wanted {
		return m.begin(r)
	}
	return r
}

// rest is a unit without processes that waits for nothing.
func (m machine) rest(r record, p phase) record {
	r = m.enter(r, p, unitfile.Infinity)
	r.Main, r.Control, r.StopWanted, r.StartWanted = nil, nil, false, false
	r.Ends++
	return r
}

// want is what is to be in progress in a phase.
type want struct {
	// spawn is the command to run next, unless one runs already.
	spawn   *unitfile.Command
	control bool // spawn is no ExecStart line
	// signal is what to send, "" for nothing, and whom.
	signal string
	whom   whom
}

type whom int

const (
	everybody   whom = iota // every process of the unit
	mainOnly                // the main process, and the control process if there is one
	controlOnly             // the control process
)

// wants follows from the record alone, so that a new agent takes up what the old one left.
func (m machine) wants(r record) want {
	kill := m.current.Kill
	whom := everybody
	if kill.Mode != "control-group" {
		whom = mainOnly
	}
	switch r.Phase {
	case start:
		if r.Main == nil && r.Index < len(m.current.Exec.Start) {
			return want{spawn: &m.current.Exec.Start[r.Index]}
		}
	case stopSigterm, finalSigterm:
		return want{signal: kill.Signal, whom: whom}
	case stopSigkill, finalSigkill:
		if kill.Mode == "mixed" {
			whom = everybody
		}
		return want{signal: "SIGKILL", whom: whom}
	case reload:
		if r.Expired {
			return want{signal: "SIGKILL", whom: controlOnly}
		}
	}
	if lines, _ := m.commands(r.Phase); r.Control == nil && r.Index < len(lines) {
		return want{spawn: &lines[r.Index], control: true}
	}
	return want{}
}
