package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// KeyNode is a file or directory of the applications' keys (etcd's API v2).
type KeyNode struct {
	Key        string    `json:"key"`
	Value      string    `json:"value,omitempty"`
	Dir        bool      `json:"dir,omitempty"`
	TTL        int64     `json:"ttl,omitempty"` // seconds; 0 for none
	Expiration string    `json:"expiration,omitempty"`
	Nodes      []KeyNode `json:"nodes,omitempty"`
	Created    int64     `json:"createdIndex,omitempty"`
	Modified   int64     `json:"modifiedIndex,omitempty"`
}

// KeyEvent is an answer or a change (etcd's API v2).
type KeyEvent struct {
	Action   string   `json:"action"`
	Node     KeyNode  `json:"node"`
	PrevNode *KeyNode `json:"prevNode,omitempty"`
}

// keysAPI serves answers that may take any time, as long as each piece of them is taken in time.
func (s *Server) keysAPI(w http.ResponseWriter, r *http.Request, _ Caller) error {
	if s.Keys == nil {
		return Errorf(http.StatusNotFound, hintVersions, "the applications' keys are not served here")
	}
	s.Keys.ServeHTTP(&lastingWriter{ResponseWriter: w, control: http.NewResponseController(w)}, r)
	return nil
}

// lastingWriter bounds the time of each write instead of that of all.
type lastingWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Write implements http.ResponseWriter.
func (w *lastingWriter) Write(b []byte) (int, error) {
	if err := w.control.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(b)
}

// FlushError is what http.ResponseController calls.
func (w *lastingWriter) FlushError() error {
	if err := w.control.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	return w.control.Flush()
}

// Key reads a key, or what is in a directory, with everything below it if recursive.
func (c *Client) Key(ctx context.Context, key string, recursive bool) (KeyEvent, error) {
	q := url.Values{"quorum": {"true"}, "sorted": {"true"}, "recursive": {strconv.FormatBool(recursive)}}
	return c.key(ctx, request{method: http.MethodGet, path: keyPath(key) + "?" + q.Encode()})
}

// PutKey sets a key, for ttl if that is not 0.
func (c *Client) PutKey(ctx context.Context, key, value string, ttl time.Duration) (KeyEvent, error) {
	form := url.Values{"value": {value}}
	if ttl > 0 {
		form.Set("ttl", strconv.FormatInt(int64((ttl+time.Second-1)/time.Second), 10))
	}
	return c.key(ctx, request{method: http.MethodPut, path: keyPath(key), form: form})
}

// DeleteKey deletes a key, or a directory with all that is in it if recursive.
func (c *Client) DeleteKey(ctx context.Context, key string, recursive bool) (KeyEvent, error) {
	path := keyPath(key)
	if recursive {
		path += "?recursive=true"
	}
	return c.key(ctx, request{method: http.MethodDelete, path: path})
}

// WatchKey calls yield with every change of a key, and of all below it if recursive, until yield returns false or ctx ends.
func (c *Client) WatchKey(ctx context.Context, key string, recursive bool, yield func(KeyEvent) bool) error {
	q := url.Values{"wait": {"true"}, "stream": {"true"}, "recursive": {strconv.FormatBool(recursive)}}
	resp, err := c.do(ctx, request{method: http.MethodGet, path: keyPath(key) + "?" + q.Encode()})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for d := json.NewDecoder(resp.Body); ; {
		var e KeyEvent
		err := d.Decode(&e)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return Errorf(http.StatusServiceUnavailable, "try again", "%s has ended the watch", resp.Request.URL.Host)
		case err != nil:
			return fmt.Errorf("cannot go on watching at %s: %w", resp.Request.URL.Host, err)
		}
		if !yield(e) {
			return nil
		}
	}
}

func (c *Client) key(ctx context.Context, r request) (KeyEvent, error) {
	var e KeyEvent
	resp, err := c.do(ctx, r)
	if err != nil {
		return e, err
	}
	return e, decode(resp, &e)
}

// keyRefusal is what an error of etcd's API v2 says, "" if it is none.
func keyRefusal(body []byte) string {
	var refusal struct{ Message, Cause string }
	if json.Unmarshal(body, &refusal) != nil || refusal.Message == "" {
		return ""
	}
	return fmt.Sprintf("%s (%s)", refusal.Message, refusal.Cause)
}

func keyPath(key string) string {
	u := url.URL{Path: KeysPath + strings.TrimPrefix(key, "/")}
	return u.EscapedPath()
}
