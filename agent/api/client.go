package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// How long the client waits for one endpoint before it tries the next. A host that was frozen accepts connections and
// says nothing more.
const (
	dialTimeout      = time.Second
	handshakeTimeout = 2 * time.Second
	headerTimeout    = 3 * time.Second
	quietTimeout     = 3 * pingInterval // of a watch
)

// How long and how often the client goes through all endpoints while some of them answer that they cannot do it now.
const (
	patience   = 10 * time.Second
	roundPause = 200 * time.Millisecond
	benched    = 10 * time.Second // an endpoint that failed is tried last for so long
)

// Endpoint is where an agent listens.
type Endpoint struct {
	Name    string // of the host, for messages
	Address string // host:port
	Voter   bool   // can change things; tried first for that
}

// Client calls the API at whichever endpoint answers. It is safe for concurrent use.
type Client struct {
	endpoints []Endpoint
	http      *http.Client
	scheme    string

	mu     sync.Mutex
	failed map[string]time.Time // address → when
}

// NewClient makes a client. Endpoints are tried in the order given, voters first where it takes one. config carries the
// caller's certificate and the root; servers are verified for the address that is dialled.
func NewClient(endpoints []Endpoint, config *tls.Config) *Client {
	return newClient(endpoints, "https", &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   handshakeTimeout,
		ResponseHeaderTimeout: headerTimeout,
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       30 * time.Second,
	})
}

// NewSocketClient makes a client of an agent's unix socket.
func NewSocketClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
	}
	return newClient([]Endpoint{{Name: path, Address: "localhost"}}, "http",
		&http.Transport{DialContext: dial, ResponseHeaderTimeout: headerTimeout})
}

func newClient(endpoints []Endpoint, scheme string, t *http.Transport) *Client {
	return &Client{
		endpoints: slices.Clone(endpoints), scheme: scheme, http: &http.Client{Transport: t}, failed: map[string]time.Time{},
	}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks for the cluster as it is now.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.get(ctx, "/v1/status", &s)
}

// Units asks for every unit, without contents.
func (c *Client) Units(ctx context.Context) ([]Unit, error) {
	var units []Unit
	return units, c.get(ctx, "/v1/units", &units)
}

// Unit asks for one unit with its contents.
func (c *Client) Unit(ctx context.Context, name string) (Unit, error) {
	var u Unit
	return u, c.get(ctx, unitPath(name), &u)
}

// Why asks where a unit is and why.
func (c *Client) Why(ctx context.Context, name string) (Why, error) {
	var w Why
	return w, c.get(ctx, unitPath(name)+"/why", &w)
}

// Health asks the first agent that answers how it is.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var h Health
	return h, c.get(ctx, "/v1/health", &h)
}

// Fleet asks fleet's API for what is at a path below FleetPath.
func (c *Client) Fleet(ctx context.Context, path string, into any) error {
	return c.get(ctx, FleetPath+path, into)
}

// PutUnit submits contents, a desired state, or both. Repeating it changes nothing.
func (c *Client) PutUnit(ctx context.Context, u Unit) (Outcome, error) {
	return c.change(ctx, http.MethodPut, unitPath(u.Name), u)
}

// DeleteUnit removes a unit everywhere.
func (c *Client) DeleteUnit(ctx context.Context, name string) error {
	_, err := c.change(ctx, http.MethodDelete, unitPath(name), nil)
	return err
}

// AddToken lets a host join. Repeating it changes nothing.
func (c *Client) AddToken(ctx context.Context, req TokenRequest) error {
	_, err := c.change(ctx, http.MethodPost, "/v1/tokens", req)
	return err
}

// RemoveHost makes the cluster forget a host. One that is not known is forgotten already.
func (c *Client) RemoveHost(ctx context.Context, id string) error {
	_, err := c.change(ctx, http.MethodDelete, "/v1/hosts/"+url.PathEscape(id), nil)
	if IsNotFound(err) {
		return nil
	}
	return err
}

