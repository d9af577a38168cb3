package journal

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/runtime"
)

// MaxEntry bounds an entry as journalctl writes it, in bytes. Programs that speak to journald themselves may write longer
// ones.
const MaxEntry = 1 << 20

// Fields are those of an entry that Parse needs, for journalctl's --output-fields.
const Fields = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_COMM,_PID"

// Parse reads an entry as `journalctl --output=json` writes it (systemd.journal-fields(7), journalctl(1)): a text is a
// string, or numbers where it is not UTF-8, or null where journalctl leaves it out, or several of these.
func Parse(line []byte) (runtime.LogEntry, error) {
	var e struct {
		Time       string          `json:"__REALTIME_TIMESTAMP"`
		Message    json.RawMessage `json:"MESSAGE"`
		Level      json.RawMessage `json:"PRIORITY"`
		Identifier json.RawMessage `json:"SYSLOG_IDENTIFIER"`
		Command    json.RawMessage `json:"_COMM"`
		PID        json.RawMessage `json:"_PID"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return runtime.LogEntry{}, fmt.Errorf("cannot read what journalctl wrote: %w", err)
	}
	micros, err := strconv.ParseInt(e.Time, 10, 64)
	if err != nil {
		return runtime.LogEntry{}, fmt.Errorf("cannot read what journalctl wrote: an entry of time %q", e.Time)
	}
	entry := runtime.LogEntry{
		Time: time.UnixMicro(micros), Level: runtime.DefaultLevel, Message: text(e.Message), Identifier: string(text(e.Identifier)),
	}
	if entry.Identifier == "" {
		entry.Identifier = string(text(e.Command))
	}
	if n, err := strconv.Atoi(string(text(e.Level))); err == nil && n >= 0 && n < len(levels) {
		entry.Level = n
	}
	if n, err := strconv.Atoi(string(text(e.PID))); err == nil && n > 0 {
		entry.PID = n
	}
	return entry, nil
}

// text is the value of a field, nil when it has none.
func text(value json.RawMessage) []byte {
	if len(value) == 0 {
		return nil
	}
	switch value[0] {
	case '"':
		var s string
		if json.Unmarshal(value, &s) == nil {
			return []byte(s)
		}
	case '[':
		var bytes []byte
		if json.Unmarshal(value, &bytes) == nil {
			return bytes
		}
		var several []json.RawMessage
		if json.Unmarshal(value, &several) == nil {
			var parts []string
			for _, one := range several {
				if one[0] != '[' || len(parts) == 0 { // no deeper than journalctl goes
					parts = append(parts, string(text(one)))
				}
			}
			return []byte(strings.Join(parts, "\n"))
		}
	}
	return nil
}

// levels are the names of syslog's severities, as journalctl has them.
var levels = []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}

// Levels are the names of syslog's severities, the most severe first.
func Levels() []string { return levels[:len(levels):len(levels)] }

// ParseLevels turns the least severity to show, a name or a number as journalctl takes them, into how many that are. "" is
// all of them, 0.
func ParseLevels(least string) (int, error) {
	if least == "" {
		return 0, nil
	}
	for i, name := range levels {
		if least == name || least == strconv.Itoa(i) {
			return i + 1, nil
		}
	}
	return 0, fmt.Errorf("there is no priority %q; choose %s", least, strings.Join(levels, ", "))
}

// Printed is the entry of a line that a unit printed. A severity in front of it, <3>, counts as journald has it count
// (sd-daemon(3)).
func Printed(line []byte, at time.Time) runtime.LogEntry {
	e := runtime.LogEntry{Time: at, Level: runtime.DefaultLevel, Message: line}
	if len(line) >= 3 && line[0] == '<' && line[1] >= '0' && line[1] <= '7' && line[2] == '>' {
		e.Level, e.Message = int(line[1]-'0'), line[3:]
	}
	return e
}
