package unitfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// decoder reads typed settings of one section and gathers what is wrong with them.
type decoder struct {
	file     File
	name     string // of the unit, for positions
	section  string
	problems finding.Findings
	warnings finding.Findings
}

// in returns a decoder of another section, whose findings take hands back.
func (d *decoder) in(section string) *decoder {
	return &decoder{file: d.file, name: d.name, section: section}
}

func (d *decoder) take(other *decoder) {
	d.problems = append(d.problems, other.problems...)
	d.warnings = append(d.warnings, other.warnings...)
}

func (d *decoder) fail(o Option, err error, hint string) {
	d.problems = append(d.problems, explain(o, d.name, err, hint))
}

func (d *decoder) choice(key string, into *string, words ...string) {
	o, ok := d.file.last(d.section, key)
	if !ok {
		return
	}
	if !slices.Contains(words, o.Value) {
		hint := didYouMean(o.Value, words)
		if hint == "" {
			hint = "use one of " + strings.Join(words, ", ")
		}
		d.fail(o, fmt.Errorf("%q is not known", o.Value), hint)
		return
	}
	*into = o.Value
}

func (d *decoder) boolean(key string, into *bool) {
	if o, ok := d.file.last(d.section, key); ok {
		value, err := ParseBool(o.Value)
		if err != nil {
			d.fail(o, err, "write yes or no")
			return
		}
		*into = value
	}
}

func (d *decoder) timespan(key string, into *time.Duration) {
	if o, ok := d.file.last(d.section, key); ok {
		value, err := ParseTimespan(join(o.Value))
		if err != nil {
			d.fail(o, err, "")
			return
		}
		*into = value
	}
}

func (d *decoder) number(key string, into *int) {
	if o, ok := d.file.last(d.section, key); ok {
		value, err := strconv.ParseUint(o.Value, 10, 31)
		if err != nil {
			d.fail(o, fmt.Errorf("%q is no whole number", o.Value), "write one such as 5")
			return
		}
		*into = int(value)
	}
}

func (d *decoder) commands(key string) []Command {
	var all []Command
	for _, o := range d.file.options(d.section, key) {
		commands, odd, err := parseCommands(join(o.Value))
		if err != nil {
			d.fail(o, err, "")
			continue
		}
		for _, offset := range odd[:min(len(odd), maxFindings)] {
			d.warnings.Add(o.at(d.name, offset), `write \\ for a backslash`, "`%s`: unknown escape, kept as it is", o.Name)
		}
		all = append(all, commands...)
	}
	return all
}

// path reads a path that - in front makes optional. Other words that may stand for a path are given.
func (d *decoder) path(o Option, others ...string) OptionalPath {
	p := OptionalPath{Path: join(o.Value)}
	p.Path, p.Optional = strings.TrimPrefix(p.Path, "-"), strings.HasPrefix(p.Path, "-")
	if !strings.HasPrefix(p.Path, "/") && !strings.HasPrefix(p.Path, "%") && !slices.Contains(others, p.Path) {
		d.fail(o, fmt.Errorf("%q is no path from / on", p.Path), "")
	}
	return p
}

func (d *decoder) exits(key string, into *ExitSet) {
	for _, o := range d.file.options(d.section, key) {
		for _, w := range strings.Fields(join(o.Value)) {
			if err := into.add(w); err != nil {
				d.fail(o, err, "write numbers from 0 to 255 and signals such as SIGKILL")
			}
		}
	}
}

// exitCodes are the names of exit statuses that systemd knows (systemd.exec(5), "Process exit codes": libc, BSD).
var exitCodes = map[string]int{
	"SUCCESS": 0, "FAILURE": 1, "INVALIDARGUMENT": 2, "NOTIMPLEMENTED": 3, "NOPERMISSION": 4, "NOTINSTALLED": 5,
	"NOTCONFIGURED": 6, "NOTRUNNING": 7, "USAGE": 64, "DATAERR": 65, "NOINPUT": 66, "NOUSER": 67, "NOHOST": 68,
	"UNAVAILABLE": 69, "SOFTWARE": 70, "OSERR": 71, "OSFILE": 72, "CANTCREAT": 73, "IOERR": 74, "TEMPFAIL": 75,
	"PROTOCOL": 76, "NOPERM": 77, "CONFIG": 78,
}

func (s *ExitSet) add(word string) error {
	code, named := exitCodes[word]
	if n, err := strconv.Atoi(word); err == nil {
		code, named = n, n >= 0 && n <= 255
		if !named {
			return fmt.Errorf("%q is no exit status", word)
		}
	}
	if named {
		if s.Codes == nil {
			s.Codes = map[int]bool{}
		}
		s.Codes[code] = true
		return nil
	}
	name, err := signalName(word)
	if err != nil {
		return fmt.Errorf("%q is neither an exit status nor a signal", word)
	}
	if s.Signals == nil {
		s.Signals = map[string]bool{}
	}
	s.Signals[name] = true
	return nil
}

// signals are the names that POSIX and Linux give signals (signal(7)).
var signals = strings.Fields(`SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2
	SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM
	SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS`)

// signalName returns a signal's name with SIG in front, or a number as it is.
func signalName(s string) (string, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= 64 {
		return s, nil
	}
	name := "SIG" + strings.TrimPrefix(s, "SIG")
	if !slices.Contains(signals, name) {
		return "", &SyntaxError{Message: fmt.Sprintf("%q is no signal", s), Hint: didYouMean(name, signals)}
	}
	return name, nil
}
