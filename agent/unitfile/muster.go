package unitfile

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// xMuster is the section for what fleet did not have.
const xMuster = "X-Muster"

// MaxReplicas is how many instances one template may ask for. MaxOwnRules is how many of a template whose rules differ
// from instance to instance (%i): those are placed one by one.
const (
	MaxReplicas = 1_000_000
	MaxOwnRules = 10_000
)

// maxPriority bounds Priority on both sides of zero.
const maxPriority = 1000

// Muster is what [X-Muster] says of a unit beside its placement rules, which are Requirements.
type Muster struct {
	// Replicated says that Replicas was given. The instances are named 1 to Replicas; they follow from the template and
	// have no files of their own. Only templates are replicated.
	Replicated bool
	Replicas   int
	// Strict is Singleton=strict: never two at once. StopCutOff is OnPartition=stop: not on a host without contact to the
	// store.
	Strict      bool
	StopCutOff  bool
	HealthCheck HealthCheck
	// UpdateParallel is how many instances, or hosts of a global unit, get new contents at once; with the zero value all
	// do. UpdateDelay is how long to wait after some are well until the next ones.
	UpdateParallel Share
	UpdateDelay    time.Duration
	// Engine is what shall run a container: podman or docker, "" for what its host has.
	Engine string
}

// Share is a number of instances, or a percentage of all of them. The zero value is none.
type Share struct {
	Count   int
	Percent int
}

// musterKeys are those of [X-Muster], with what reads each value.
var musterKeys = map[string]func(r *xReader, o Option, value string){
	"Replicas": (*xReader).replicas, "Spread": (*xReader).spread, "CPU": (*xReader).cpu, "Memory": (*xReader).memory,
	"Priority": (*xReader).priority, "Singleton": (*xReader).singleton, "OnPartition": (*xReader).onPartition,
	"HealthCheck": (*xReader).healthCheck, "HealthInterval": (*xReader).healthInterval,
	"HealthTimeout": (*xReader).healthTimeout, "HealthRetries": (*xReader).healthRetries,
	"HealthStartPeriod": (*xReader).healthStartPeriod, "HealthAction": (*xReader).healthAction,
	"UpdateParallel": (*xReader).updateParallel, "UpdateDelay": (*xReader).updateDelay,
	"Engine": (*xReader).engine,
}

// Muster returns what [X-Muster] says beside placement rules. What is wrong with the section is among the findings of
// Requirements.
func (f File) Muster(unitName string) Muster {
	r := f.readMuster(unitName)
	return r.muster
}

// HasOwnRules says whether placement rules of a template's instances may differ, because a specifier is among them.
func (f File) HasOwnRules() bool {
	return slices.ContainsFunc(f.Options, func(o Option) bool {
		return o.Section == xFleet && strings.Contains(strings.ReplaceAll(o.Value, "%%", ""), "%")
	})
}

// xReader reads [X-Muster] of one unit.
type xReader struct {
	unit     string
	muster   Muster
	rules    Requirements // of which it fills Spread, MilliCPU, Memory and Priority
	given    map[string]Option
	problems finding.Findings
}

// readMuster reads the last assignment of each key; an empty one means the default.
func (f File) readMuster(unitName string) *xReader {
	r := &xReader{unit: unitName, given: map[string]Option{}}
	for _, o := range f.Options {
		if o.Section != xMuster {
			continue
		}
		if delete(r.given, o.Name); o.Value != "" {
			r.given[o.Name] = o
		}
	}
	for _, o := range f.Options {
		if read := musterKeys[o.Name]; read != nil && o.Section == xMuster && r.given[o.Name] == o {
			read(r, o, strings.TrimSpace(join(o.Value)))
		}
	}
	r.completeHealth(f)
	return r
}

func (r *xReader) fail(o Option, hint, format string, args ...any) {
	r.problems.Add(o.at(r.unit, 0), hint, "`%s`: %s", o.Name, fmt.Sprintf(format, args...))
}

