package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/unitfile"
)

// Exec runs a command like a process of the unit, or without one asks a container's engine, and returns the last that it printed, which may be of any length, and
// why it failed. It ends everything that it started when ctx does.
type Exec func(ctx context.Context, t Target, words []string) (output string, err error)

// Probe makes one check and returns why it failed, "" if it did not. It takes no longer than the check's timeout.
func Probe(ctx context.Context, t Target, run Exec) string {
	ctx, cancel := context.WithTimeout(ctx, t.Check.Timeout)
	defer cancel()
	var err error
	switch t.Check.Kind {
	case "http":
		err = probeHTTP(ctx, t.Check.Target)
	case "tcp":
		err = probeTCP(ctx, t.Check.Target)
	case "exec":
		err = probeExec(ctx, t, run)
	case "container":
		err = told(run(ctx, t, nil))
	default:
		err = fmt.Errorf("this musterd knows no check %q", t.Check.Kind)
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "no answer within " + t.Check.Timeout.String()
	}
	return brief(err.Error())
}

// maxReason is how much of what a check said is told.
const maxReason = 200

// brief is a text on one line and not too long.
func brief(text string) string {
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	if runes := []rune(text); len(runes) > maxReason {
		return string(runes[:maxReason]) + "..."
	}
	return text
}

const (
	maxBody      = 64 << 10 // of an answer, which is read so that the server may end well
	maxRedirects = 5
)

// probeHTTP takes 2xx and 3xx for well. Redirects are followed on the same host alone: another one's health is not the
// unit's.
func probeHTTP(ctx context.Context, target string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "muster-health")
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		switch {
		case next.URL.Host != req.URL.Host:
			return http.ErrUseLastResponse
		case len(via) > maxRedirects:
			return errors.New("redirected too often")
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // without the URL, which is the unit file's
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody) // its status is all that counts
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

func probeTCP(ctx context.Context, target string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	return conn.Close()
}

func probeExec(ctx context.Context, t Target, run Exec) error {
	words, err := t.Check.Words()
	if err != nil {
		return err
	}
	return told(run(ctx, t, words))
}

// told is a command's error with what it said.
func told(output string, err error) error {
	if err != nil && strings.TrimSpace(output) != "" {
		return fmt.Errorf("%w: %s", err, output)
	}
	return err
}

// Target is a unit that runs and is to be asked.
type Target struct {
	Unit  string
	File  string    // SHA-256 of the contents that it runs with
	Since time.Time // it runs
	Check unitfile.HealthCheck
}

// same says whether the state of one is that of the other.
func (t Target) same(u Target) bool {
	return t.Unit == u.Unit && t.File == u.File && t.Since.Equal(u.Since)
}