// SetLabels gives a host the labels of the cluster file; those that were set while it runs stay, under other keys.
func (c *Client) SetLabels(ctx context.Context, id string, labels map[string]string) (Outcome, error) {
	return c.change(ctx, http.MethodPut, labelsPath(id), Labels{Labels: labels})
}

// PatchLabels sets the labels that have a value and removes those that have none.
func (c *Client) PatchLabels(ctx context.Context, id string, labels map[string]*string) (Outcome, error) {
	return c.change(ctx, http.MethodPatch, labelsPath(id), LabelPatch{Labels: labels})
}

// OrderHost cordons a host, drains it, or lets it take units again.
func (c *Client) OrderHost(ctx context.Context, id string, order HostOrder) (Outcome, error) {
	return c.change(ctx, http.MethodPut, "/v1/hosts/"+url.PathEscape(id)+"/order", order)
}

// Renew asks for a new certificate in place of one that may have expired.
func (c *Client) Renew(ctx context.Context, req RenewRequest) (RenewReply, error) {
	var reply RenewReply
	resp, err := c.do(ctx, request{method: http.MethodPost, path: "/v1/renew", body: req, voter: true})
	if err != nil {
		return reply, err
	}
	return reply, decode(resp, &reply)
}

// Logs copies what a unit printed to w, from whichever host runs it.
func (c *Client) Logs(ctx context.Context, name string, o LogOptions, w io.Writer) error {
	q := url.Values{"lines": {strconv.Itoa(o.Lines)}}
	if o.Host != "" {
		q.Set("host", o.Host)
	}
	if o.Follow {
		q.Set("follow", "1")
	}
	if !o.Since.IsZero() {
		q.Set("since", o.Since.UTC().Format(time.RFC3339Nano))
	}
	if o.Priority != "" {
		q.Set("priority", o.Priority)
	}
	if o.Output != "" {
		q.Set("output", o.Output)
	}
	resp, err := c.do(ctx, request{method: http.MethodGet, path: unitPath(name) + "/logs?" + q.Encode(), voter: true})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := w.Write(nil); err != nil { // a proxy passes on that there is something to follow
		return err
	}
	if _, err = io.Copy(w, resp.Body); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot read the logs of %s to the end: %w", name, err)
	}
	return ctx.Err()
}

// WatchStatus calls yield with the status now and after every change, until yield returns false, ctx ends or the agent
// that answers falls silent.
func (c *Client) WatchStatus(ctx context.Context, yield func(Status) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.do(ctx, request{method: http.MethodGet, path: "/v1/status?watch=1"})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	quiet := time.AfterFunc(quietTimeout, cancel)
	defer quiet.Stop()
	var broken error
	err = readEvents(resp.Body, func() { quiet.Reset(quietTimeout) }, func(data []byte) bool {
		var s Status
		if broken = json.Unmarshal(data, &s); broken != nil {
			return false
		}
		return yield(s)
	})
	return errors.Join(broken, err)
}

func unitPath(name string) string { return "/v1/units/" + url.PathEscape(name) }

func labelsPath(id string) string { return "/v1/hosts/" + url.PathEscape(id) + "/labels" }

func (c *Client) get(ctx context.Context, path string, into any) error {
	resp, err := c.do(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return err
	}
	return decode(resp, into)
}

func (c *Client) change(ctx context.Context, method, path string, body any) (Outcome, error) {
	resp, err := c.do(ctx, request{method: method, path: path, body: body, voter: true})
	if err != nil {
		return Unchanged, err
	}
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusCreated:
		return Created, nil
	case http.StatusOK:
		return Changed, nil
	}
	return Unchanged, nil
}

func decode(resp *http.Response, into any) error {
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", resp.Request.URL.Host, err)
	}
	return nil
}

// request is one call, wherever it goes.
type request struct {
	method string
	path   string
	body   any
	form   url.Values // instead of body
	voter  bool       // prefers voters
}

