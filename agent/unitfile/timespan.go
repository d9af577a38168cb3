package unitfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Infinity is a time span without end.
const Infinity = time.Duration(math.MaxInt64)

// spans are the units of time (systemd.time(7), "Parsing time spans").
var spans = map[string]time.Duration{
	"usec": time.Microsecond, "us": time.Microsecond, "µs": time.Microsecond, "μs": time.Microsecond,
	"msec": time.Millisecond, "ms": time.Millisecond,
	"seconds": time.Second, "second": time.Second, "sec": time.Second, "s": time.Second, "": time.Second,
	"minutes": time.Minute, "minute": time.Minute, "min": time.Minute, "m": time.Minute,
	"hours": time.Hour, "hour": time.Hour, "hr": time.Hour, "h": time.Hour,
	"days": 24 * time.Hour, "day": 24 * time.Hour, "d": 24 * time.Hour,
	"weeks": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour, "w": 7 * 24 * time.Hour,
	"months": month, "month": month, "M": month,
	"years": year, "year": year, "y": year,
}

const (
	year  = time.Duration(365.25 * 24 * float64(time.Hour))
	month = time.Duration(30.44 * 24 * float64(time.Hour))
)

// ParseTimespan reads a time span such as "1min 30s", "1.5h", "infinity"; a number alone counts seconds
// (systemd.time(7)).
func ParseTimespan(s string) (time.Duration, error) {
	rest := strings.TrimSpace(s)
	if rest == "infinity" {
		return Infinity, nil
	}
	total := 0.0
	for first := true; first || rest != ""; first = false {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		number, err := strconv.ParseFloat(rest[:digits], 64)
		if err != nil {
			return 0, fmt.Errorf("%q is no time span; write one such as 90, 1min 30s or infinity", s)
		}
		rest = strings.TrimLeft(rest[digits:], whitespace)
		letters := strings.IndexAny(rest, "0123456789. \t")
		if letters < 0 {
			letters = len(rest)
		}
		unit, ok := spans[rest[:letters]]
		if !ok {
			return 0, fmt.Errorf("%q is no unit of time; use ms, s, min, h, d or w", rest[:letters])
		}
		total += number * float64(unit)
		rest = strings.TrimLeft(rest[letters:], whitespace)
	}
	if total >= float64(Infinity) {
		return 0, fmt.Errorf("time span %q is longer than 292 years; write infinity", s)
	}
	return time.Duration(math.Round(total)), nil
}

// ParseBool reads a boolean as systemd does: 1 yes y true t on, 0 no n false f off.
func ParseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither yes nor no", s)
}
