// Package window knows the times of the week at which hosts may be disturbed, in time zones. It is pure: whether a window is open
// follows from the window and the time that it is given. It knows nothing of what is done in it.
package window

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // hosts' images may lack the database, and a window must mean the same on all of them
)

// Window is a time of the week at which hosts may update, in a time zone. It begins at a time of day as clocks on the wall have
// it: where daylight saving leaves that time out it begins when clocks have passed it, and where it comes twice, at the first.
// It lasts as long as it says, whatever clocks do meanwhile.
type Window struct {
	Days  []string      `json:"days,omitempty"` // Mon, Tue, Wed, Thu, Fri, Sat, Sun; empty is every day
	Start string        `json:"start"`          // 23:00
	Last  time.Duration `json:"last"`           // up to a week
	Zone  string        `json:"zone,omitempty"` // of the IANA time zone database: Europe/Berlin; empty is UTC
}

const week = 7 * 24 * time.Hour

// String is how people write it: Thu 23:00 1h30m0s Europe/Berlin.
func (w Window) String() string {
	parts := []string{w.Start, w.Last.String()}
	if len(w.Days) > 0 {
		parts = append([]string{strings.Join(w.Days, ",")}, parts...)
	}
	if w.Zone != "" {
		parts = append(parts, w.Zone)
	}
	return strings.Join(parts, " ")
}

// Parse reads "[Mon,Thu ]23:00 2h[ Europe/Berlin]", the first words as locksmith has them.
func Parse(text string) (Window, error) {
	const form = "write it as `Mon,Thu 23:00 2h Europe/Berlin`; days and zone may be left out"
	words := strings.Fields(text)
	var w Window
	if len(words) > 0 && !strings.Contains(words[0], ":") {
		w.Days, words = strings.Split(words[0], ","), words[1:]
	}
	if len(words) < 2 || len(words) > 3 {
		return Window{}, fmt.Errorf("cannot read the window %q: %s", text, form)
	}
	last, err := time.ParseDuration(words[1])
	if err != nil {
		return Window{}, fmt.Errorf("cannot read the window %q: %q is no duration; %s", text, words[1], form)
	}
	w.Start, w.Last = words[0], last
	if len(words) == 3 {
		w.Zone = words[2]
	}
	if err := w.Check(); err != nil {
		return Window{}, fmt.Errorf("cannot read the window %q: %w; %s", text, err, form)
	}
	return w, nil
}

// Check tells what is wrong with a window.
func (w Window) Check() error {
	_, err := w.parse()
	return err
}

// parsed is a window that was understood.
type parsed struct {
	days         [7]bool
	hour, minute int
	last         time.Duration
	zone         *time.Location
}

var weekdays = map[string]time.Weekday{
	"sun": time.Sunday, "mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday, "thu": time.Thursday, "fri": time.Friday,
	"sat": time.Saturday,
}

func (w Window) parse() (parsed, error) {
	p := parsed{last: w.Last}
	start, err := time.Parse("15:04", w.Start)
	if err != nil {
		return p, fmt.Errorf("%q is no time of day", w.Start)
	}
	p.hour, p.minute = start.Hour(), start.Minute()
	if w.Last <= 0 || w.Last > week {
		return p, errors.New("it lasts no time, or more than a week")
	}
	if p.zone, err = time.LoadLocation(w.Zone); err != nil || w.Zone == "Local" {
		return p, fmt.Errorf("there is no time zone %q", w.Zone)
	}
	for _, day := range w.Days {
		weekday, ok := weekdays[strings.ToLower(day)]
		if !ok {
			return p, fmt.Errorf("%q is no day: use Mon to Sun", day)
		}
		p.days[weekday] = true
	}
	if len(w.Days) == 0 {
		p.days = [7]bool{true, true, true, true, true, true, true}
	}
	return p, nil
}

// State tells whether a window that Check finds nothing wrong with is open, and when it next opens, or closes if it is open. One that
// is wrong never opens.
func (w Window) State(now time.Time) (open bool, next time.Time) {
	p, err := w.parse()
	if err != nil {
		return false, time.Time{}
	}
	return p.state(now)
}

// state tells whether the window is open, and when it next opens, or closes if it is open.
func (p parsed) state(now time.Time) (open bool, next time.Time) {
	local := now.In(p.zone)
	for day := -8; day <= 8; day++ {
		// Noon exists on every day, so that the date that it has is the one that is meant.
		noon := time.Date(local.Year(), local.Month(), local.Day()+day, 12, 0, 0, 0, p.zone)
		if !p.days[noon.Weekday()] {
			continue
		}
		begin := p.begin(noon)
		end := begin.Add(p.last)
		switch {
		case begin.After(now):
			if open {
				return true, next
			}
			return false, begin
		case end.After(now) && (!open || end.After(next)):
			open, next = true, end
		}
	}
	return open, next
}

// begin is when the window opens on a day.
func (p parsed) begin(noon time.Time) time.Time {
	y, m, d := noon.Date()
	t := time.Date(y, m, d, p.hour, p.minute, 0, 0, p.zone)
	if t.Hour() == p.hour && t.Minute() == p.minute {
		// Clocks that are put back show this time twice, and which of the two the library gives is not said.
		if earlier := sameClock(t, p.zone); earlier.Before(t) {
			return earlier
		}
		return t
	}
	return gapEnd(t, y, m, d, p)
}

// sameClock is the first moment that shows the time of t within three hours before it.
func sameClock(t time.Time, zone *time.Location) time.Time {
	first := t
	for back := 15 * time.Minute; back <= 3*time.Hour; back += 15 * time.Minute {
		e := t.Add(-back).In(zone)
		if e.Day() == t.Day() && e.Hour() == t.Hour() && e.Minute() == t.Minute() {
			first = e
		}
	}
	return first
}

// gapEnd is the first minute of a day whose clocks show a later time than the one that they leave out.
func gapEnd(near time.Time, y int, m time.Month, d int, p parsed) time.Time {
	for t := near.Add(-3 * time.Hour); ; t = t.Add(time.Minute) {
		ty, tm, td := t.Date()
		if ty == y && tm == m && td == d && t.Hour()*60+t.Minute() >= p.hour*60+p.minute {
			return t
		}
		if t.Sub(near) > 6*time.Hour {
			return near
		}
	}
}
