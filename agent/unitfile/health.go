package unitfile

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// HealthCheck says how to ask a unit whether it is well. The zero value is none. The settings of time are named like
// Podman's (podman-systemd.unit(5)) and have their defaults where the file says nothing.
type HealthCheck struct {
	Kind   string // http, tcp, exec, or container: its engine makes the check of HealthCmd=
	Target string // URL, host:port, or command line; of a container none
	// Interval lies between two checks, and Timeout is how long one may take.
	Interval, Timeout time.Duration
	// Retries is how many checks in a row have to fail until the unit is unhealthy.
	Retries int
	// StartPeriod is how long after its start a unit may take until the first check succeeds; failures before do not count.
	StartPeriod time.Duration
	// Restart says that the unit is restarted when it becomes unhealthy (HealthAction=restart).
	Restart bool
}

// The defaults of a health check.
const (
	HealthInterval    = 10 * time.Second
	HealthTimeout     = 5 * time.Second
	HealthRetries     = 3
	HealthStartPeriod = 30 * time.Second
)

// The bounds of its settings. A check every moment would be the load that it shall warn of.
const (
	minHealthTime = 100 * time.Millisecond
	maxHealthTime = 24 * time.Hour
	maxRetries    = 1000
)

// Words cuts the target of a check by a command into what to execute and its arguments.
func (h HealthCheck) Words() ([]string, error) { return SplitWords(h.Target) }

// Patience is how long a unit may take from its start until it is known to be unhealthy.
func (h HealthCheck) Patience() time.Duration {
	return h.StartPeriod + time.Duration(h.Retries)*(h.Interval+h.Timeout)
}

// healthKeys are those of [X-Muster] that say how a check is made.
var healthKeys = []string{"HealthInterval", "HealthTimeout", "HealthRetries", "HealthStartPeriod", "HealthAction"}

// completeHealth fills in what the file leaves open.
func (r *xReader) completeHealth(f File) {
	h := &r.muster.HealthCheck
	_, tried := r.given["HealthCheck"]
	if engines, ok := f.containerHealth(); ok && !tried {
		h.Kind = engines.Kind
		h.Interval, h.Timeout = cmp.Or(h.Interval, engines.Interval), cmp.Or(h.Timeout, engines.Timeout)
		h.Retries, h.StartPeriod = cmp.Or(h.Retries, engines.Retries), cmp.Or(h.StartPeriod, engines.StartPeriod)
		return
	}
	if h.Kind == "" {
		*h = HealthCheck{}
		for _, key := range healthKeys {
			if o, ok := r.given[key]; ok && !tried {
				r.fail(o, "add HealthCheck= with what to ask, or remove it", "there is no `HealthCheck` beside it")
			}
		}
		return
	}
	if h.Interval == 0 {
		h.Interval = HealthInterval
	}
	if h.Timeout == 0 {
		h.Timeout = HealthTimeout
	}
	if h.Retries == 0 {
		h.Retries = HealthRetries
	}
	if o, ok := r.given["HealthStartPeriod"]; !ok || o.Value == "" {
		h.StartPeriod = HealthStartPeriod
	}
}

// containerHealth is the check that a container brings with it: HealthCmd= of [Container], with the settings beside it, and
// the defaults that engines have (podman-run(1), "--health-interval"). It is false for one that nobody is to make.
func (f File) containerHealth() (HealthCheck, bool) {
	last := map[string]string{}
	for _, o := range f.Section(xContainer) {
		last[o.Name] = strings.TrimSpace(o.Value)
	}
	if cmd := last["HealthCmd"]; cmd == "" || cmd == "none" || last["HealthInterval"] == "disable" {
		return HealthCheck{}, false
	}
	span := func(key string, otherwise time.Duration) time.Duration {
		d, err := time.ParseDuration(last[key])
		if err != nil { // none, or one with a specifier
			return otherwise
		}
		return min(max(d, minHealthTime), maxHealthTime)
	}
	h := HealthCheck{Kind: "container", Retries: HealthRetries}
	h.Interval, h.Timeout = span("HealthInterval", 30*time.Second), span("HealthTimeout", 30*time.Second)
	h.StartPeriod = span("HealthStartPeriod", 0) + h.Interval // for an engine that makes the first check that late
	if n, err := strconv.Atoi(last["HealthRetries"]); err == nil && n > 0 {
		h.Retries = min(n, maxRetries)
	}
	return h, true
}

func (r *xReader) healthCheck(o Option, value string) {
	const hint = "write http://127.0.0.1:8080/path, tcp://127.0.0.1:5432 or exec:/path/of/command argument"
	value, err := Expand(value, r.unit, HostSpecifiers{})
	if err != nil {
		r.fail(o, "it knows the specifiers %n %N %p %i", "%v", err)
		return
	}
	h := &r.muster.HealthCheck
	if command, ok := strings.CutPrefix(value, "exec:"); ok {
		if words, err := splitWords(command); err != nil || len(words) == 0 || !path.IsAbs(words[0].text) {
			r.fail(o, hint, "%q is no command with an absolute path", command)
			return
		}
		h.Kind, h.Target = "exec", strings.TrimSpace(command)
		return
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "tcp"}, u.Scheme):
		r.fail(o, hint, "%q is no check", value)
	case u.Scheme != "tcp":
		h.Kind, h.Target = "http", value
	case u.Path != "" || u.User != nil || u.RawQuery != "" || !hasPort(u.Host):
		r.fail(o, hint, "%q is not tcp://HOST:PORT", value)
	default:
		h.Kind, h.Target = "tcp", u.Host
	}
}

func hasPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	n, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && bad == nil && n > 0
}

func (r *xReader) healthInterval(o Option, value string) {
	r.healthTime(o, value, minHealthTime, &r.muster.HealthCheck.Interval)
}

func (r *xReader) healthTimeout(o Option, value string) {
	r.healthTime(o, value, minHealthTime, &r.muster.HealthCheck.Timeout)
}

func (r *xReader) healthStartPeriod(o Option, value string) {
	r.healthTime(o, value, 0, &r.muster.HealthCheck.StartPeriod)
}

func (r *xReader) healthTime(o Option, value string, least time.Duration, into *time.Duration) {
	d, err := ParseTimespan(value)
	if err != nil || d < least || d > maxHealthTime || d == math.MaxInt64 {
		r.fail(o, fmt.Sprintf("write a time span from %v to %v, such as 10s", least, maxHealthTime), "%q is too short, too long, or no time span", value)
		return
	}
	*into = d
}

func (r *xReader) healthRetries(o Option, value string) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > maxRetries {
		r.fail(o, fmt.Sprintf("write how many checks in a row have to fail, from 1 to %d", maxRetries), "%q is no number of checks", value)
		return
	}
	r.muster.HealthCheck.Retries = n
}

func (r *xReader) healthAction(o Option, value string) {
	switch value {
	case "none": // it is reported, and nothing else happens
	case "restart":
		r.muster.HealthCheck.Restart = true
	default:
		r.fail(o, "write none or restart", "%q is not known", value)
	}
}
