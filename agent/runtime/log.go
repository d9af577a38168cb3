package runtime

import "time"

// LogQuery chooses entries of a unit's log.
type LogQuery struct {
	Lines  int       // the last ones of those that the rest chooses; negative for all
	Since  time.Time // none that are older; zero for no such bound
	Levels int       // how many of syslog's severities, from 0 emerg on: 4 for emerg to err; 0 for all
	System bool      // also what the system says of the unit, such as that it was started, where it says so in a log
	Follow bool      // go on with what is written later
}

// LogEntry is one message of a unit's log, most often a line.
type LogEntry struct {
	Time       time.Time // when it was written, zero where that is not known
	Level      int       // syslog's severity (RFC 5424, section 6.2.1): 0 emerg to 7 debug
	Identifier string    // what wrote it, mostly the name of a program; "" where that is not known
	PID        int       // 0 where that is not known
	Message    []byte    // without a newline at its end
}

// DefaultLevel is the severity of what a unit just prints: info.
const DefaultLevel = 6
