package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// pingInterval is how often a quiet watch sends a comment, so that both sides notice when the other is gone.
const pingInterval = 10 * time.Second

// watchStatus serves Server-Sent Events (WHATWG HTML, section 9.2): one `data:` line, the status as JSON, per change.
func (s *Server) watchStatus(w http.ResponseWriter, r *http.Request) error {
	events := &eventStream{w: w, control: http.NewResponseController(w)}
	ctx, cancel := context.WithCancel(r.Context())
	statuses, ended := make(chan Status), make(chan error, 1)
	go func() {
		defer close(statuses)
		ended <- s.Fleet.WatchStatus(ctx, func(st Status) bool {
			select {
			case statuses <- st:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	events.copy(statuses)
	cancel()
	if err := <-ended; err != nil && !events.started {
		return err
	}
	return nil
}

type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	started bool
}

// copy sends statuses until there are no more or the reader has gone.
func (e *eventStream) copy(statuses <-chan Status) {
	ping := time.NewTicker(pingInterval)
	defer ping.Stop()
	for {
		var err error
		select {
		case st, ok := <-statuses:
			if !ok {
				return
			}
			err = e.send(st)
		case <-ping.C:
			err = e.ping()
		}
		if err != nil {
			return
		}
	}
}

func (e *eventStream) send(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot encode an event: %w", err)
	}
	return e.write(fmt.Appendf(nil, "data: %s\n\n", data))
}

func (e *eventStream) ping() error { return e.write([]byte(": ping\n\n")) }

func (e *eventStream) write(line []byte) error {
	if !e.started {
		e.w.Header().Set("Content-Type", "text/event-stream")
		e.w.Header().Set("Cache-Control", "no-store")
		e.started = true
	}
	allow(e.control)
	if _, err := e.w.Write(line); err != nil {
		return err
	}
	return e.control.Flush()
}

// allow gives a reader some time for the next piece. One that has stopped reading is left when it is over.
func allow(c *http.ResponseController) {
	_ = c.SetWriteDeadline(time.Now().Add(answerTimeout)) // not supported by recorders in tests
}

// textStream flushes every write, so that followers see lines when they are printed.
type textStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	started bool
}

func (t *textStream) Write(p []byte) (int, error) {
	if err := t.start(); err != nil {
		return 0, err
	}
	allow(t.control)
	n, err := t.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, t.control.Flush()
}

// start sends the header, once, even when there is nothing to show.
func (t *textStream) start() error {
	if t.started {
		return nil
	}
	t.started = true
	t.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	t.w.WriteHeader(http.StatusOK)
	return t.control.Flush()
}

// maxEvent bounds one line of a watch: the status of a cluster of a million units.
const maxEvent = 512 << 20

// readEvents calls yield with the data of every event until it returns false or the stream ends. watchdog is called for
// whatever arrives.
func readEvents(body io.Reader, watchdog func(), yield func([]byte) bool) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxEvent)
	for lines.Scan() {
		watchdog()
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if ok && !yield(data) {
			return nil
		}
	}
	return errors.Join(lines.Err(), io.ErrUnexpectedEOF)
}
