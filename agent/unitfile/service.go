package unitfile

import (
	"time"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// Service is what [Service] says, with defaults filled in (systemd.service(5), systemd.exec(5), systemd.kill(5)).
// Specifiers are not expanded.
type Service struct {
	Type            string // simple, exec, oneshot, notify, notify-reload, forking, dbus, idle
	RemainAfterExit bool
	NotifyAccess    string // none, main, exec, all
	Exec            Exec
	Restart         Restart
	Limit           StartLimit
	Timeout         Timeout
	Kill            Kill
	Success         ExitSet // what counts as clean beside 0 and the signals that ask to end
	Process         Process
}

// Exec are the command lines of each step.
type Exec struct {
	StartPre, Start, StartPost, Reload, Stop, StopPost []Command
}

// Restart says when a service is started again after its end.
type Restart struct {
	Policy         string        // no, always, on-success, on-failure, on-abnormal, on-abort, on-watchdog
	Delay          time.Duration // RestartSec=
	Prevent, Force ExitSet       // RestartPreventExitStatus=, RestartForceExitStatus=
}

// StartLimit refuses starts beyond Burst within Interval. Zero of either means no limit.
type StartLimit struct {
	Interval time.Duration
	Burst    int
}

// Timeout bounds how long starting and stopping may take; Infinity for no bound.
type Timeout struct {
	Start, Stop time.Duration
}

// Kill says how processes are ended.
type Kill struct {
	Mode        string // control-group, mixed, process, none
	Signal      string // SIGTERM, or a number
	SendSIGKILL bool
}

// Process is what a service's processes run with.
type Process struct {
	Environment      []string       // NAME=VALUE, later ones win
	EnvironmentFiles []OptionalPath // they win over Environment
	WorkingDirectory OptionalPath
	User, Group      string
}

// ExitSet is a set of exit statuses and of signals by name.
type ExitSet struct {
	Codes   map[int]bool
	Signals map[string]bool
}

// OptionalPath is a path that may be missing when Optional.
type OptionalPath struct {
	Path     string
	Optional bool
}

// Defaults of systemd (systemd-system.conf(5)).
const (
	defaultDelay    = 100 * time.Millisecond
	defaultTimeout  = 90 * time.Second
	defaultInterval = 10 * time.Second
	defaultBurst    = 5
)

// Service reads [Service]. The error is finding.Findings; what is right is returned nevertheless.
func (f File) Service(unitName string) (Service, error) {
	s, problems, _ := f.service(unitName)
	return s, problems.Err()
}

func (f File) service(unitName string) (Service, finding.Findings, finding.Findings) {
	d := decoder{file: f, name: unitName, section: "Service"}
	s := Service{
		NotifyAccess: "none",
		Restart:      Restart{Policy: "no", Delay: defaultDelay},
		Limit:        StartLimit{Interval: defaultInterval, Burst: defaultBurst},
		Timeout:      Timeout{Stop: defaultTimeout},
		Kill:         Kill{Mode: "control-group", Signal: "SIGTERM", SendSIGKILL: true},
	}
	d.exec(&s.Exec)
	d.kind(&s)
	d.restart(&s)
	d.timeouts(&s)
	d.kill(&s.Kill)
	d.process(&s.Process)
	d.exits("SuccessExitStatus", &s.Success)
	d.rules(s)
	return s, d.problems, d.warnings
}

func (d *decoder) exec(e *Exec) {
	for name, commands := range e.byName() {
		*commands = d.commands(name)
	}
}

func (e *Exec) byName() map[string]*[]Command {
	return map[string]*[]Command{
		"ExecStartPre": &e.StartPre, "ExecStart": &e.Start, "ExecStartPost": &e.StartPost,
		"ExecReload": &e.Reload, "ExecStop": &e.Stop, "ExecStopPost": &e.StopPost,
	}
}

func (d *decoder) kind(s *Service) {
	d.choice("Type", &s.Type, "simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle")
	if s.Type == "" {
		_, bus := d.file.Value(d.section, "BusName")
		switch {
		case bus:
			s.Type = "dbus"
		case len(s.Exec.Start) == 0:
			s.Type = "oneshot"
		default:
			s.Type = "simple"
		}
	}
	if s.Type == "notify" || s.Type == "notify-reload" {
		s.NotifyAccess = "main"
	}
	d.choice("NotifyAccess", &s.NotifyAccess, "none", "main", "exec", "all")
	d.boolean("RemainAfterExit", &s.RemainAfterExit)
}

func (d *decoder) restart(s *Service) {
	d.choice("Restart", &s.Restart.Policy,
		"no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog")
	d.timespan("RestartSec", &s.Restart.Delay)
	d.exits("RestartPreventExitStatus", &s.Restart.Prevent)
	d.exits("RestartForceExitStatus", &s.Restart.Force)
	// The limit moved from [Service] to [Unit] with systemd 230; both are read, the newer one wins.
	for _, section := range []string{"Service", "Unit"} {
		in := d.in(section)
		in.timespan("StartLimitInterval", &s.Limit.Interval)
		in.timespan("StartLimitIntervalSec", &s.Limit.Interval)
		in.number("StartLimitBurst", &s.Limit.Burst)
		d.take(in)
	}
}

func (d *decoder) timeouts(s *Service) {
	s.Timeout.Start = defaultTimeout
	if s.Type == "oneshot" {
		s.Timeout.Start = Infinity
	}
	d.timespan("TimeoutSec", &s.Timeout.Start)
	if _, ok := d.file.last(d.section, "TimeoutSec"); ok {
		s.Timeout.Stop = s.Timeout.Start
	}
	d.timespan("TimeoutStartSec", &s.Timeout.Start)
	d.timespan("TimeoutStopSec", &s.Timeout.Stop)
	for _, t := range []*time.Duration{&s.Timeout.Start, &s.Timeout.Stop} {
		if *t == 0 { // systemd.service(5): "0" disables, for files written before "infinity"
			*t = Infinity
		}
	}
}

func (d *decoder) kill(k *Kill) {
	d.choice("KillMode", &k.Mode, "control-group", "mixed", "process", "none")
	d.boolean("SendSIGKILL", &k.SendSIGKILL)
	if o, ok := d.file.last(d.section, "KillSignal"); ok {
		name, err := signalName(o.Value)
		if err != nil {
			d.fail(o, err, "")
			return
		}
		k.Signal = name
	}
}

func (d *decoder) process(p *Process) {
	for _, o := range d.file.options(d.section, "Environment") {
		env, err := ParseEnvironment(join(o.Value))
		if err != nil {
			d.fail(o, err, "")
		}
		p.Environment = append(p.Environment, env...)
	}
	for _, o := range d.file.options(d.section, "EnvironmentFile") {
		p.EnvironmentFiles = append(p.EnvironmentFiles, d.path(o, ""))
	}
	if o, ok := d.file.last(d.section, "WorkingDirectory"); ok {
		p.WorkingDirectory = d.path(o, "~")
	}
	p.User, _ = d.file.Value(d.section, "User")
	p.Group, _ = d.file.Value(d.section, "Group")
}

// rules reports settings that do not go together (systemd refuses them when it loads the unit).
func (d *decoder) rules(s Service) {
	starts := d.file.options(d.section, "ExecStart")
	at := finding.Position{File: d.name}
	switch {
	case len(starts) == 0 && s.Type != "oneshot":
		d.problems.Add(at, d.nearStart("add ExecStart= to [Service]"), "the service has no `ExecStart`")
	case len(starts) == 0 && len(s.Exec.Stop) == 0:
		d.problems.Add(at, d.nearStart("add ExecStart= to [Service]"), "the service has neither `ExecStart` nor `ExecStop`")
	case len(starts) == 0 && !s.RemainAfterExit:
		d.problems.Add(at, "add RemainAfterExit=yes", "without `ExecStart` the service would be over at once")
	case len(s.Exec.Start) > 1 && s.Type != "oneshot":
		d.problems.Add(starts[len(starts)-1].at(d.name, 0), "set Type=oneshot, or begin with an empty ExecStart= to replace",
			"a service of type %s has one `ExecStart`, this one has %d", s.Type, len(s.Exec.Start))
	}
	if o, ok := d.file.last(d.section, "Restart"); ok && s.Type == "oneshot" {
		if s.Restart.Policy == "always" || s.Restart.Policy == "on-success" {
			d.problems.Add(o.at(d.name, 0), "use on-failure, or another Type",
				"a oneshot service cannot have `Restart=%s`: it would never be done", s.Restart.Policy)
		}
	}
	if _, ok := d.file.Value(d.section, "BusName"); s.Type == "dbus" && !ok {
		d.problems.Add(at, "add BusName=", "a service of type dbus needs `BusName`")
	}
}

// nearStart is a hint about a misspelt ExecStart, or the one given.
func (d *decoder) nearStart(hint string) string {
	for _, o := range d.file.Options {
		if o.Section == d.section && !isKnown(o.Section, o.Name) &&
			didYouMean(o.Name, []string{"ExecStart"}) != "" {
			return "did you mean `ExecStart` where `" + o.Name + "` stands?"
		}
	}
	return hint
}
