package keysapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/musterhq/muster/agent/keys"
)

// node is a keys.Node on the wire.
type node struct {
	Key        string     `json:"key,omitempty"`
	Value      *string    `json:"value,omitempty"`
	Dir        bool       `json:"dir,omitempty"`
	Expiration *time.Time `json:"expiration,omitempty"`
	TTL        int64      `json:"ttl,omitempty"` // seconds, rounded up
	Nodes      []*node    `json:"nodes,omitempty"`
	Modified   int64      `json:"modifiedIndex,omitempty"`
	Created    int64      `json:"createdIndex,omitempty"`
}

// event is a keys.Event on the wire.
type event struct {
	Action   string `json:"action"`
	Node     *node  `json:"node,omitempty"`
	PrevNode *node  `json:"prevNode,omitempty"`
}

func (s *Server) node(n *keys.Node) *node {
	if n == nil {
		return nil
	}
	out := &node{Key: n.Key, Dir: n.Dir, Modified: n.Modified, Created: n.Created}
	if n.Key == "/" {
		out.Key = ""
	}
	if !n.Dir && !n.NoValue {
		out.Value = &n.Value
	}
	if !n.Expires.IsZero() {
		out.Expiration, out.TTL = &n.Expires, int64((n.Expires.Sub(s.now())+time.Second-1)/time.Second)
	}
	for _, child := range n.Nodes {
		out.Nodes = append(out.Nodes, s.node(child))
	}
	return out
}

func (s *Server) body(e keys.Event, bare bool) []byte {
	out := event{Action: e.Action}
	if !bare {
		out.Node, out.PrevNode = s.node(e.Node), s.node(e.PrevNode)
	}
	return line(out)
}

// told is a change as those who wait for it are told.
type told struct {
	node *keys.Node // of the event, which is all watchers' and never changed
	body []byte
}

// change is the body of an event. Many may wait for the same one, so the latest is kept; not where it has a time to live, of
// which each is told what is left.
func (s *Server) change(e keys.Event) []byte {
	if latest := s.latest.Load(); latest != nil && latest.node == e.Node {
		return latest.body
	}
	body := s.body(e, false)
	if e.Node.Expires.IsZero() && (e.PrevNode == nil || e.PrevNode.Expires.IsZero()) {
		s.latest.Store(&told{node: e.Node, body: body})
	}
	return body
}

// line is JSON with a newline.
func line(v any) []byte {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		panic(err) // nothing that is encoded here can fail
	}
	return b.Bytes()
}

// head sets the headers that every answer about keys has.
func (s *Server) head(w http.ResponseWriter, state keys.State, index int64) {
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["X-Etcd-Cluster-Id"] = []string{strconv.FormatUint(state.Cluster, 16)}
	h["X-Etcd-Index"] = []string{strconv.FormatInt(index, 10)}
}

// headRaft sets those that successes have too. The store tells nobody its log's index: its revision stands for it.
func (s *Server) headRaft(w http.ResponseWriter, state keys.State, index int64) {
	s.head(w, state, index)
	h := w.Header()
	h["X-Raft-Index"] = []string{strconv.FormatInt(max(index, state.Index), 10)}
	h["X-Raft-Term"] = []string{strconv.FormatUint(state.Term, 10)}
	if state.Stale > 0 {
		h["X-Muster-Stale"] = []string{strconv.FormatInt(state.Stale, 10)}
	}
}

func (s *Server) answer(w http.ResponseWriter, e keys.Event, bare bool) {
	s.headRaft(w, s.keys.State(), e.Index)
	if e.IsNew() {
		w.WriteHeader(http.StatusCreated)
	}
	_, _ = w.Write(s.body(e, bare))
}

// statuses of error codes that are not 400.
var statuses = map[int]int{
	keys.CodeKeyNotFound: http.StatusNotFound, keys.CodeNotFile: http.StatusForbidden,
	keys.CodeNotEmpty: http.StatusForbidden, keys.CodeUnauthorized: http.StatusUnauthorized,
	keys.CodeCompare: http.StatusPreconditionFailed, keys.CodeExists: http.StatusPreconditionFailed,
	keys.CodeRaft: http.StatusInternalServerError,
}

func status(e *keys.Error) int {
	if status, ok := statuses[e.Code]; ok {
		return status
	}
	return http.StatusBadRequest
}

// failure is a keys.Error on the wire.
type failure struct {
	Code    int    `json:"errorCode"`
	Message string `json:"message"`
	Cause   string `json:"cause,omitempty"`
	Index   int64  `json:"index"`
}

func (s *Server) refuse(w http.ResponseWriter, e *keys.Error) {
	s.head(w, s.keys.State(), e.Index)
	w.WriteHeader(status(e))
	_, _ = w.Write(Body(e))
}

// Body is an error as clients of version 2 read it, with a newline.
func Body(e *keys.Error) []byte {
	return line(failure{Code: e.Code, Message: e.Message(), Cause: e.Cause, Index: e.Index})
}
