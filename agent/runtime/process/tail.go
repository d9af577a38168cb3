package process

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/musterhq/muster/agent/journal"
	"github.com/musterhq/muster/agent/runtime"
)

// tail hands on what is in the log of a unit.
type tail struct {
	dir    string
	choose func(runtime.LogEntry) bool // whether an entry is to be shown
	yield  func([]runtime.LogEntry) error
	lines  *journal.Lines

	offset int64    // of what is to be read next in the log
	times  logTimes // of the file that is being read
	at     int64    // offset there of the next line that lines hands on
	kept   *newest  // collects entries in place of yield; nil for none
}

func newTail(dir string, q runtime.LogQuery, yield func([]runtime.LogEntry) error) *tail {
	t := &tail{dir: dir, yield: yield}
	t.choose = func(e runtime.LogEntry) bool {
		return (q.Levels == 0 || e.Level < q.Levels) && !e.Time.Before(q.Since)
	}
	t.lines = &journal.Lines{Each: t.each}
	return t
}

func (t *tail) path(name string) string { return filepath.Join(t.dir, name) }

// each hands on lines that were read.
func (t *tail) each(lines [][]byte) error {
	entries := make([]runtime.LogEntry, 0, len(lines))
	for _, line := range lines {
		e := journal.Printed(bytes.TrimSuffix(line, []byte("\n")), t.times.of(t.at))
		t.at += int64(len(line))
		if t.choose(e) {
			entries = append(entries, e)
		}
	}
	switch {
	case len(entries) == 0:
		return nil
	case t.kept != nil:
		t.kept.add(entries)
		return nil
	}
	return t.yield(entries)
}

// history hands on what is there. The last of some entries only are known when all were read.
func (t *tail) history(q runtime.LogQuery) error {
	if q.Lines <= 0 || q.Levels == 0 && q.Since.IsZero() {
		return t.last(q.Lines)
	}
	t.kept = &newest{limit: q.Lines}
	if err := t.last(-1); err != nil {
		return err
	}
	kept := t.kept.entries
	t.kept = nil
	for len(kept) > 0 {
		n, size := 0, 0
		for n < len(kept) && size < batch {
			size += len(kept[n].Message)
			n++
		}
		if err := t.yield(kept[:n]); err != nil {
			return err
		}
		kept = kept[n:]
	}
	return nil
}

// batch is how much is handed on at once, in bytes and give or take a line.
const batch = 32 << 10

// newest are the last entries, up to a limit.
type newest struct {
	limit   int
	entries []runtime.LogEntry
}

func (n *newest) add(entries []runtime.LogEntry) {
	for _, e := range entries {
		e.Message = bytes.Clone(e.Message)
		n.entries = append(n.entries, e)
	}
	if over := len(n.entries) - n.limit; over > 0 {
		n.entries = append(n.entries[:0], n.entries[over:]...)
	}
}

// last reads the last lines of both logs, all of them when lines is negative.
func (t *tail) last(lines int) error {
	from, found, err := tailOffset(t.path(logFile), lines)
	if err != nil {
		return err
	}
	if lines < 0 || found < lines {
		rest := lines
		if lines >= 0 {
			rest = lines - found
		}
		begin, _, err := tailOffset(t.path(oldLogFile), rest)
		if err == nil {
			_, err = t.read(oldLogFile, readTimes(t.path(oldTimesFile), t.path(oldLogFile)), begin)
		}
		if err != nil {
			return err
		}
	}
	t.offset, err = t.read(logFile, readTimes(t.path(timesFile), t.path(logFile)), from)
	return err
}

// read reads a log from an offset on and returns where it ended.
func (t *tail) read(name string, times logTimes, from int64) (int64, error) {
	t.times, t.at = times, from-int64(t.lines.Pending())
	return copyFrom(t.lines, t.path(name), from)
}

// follow hands on what is written, until ctx ends.
func (t *tail) follow(ctx context.Context, grown *notifier) error {
	for {
		news, forget, err := grown.next(t.path(logFile))
		if err != nil {
			return err
		}
		if err := t.catchUp(); err != nil {
			forget()
			return err
		}
		select {
		case <-ctx.Done():
			forget()
			if errors.Is(context.Cause(ctx), errClosed) {
				return errClosed
			}
			return nil
		case <-news:
		}
	}
}

// catchUp reads what is new. It was written when the log was written to last, or a moment before.
func (t *tail) catchUp() error {
	info, err := os.Stat(t.path(logFile))
	if err != nil {
		return err
	}
	now := logTimes{last: info.ModTime()}
	if info.Size() < t.offset { // moved to log.1
		if _, err := t.read(oldLogFile, now, t.offset); err != nil {
			return err
		}
		t.offset = 0
	}
	t.offset, err = t.read(logFile, now, t.offset)
	return err
}