func (r request) build(ctx context.Context, base string) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		data, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("cannot encode the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	kind := "application/json"
	if r.form != nil {
		body, kind = strings.NewReader(r.form.Encode()), "application/x-www-form-urlencoded"
	}
	req, err := http.NewRequestWithContext(ctx, r.method, base+r.path, body)
	if err != nil {
		return nil, fmt.Errorf("cannot make the request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	return req, nil
}

// do tries the endpoints in turn until one answers with 2xx or refuses for good. While some agent is there but cannot do
// it now (503), it goes round again until its patience ends.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		resp, again, err := c.round(ctx, r)
		if err == nil || !again || ctx.Err() != nil {
			return resp, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-deadline.C:
			return nil, err
		case <-time.After(roundPause):
		}
	}
}

// round tries every endpoint once. again says that another round may succeed.
func (c *Client) round(ctx context.Context, r request) (resp *http.Response, again bool, err error) {
	var failures []string
	var busy, misdirected *Error
	for _, e := range c.order(r.voter) {
		resp, err := c.once(ctx, e, r)
		var answer *Error
		switch {
		case err == nil:
			return resp, false, nil
		case errors.As(err, &answer) && answer.Status == http.StatusServiceUnavailable:
			busy = answer
		case errors.As(err, &answer) && answer.Status == http.StatusMisdirectedRequest:
			misdirected = answer
		case errors.As(err, &answer):
			return nil, false, answer
		case ctx.Err() != nil:
			return nil, false, ctx.Err()
		default:
			c.bench(e)
			failures = append(failures, fmt.Sprintf("%s (%s): %v", e.Name, e.Address, cause(err)))
		}
	}
	return nil, busy != nil, summary(failures, busy, misdirected)
}

// summary is the one error for a round that failed everywhere.
func summary(failures []string, busy, misdirected *Error) *Error {
	silent := strings.Join(failures, "; ")
	switch {
	case busy != nil && silent != "":
		return Errorf(busy.Status, busy.Hint, "%s; no answer from %s", busy.Message, silent)
	case busy != nil:
		return busy
	case misdirected != nil && silent != "":
		return Errorf(http.StatusServiceUnavailable, hintNoQuorum, "no voter answers: %s", silent)
	case misdirected != nil:
		return misdirected
	case silent == "":
		return Errorf(http.StatusServiceUnavailable, "make the cluster with `muster up`", "no host of the cluster is known")
	}
	return Errorf(http.StatusServiceUnavailable, "start the hosts with `muster up`",
		"no host of the cluster answers: %s", silent)
}

// once asks one endpoint.
func (c *Client) once(ctx context.Context, e Endpoint, r request) (*http.Response, error) {
	req, err := r.build(ctx, c.scheme+"://"+e.Address)
	if err != nil {
		return nil, err
	}
	return c.exchange(e, req)
}

// exchange makes a request. An answer that is not 2xx is an *Error.
func (c *Client) exchange(e Endpoint, req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	answer := &Error{}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody)) // what is missing of it is no answer
	if err := json.Unmarshal(body, answer); err != nil || answer.Message == "" {
		answer.Message = cmp.Or(keyRefusal(body), fmt.Sprintf("%s answers %s", e.Name, resp.Status))
	}
	answer.Status = resp.StatusCode
	return nil, answer
}

// cause leaves out what net/http adds, which repeats the URL.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// order is the endpoints in the order given, voters first if preferred, and those that failed lately last.
func (c *Client) order(voter bool) []Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	rank := func(e Endpoint) int {
		n := 0
		if voter && !e.Voter {
			n++
		}
		if at, ok := c.failed[e.Address]; ok && time.Since(at) < benched {
			n += 2
		}
		return n
	}
	list := slices.Clone(c.endpoints)
	slices.SortStableFunc(list, func(a, b Endpoint) int { return rank(a) - rank(b) })
	return list
}

func (c *Client) bench(e Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed[e.Address] = time.Now()
}
