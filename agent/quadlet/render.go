package quadlet

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/finding"
)

// Host is what a service is rendered for.
type Host struct {
	Engine  string // unitfile.Podman or unitfile.Docker
	Path    string // of its program
	Systemd bool   // systemd runs the service; else muster's own supervisor does
}

// stopMargin is how long an engine may take beyond what it waits for the container, in seconds, and what systemd waits for
// anyway (DefaultTimeoutStopSec=).
const (
	stopMargin  = 30
	defaultStop = 90
)

// Render makes the service of a unit that is a container. Sections but [Container] are carried over, that one as
// [X-Container], for whoever reads the file on a host. Settings of [Service] come after the rendered ones, so that they
// win. The error is finding.Findings: what the host's engine cannot do.
func Render(name string, f unitfile.File, h Host) (unitfile.File, error) {
	d := read(name, f)
	if err := d.problems.Err(); err != nil {
		return unitfile.File{}, err
	}
	return d.render(h)
}

func (d *document) render(h Host) (unitfile.File, error) {
	r := renderer{document: d, Host: h, oneshot: d.setting("Type") == "oneshot"}
	r.detached = h.Systemd && h.Engine == unitfile.Podman
	r.supported()
	if err := r.lacks.Err(); err != nil {
		return unitfile.File{}, err
	}
	r.unit()
	r.service()
	return r.merge(), nil
}

// renderer makes one service of a document.
type renderer struct {
	*document
	Host
	detached bool // the engine leaves the container to systemd, and tells it when it runs
	oneshot  bool
	lacks    finding.Findings
	added    []unitfile.Option // to [Unit], and then to [Service]
}

// setting is the last value of [Service], "" for none.
func (d *document) setting(name string) string {
	value, _ := d.file.Value("Service", name)
	return value
}

// supported finds what the engine lacks.
func (r *renderer) supported() {
	refuse := func(name, hint string) {
		o := r.given[name]
		r.lacks = append(r.lacks, o.Finding(r.document.unit, wrong(hint, "not supported with %s", r.Engine), ""))
	}
	for _, k := range keys {
		if _, given := r.given[k.name]; !given || r.Engine == unitfile.Podman {
			continue
		}
		switch {
		case k.instead != "":
			refuse(k.name, k.instead)
		case k.name == "Pull" && r.one("Pull") == "newer":
			refuse(k.name, "write always")
		case k.name == "Entrypoint" && strings.HasPrefix(r.one("Entrypoint"), "["):
			refuse(k.name, "write the program alone, and its arguments into Exec=")
		}
	}
	if _, given := r.given["HealthStartupCmd"]; given && r.untimed() {
		o := r.given["HealthStartupCmd"]
		r.lacks = append(r.lacks, o.Finding(r.document.unit, wrong("use HealthStartPeriod=", "not supported without systemd"), ""))
	}
	if r.notify() == "conmon" || r.detached {
		return
	}
	what := "not supported with " + r.Engine
	if r.Engine == unitfile.Podman {
		what = "not supported without systemd"
	}
	r.lacks = append(r.lacks, r.given["Notify"].Finding(r.document.unit, wrong("remove it", "%s", what), ""))
}

// untimed says that the engine cannot make health checks by itself: podman has systemd's timers for that. Muster makes them.
func (r *renderer) untimed() bool {
	return r.Engine == unitfile.Podman && !r.Systemd && r.one("HealthCmd") != ""
}

// notify is who says that the container runs: conmon when it has begun, or itself, or its health.
func (r *renderer) notify() string {
	switch v := r.one("Notify"); v {
	case "":
		return "conmon"
	case "healthy":
		return v
	default:
		if on, _ := unitfile.ParseBool(v); on {
			return "container"
		}
		return "conmon"
	}
}

func (r *renderer) add(section, name, value string) {
	line := 0
	if o, ok := r.given["Image"]; ok {
		line = o.Line // what is said of it concerns the container
	}
	r.added = append(r.added, unitfile.Option{Section: section, Name: name, Value: value, Line: line})
}

// unit adds what the service needs of the host.
func (r *renderer) unit() {
	if !r.Systemd {
		return
	}
	if r.Engine == unitfile.Docker {
		r.add("Unit", "Wants", "docker.service")
		r.add("Unit", "After", "docker.service")
	} else {
		r.add("Unit", "RequiresMountsFor", "%t/containers")
	}
	for _, v := range r.values["Volume"] {
		if from, _, ok := strings.Cut(v, ":"); ok && strings.HasPrefix(from, "/") {
			r.add("Unit", "RequiresMountsFor", unitfile.QuoteWord(from))
		}
	}
}

func (r *renderer) service() {
	set := func(name, value string) { r.add("Service", name, value) }
	if r.Systemd {
		set("SyslogIdentifier", "%N")
	}
	if r.one("Pull") != "never" && r.setting("TimeoutStartSec") == "" && r.setting("TimeoutSec") == "" {
		set("TimeoutStartSec", "15min") // time to fetch the image
	}
	wait, err := strconv.Atoi(r.one("StopTimeout"))
	if err == nil && wait+stopMargin > defaultStop && r.setting("TimeoutStopSec") == "" && r.setting("TimeoutSec") == "" {
		set("TimeoutStopSec", strconv.Itoa(wait+stopMargin))
	}
	set("SuccessExitStatus", r.cleanEnds())
	r.commands(set)
	for _, v := range []struct{ key, verb string }{{"ReloadCmd", "exec"}, {"ReloadSignal", "kill"}} {
		args := r.values[v.key]
		switch {
		case len(args) == 0:
		case v.verb == "kill":
			set("ExecReload", r.line(v.verb, "--signal="+args[0], r.name()))
		default:
			set("ExecReload", r.line(append([]string{v.verb, r.name()}, args...)...))
		}
	}
}

