package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/unitfile"
)

// Logs implements runtime.Runtime. Units that were unloaded not long ago still have theirs. Nothing but the unit itself
// writes to its log, so there is no more with q.System.
func (rt *Runtime) Logs(ctx context.Context, name string, q runtime.LogQuery, yield func([]runtime.LogEntry) error) error {
	if err := unitfile.CheckName(name); err != nil {
		return fmt.Errorf("cannot read logs: %w", err)
	}
	dir := filepath.Join(rt.config.Dir, dirName(name))
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("cannot read the log of %s: %w", name, runtime.ErrNotLoaded)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(rt.ctx, func() { cancel(errClosed) })
	defer stop()
	t := newTail(dir, q, yield)
	err := t.history(q)
	switch {
	case err != nil:
	case q.Follow:
		err = t.follow(ctx, rt.grown)
	default:
		err = t.lines.End()
	}
	if err != nil {
		return fmt.Errorf("cannot read the log of %s: %w", name, err)
	}
	return nil
}

// copyFrom copies a file from an offset on and returns where it ended. A missing file is empty.
func copyFrom(w io.Writer, path string, offset int64) (int64, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.Copy(w, f)
	return offset + n, err
}

// tailOffset returns where the last lines of a file begin, and how many there are.
func tailOffset(path string, lines int) (offset int64, found int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || lines < 0 {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	size := info.Size()
	if lines == 0 {
		return size, 0, nil
	}
	block := make([]byte, 32<<10)
	for end := size; end > 0; {
		begin := max(0, end-int64(len(block)))
		part := block[:end-begin]
		if _, err := f.ReadAt(part, begin); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := len(part); ; {
			i = bytes.LastIndexByte(part[:i], '\n')
			if i < 0 {
				break
			}
			if begin+int64(i) == size-1 {
				continue // the end of the last line
			}
			if found++; found == lines {
				return begin + int64(i) + 1, found, nil
			}
		}
		end = begin
	}
	if size > 0 {
		found++
	}
	return 0, found, nil
}

// logPause is how long a log that grows is left alone between two looks at its size.
const logPause = time.Second

// boundLog notes when the log grew, and moves it out of the way whenever it has become too large. It copies and truncates, because the unit
// has the file open. What is written between the last look at the file and the cut, microseconds later, is lost.
func (u *unit) boundLog(ctx context.Context) {
	for ctx.Err() == nil {
		news, forget, err := u.rt.grown.next(u.path(logFile))
		if err != nil {
			u.log.Warn("cannot watch the size of a log", "error", err)
			return
		}
		if u.noteTime(); u.noted > u.rt.config.LogLimit {
			if err := u.moveLog(); err != nil {
				u.log.Warn("cannot move a log", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			forget()
			return
		case <-news:
		}
		u.noteTime()
		pause := time.NewTimer(logPause)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// maxLooks bounds the pursuit of a unit that writes as fast as its log is copied.
const maxLooks = 64

// moveLog makes log.1 of the log.
func (u *unit) moveLog() error {
	f, err := os.OpenFile(u.path(oldLogFile)+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	for copied, end, looks := int64(-1), int64(0), 0; err == nil && end > copied && looks < maxLooks; looks++ {
		copied = end
		end, err = copyFrom(f, u.path(logFile), copied) // what was added meanwhile
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := os.Rename(u.path(oldLogFile)+".new", u.path(oldLogFile)); err != nil {
		return err
	}
	if err := os.Rename(u.path(timesFile), u.path(oldTimesFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Truncate(u.path(logFile), 0)
}
