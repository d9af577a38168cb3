package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// remote reads from servers that may be hostile: bounded in size, and never slower than a rate.
type remote struct {
	http    *http.Client
	minRate int64         // bytes a second
	window  time.Duration // over which the rate is measured; also how long an answer may take to begin
	begin   time.Duration // how long it may take to begin where silence is no attack; 0 is that it is one
}

// Defaults of Config. A mirror behind a modem passes; one that keeps a host from its updates does not.
const (
	defaultMinRate = 4 << 10
	defaultWindow  = 30 * time.Second
)

// errAbsent is an answer that the file is not there, and errSilent none.
var (
	errAbsent = errors.New("the server does not have it")
	errSilent = errors.New("it does not answer")
)

// newHTTP returns a client that takes answers as they are, and never goes from HTTPS to HTTP.
func newHTTP() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:    10 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			IdleConnTimeout:        30 * time.Second,
			DisableCompression:     true, // a small answer must not become a large one
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 5 {
				return errors.New("it redirects more than five times")
			}
			if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
				return errors.New("it redirects from HTTPS to HTTP")
			}
			return nil
		},
	}
}

// body is an answer that is being read.
type body struct {
	io.Reader
	offset int64 // of its first byte in the file
	close  func()
}

// open asks for a file from an offset. The answer may begin at 0 all the same.
func (r remote) open(ctx context.Context, url string, offset int64) (*body, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	silence := time.AfterFunc(cmp.Or(r.begin, r.window), func() { cancel(r.silence()) })
	resp, err := r.request(ctx, url, offset)
	silence.Stop()
	if err != nil {
		defer cancel(nil)
		return nil, cause(ctx, err)
	}
	watch := r.watch(cancel)
	stop := func() { watch.stop(); cancel(nil) }
	end := func() { _ = resp.Body.Close(); stop() }
	start, err := startOf(resp, offset)
	if err != nil {
		end()
		return nil, err
	}
	return &body{Reader: &watched{ctx: ctx, from: resp.Body, watch: watch}, offset: start, close: end}, nil
}

// silence is what it is that an answer does not begin.
func (r remote) silence() error {
	if r.begin > 0 {
		return errSilent
	}
	return fmt.Errorf("%w: nothing in %s", SlowRetrieval, r.window)
}

func (r remote) request(ctx context.Context, url string, offset int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	return r.http.Do(req)
}

// startOf tells where an answer begins (RFC 9110, section 14.4).
func startOf(resp *http.Response, offset int64) (int64, error) {
	switch resp.StatusCode {
	case http.StatusOK:
		return 0, nil
	case http.StatusNotFound, http.StatusGone, http.StatusForbidden, http.StatusServiceUnavailable:
		return 0, pendingIn(resp)
	case http.StatusPartialContent:
		var first, last int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/", &first, &last); err != nil || first != offset {
			return 0, fmt.Errorf("it answered with the range %q, not from %d on", resp.Header.Get("Content-Range"), offset)
		}
		return first, nil
	}
	return 0, fmt.Errorf("it answered %s", resp.Status)
}

// read reads a whole small file.
func (r remote) read(ctx context.Context, url string, most int64) ([]byte, error) {
	b, err := r.open(ctx, url, 0)
	if err != nil {
		return nil, err
	}
	defer b.close()
	data, err := io.ReadAll(io.LimitReader(b, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%w: more than %d bytes", EndlessData, most)
	}
	return data, nil
}

// pace ends a request whose answer is slower than the rate.
type pace struct {
	read  atomic.Int64
	timer *time.Timer
	ended chan struct{}
}

func (r remote) watch(cancel context.CancelCauseFunc) *pace {
	p := &pace{timer: time.NewTimer(r.window), ended: make(chan struct{})}
	least := int64(float64(r.minRate) * r.window.Seconds())
	go func() {
		for {
			select {
			case <-p.ended:
				return
			case <-p.timer.C:
			}
			if got := p.read.Swap(0); got < least {
				cancel(fmt.Errorf("%w: %d bytes in %s", SlowRetrieval, got, r.window))
				return
			}
			p.timer.Reset(r.window)
		}
	}()
	return p
}

func (p *pace) stop() {
	p.timer.Stop()
	close(p.ended)
}

// watched counts what is read, and tells why reading ended.
type watched struct {
	ctx   context.Context
	from  io.Reader
	watch *pace
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.from.Read(b)
	w.watch.read.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		err = cause(w.ctx, err)
	}
	return n, err
}

// cause prefers why a context was ended to what ending it led to.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}