func (r *xReader) replicas(o Option, value string) {
	if _, instance := Template(r.unit); instance {
		return // the template's file, under the name of one instance
	}
	if !IsTemplate(r.unit) {
		r.fail(o, "name the unit "+asTemplate(r.unit), "only a template has replicas, and %s is none", r.unit)
		return
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > MaxReplicas {
		r.fail(o, fmt.Sprintf("write how many instances shall run, at most %d", MaxReplicas), "%q is no number of instances", value)
		return
	}
	r.muster.Replicated, r.muster.Replicas = true, n
}

// asTemplate is the name that a unit would have as a template.
func asTemplate(name string) string {
	base, suffix := splitType(name)
	return base + "@." + suffix
}

var labelName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

func (r *xReader) spread(o Option, value string) {
	_, instance := Template(r.unit)
	switch {
	case !IsTemplate(r.unit) && !instance:
		r.fail(o, "name the unit "+asTemplate(r.unit), "it spreads the instances of a template, and %s is none", r.unit)
	case !labelName.MatchString(value):
		r.fail(o, "write host, provider or the name of one label", "%q is no label", value)
	default:
		r.rules.Spread = value
	}
}

func (r *xReader) cpu(o Option, value string) {
	n, err := strconv.ParseFloat(value, 64)
	milli := math.Round(n * 1000)
	if err != nil || strings.ContainsAny(value, "eExX_") || !(milli >= 1 && milli <= 1e9) || math.Abs(n*1000-milli) > 1e-6 {
		r.fail(o, "write how many of the host's CPUs, such as 2 or 0.25", "%q is no number of CPUs", value)
		return
	}
	r.rules.MilliCPU = int64(milli)
}

// sizes are systemd's suffixes of sizes (systemd.resource-control(5), "MemoryMax="), to the base of 1024.
var sizes = map[string]float64{"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

func (r *xReader) memory(o Option, value string) {
	number := strings.TrimRight(value, "BKMGT")
	n, err := strconv.ParseFloat(number, 64)
	size, known := sizes[value[len(number):]]
	bytes := math.Round(n * size)
	if err != nil || !known || strings.ContainsAny(value, "eExX_") || !(bytes >= 1 && bytes <= 1<<60) {
		r.fail(o, "write bytes, or a number with K, M, G or T, such as 512M", "%q is no size", value)
		return
	}
	r.rules.Memory = int64(bytes)
}

func (r *xReader) priority(o Option, value string) {
	n, err := strconv.Atoi(value)
	if err != nil || n < -maxPriority || n > maxPriority {
		r.fail(o, fmt.Sprintf("write a number from %d to %d; the higher is placed first", -maxPriority, maxPriority),
			"%q is no priority", value)
		return
	}
	r.rules.Priority = n
}

func (r *xReader) updateParallel(o Option, value string) {
	number, percent := strings.CutSuffix(value, "%")
	n, err := strconv.Atoi(number)
	switch {
	case err != nil || n < 1 || n > MaxReplicas || percent && n > 100:
		r.fail(o, "write how many are updated at once, such as 2 or 25%", "%q is no number of instances", value)
	case percent:
		r.muster.UpdateParallel = Share{Percent: n}
	default:
		r.muster.UpdateParallel = Share{Count: n}
	}
}

func (r *xReader) updateDelay(o Option, value string) {
	d, err := ParseTimespan(value)
	if err != nil {
		r.fail(o, "", "%v", err)
		return
	}
	r.muster.UpdateDelay = d
}

// The engines that run containers.
const (
	Podman = "podman"
	Docker = "docker"
)

func (r *xReader) engine(o Option, value string) {
	if value != Podman && value != Docker {
		r.fail(o, "write podman or docker, or remove it: the host decides", "%q is no engine", value)
		return
	}
	r.muster.Engine = value
}