// cleanEnds are the exit statuses of an engine whose container was ended by SIGTERM or the signal that is to end it:
// systemd takes the like for success of any other service.
func (r *renderer) cleanEnds() string {
	ends := strconv.Itoa(signalled + int(unix.SIGTERM))
	stop := r.one("StopSignal")
	n, err := strconv.Atoi(stop)
	if err != nil {
		n = int(unix.SignalNum("SIG" + strings.TrimPrefix(stop, "SIG")))
	}
	if n > 0 && n != int(unix.SIGTERM) {
		ends += " " + strconv.Itoa(signalled+n)
	}
	return ends
}

// signalled is what a signal's number is added to for an exit status.
const signalled = 128

// commands adds what starts and ends the container.
func (r *renderer) commands(set func(name, value string)) {
	name := r.name()
	remove := []string{"rm", "--volumes", "--force"}
	if r.Engine == unitfile.Podman {
		remove = append(remove, "--ignore") // one that is not there
	}
	remove = append(remove, name)
	switch {
	case r.detached:
		set("Environment", "PODMAN_SYSTEMD_UNIT=%n")
		set("Delegate", "yes")
		set("KillMode", "mixed")
		if !r.oneshot {
			set("Type", "notify")
			set("NotifyAccess", "all")
		}
		set("ExecStart", r.line(r.create()...))
		set("ExecStop", r.line(remove...))
	default:
		if !r.oneshot {
			set("Type", "exec")
		}
		if r.Engine == unitfile.Docker {
			set("ExecStartPre", "-"+r.line(remove...))
		}
		set("ExecStartPre", r.line(r.create()...))
		set("ExecStart", r.line("start", "--attach", name))
		set("ExecStop", "-"+r.line("stop", name)) // it may have ended by itself
	}
	set("ExecStopPost", "-"+r.line(remove...))
}

// told are variables that every unit has; a container gets them, too.
var told = []string{"MUSTER_HOST", "MUSTER_ADDRESS", "MUSTER_UNIT"}

// create is the command that makes the container, and runs it where it is detached.
func (r *renderer) create() []string {
	var args []string
	for _, module := range r.values["ContainersConfModule"] {
		args = append(args, "--module="+module)
	}
	args = append(args, r.values["GlobalArgs"]...)
	verb := "create"
	if r.detached {
		verb = "run"
	}
	args = append(args, verb, "--name="+r.name())
	if r.Engine == unitfile.Podman {
		args = append(args, "--replace")
	}
	if r.detached {
		args = append(args, "--rm")
		if r.one("CgroupsMode") == "" {
			args = append(args, "--cgroups=split")
		}
		if !r.oneshot {
			args = append(args, "--detach", "--sdnotify="+r.notify())
		}
	}
	if r.one("LogDriver") == "" {
		args = append(args, r.logs())
	}
	for _, variable := range told {
		args = append(args, "--env="+variable)
	}
	args = append(args, r.flags()...)
	if r.untimed() {
		args = append(args, "--health-interval=disable")
	}
	args = append(args, r.values["PodmanArgs"]...)
	if root := r.one("Rootfs"); root != "" {
		args = append(args, "--rootfs", root)
	} else {
		args = append(args, r.one("Image"))
	}
	return append(args, r.values["Exec"]...)
}

// logs has what the container prints go to the service's log, and nowhere else.
func (r *renderer) logs() string {
	if r.detached {
		return "--log-driver=passthrough"
	}
	return "--log-driver=none"
}

// flags are those of keys that have one.
func (r *renderer) flags() []string {
	var args []string
	if user := r.one("User"); user != "" {
		if group := r.one("Group"); group != "" {
			user += ":" + group
		}
		args = append(args, "--user="+user)
	}
	for _, k := range keys {
		flag := k.podman
		if r.Engine == unitfile.Docker {
			flag = k.docker
		}
		if flag == "" || k.name == "HealthInterval" && r.untimed() {
			continue
		}
		for _, v := range r.values[k.name] {
			switch alone := k.kind == boolean && !strings.HasSuffix(flag, "="); {
			case !alone:
				args = append(args, flag+v)
			case v == "true":
				args = append(args, flag)
			}
		}
	}
	return args
}

// line is a command of the engine, quoted.
func (r *renderer) line(args ...string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = unitfile.QuoteWord(a)
	}
	return unitfile.QuoteWord(strings.ReplaceAll(r.Path, "%", "%%")) + " " + strings.Join(quoted, " ")
}

// merge puts what was added in front of the file's own, but for a Type= that the rendered service has as well.
func (r *renderer) merge() unitfile.File {
	var f unitfile.File
	section := func(name string) {
		for _, o := range r.file.Options {
			if o.Section == name && (o.Name != "Type" || r.oneshot) {
				f.Options = append(f.Options, o)
			}
		}
	}
	section("Unit")
	f.Options = append(f.Options, r.added...) // to [Unit] first
	section("Service")
	for _, o := range r.file.Options {
		switch o.Section {
		case "Unit", "Service":
			continue
		case "Container":
			o.Section = "X-Container"
		}
		f.Options = append(f.Options, o)
	}
	return f
}
