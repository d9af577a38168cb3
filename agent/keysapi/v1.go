package keysapi

import (
	"net/http"
	"time"

	"github.com/musterhq/muster/agent/keys"
)

const (
	v1Keys  = "/v1/keys"
	v1Watch = "/v1/watch"
)

// reply1 is an answer of version 1: flat, with values alone.
type reply1 struct {
	Action     string     `json:"action"`
	Key        string     `json:"key"`
	Dir        bool       `json:"dir,omitempty"`
	PrevValue  string     `json:"prevValue,omitempty"`
	Value      string     `json:"value,omitempty"`
	NewKey     bool       `json:"newKey,omitempty"`
	Expiration *time.Time `json:"expiration,omitempty"`
	TTL        int64      `json:"ttl,omitempty"`
	Index      int64      `json:"index"`
}

// actions1 are version 1's names for what version 2 tells apart.
var actions1 = map[string]string{
	keys.ActionUpdate: keys.ActionSet, keys.ActionCreate: "testAndSet", keys.ActionCompareAndSwap: "testAndSet",
	keys.ActionCompareAndDelete: keys.ActionDelete, keys.ActionExpire: keys.ActionDelete,
}

func (s *Server) reply1(action string, n *keys.Node) reply1 {
	if name, ok := actions1[action]; ok {
		action = name
	}
	on := s.node(n)
	return reply1{
		Action: action, Key: n.Key, Dir: n.Dir, Value: n.Value, Expiration: on.Expiration, TTL: on.TTL, Index: n.Modified,
	}
}

// body1 is an event, or the list of what is in a directory that was read.
func (s *Server) body1(e keys.Event) []byte {
	if e.Action == keys.ActionGet && e.Node.Dir {
		list := make([]reply1, 0, len(e.Node.Nodes))
		for _, n := range e.Node.Nodes {
			list = append(list, s.reply1(e.Action, n))
		}
		return line(list)
	}
	out := s.reply1(e.Action, e.Node)
	if e.PrevNode != nil {
		out.PrevValue = e.PrevNode.Value
	}
	out.NewKey = e.IsNew()
	return line(out)
}

func (s *Server) serveKeys1(w http.ResponseWriter, r *http.Request, key string) {
	if !allowed(w, r, "GET,HEAD,POST,PUT,DELETE") {
		return
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		e, err := s.tree(key).Get(r.Context(), keys.Read{Key: key})
		s.stats.count(keys.ActionGet, err)
		s.answer1(w, e, err)
		return
	}
	write, mistake := parse1(r, key)
	if mistake != nil {
		s.refuse(w, mistake)
		return
	}
	e, err := s.tree(key).Do(r.Context(), write)
	s.stats.count(action(write), err)
	s.answer1(w, e, err)
}

// parse1 reads a write of version 1. A previous value that is given and empty demands that there is no such key.
func parse1(r *http.Request, key string) (keys.Write, *keys.Error) {
	write := keys.Write{Kind: keys.Put, Key: key}
	if r.Method == http.MethodDelete {
		write.Kind = keys.Delete
		return write, nil
	}
	if err := r.ParseForm(); err != nil {
		return write, mistake(keys.CodeForm, err.Error())
	}
	f := form{values: r.Form}
	write.Value, write.PrevValue, write.TTL = r.Form.Get("value"), r.Form.Get("prevValue"), f.ttl()
	if write.Value == "" {
		return write, mistake(keys.CodeValue, "Set")
	}
	if r.Form.Has("prevValue") && write.PrevValue == "" {
		write.PrevExist = new(bool)
	}
	return write, f.first
}

func (s *Server) answer1(w http.ResponseWriter, e keys.Event, err error) {
	if err != nil {
		s.refuse(w, refusal(err))
		return
	}
	s.headRaft(w, s.keys.State(), e.Index)
	_, _ = w.Write(s.body1(e))
}

// serveWatch1 waits for the next change at or below a key, or for the first one from an index on.
func (s *Server) serveWatch1(w http.ResponseWriter, r *http.Request, key string) {
	if !allowed(w, r, "GET,HEAD,POST") {
		return
	}
	if err := r.ParseForm(); err != nil {
		s.refuse(w, mistake(keys.CodeForm, err.Error()))
		return
	}
	f := form{values: r.Form}
	q := request{recursive: true, waitIndex: f.index("index")}
	if f.first != nil {
		s.refuse(w, f.first)
		return
	}
	s.watch(w, r, key, q, s.body1)
}

func (s *Server) serveLeader1(w http.ResponseWriter, r *http.Request) {
	leader := s.cfg.Members(r)[0]
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, u := range append(leader.PeerURLs, leader.ClientURLs...) {
		_, _ = w.Write([]byte(u))
		return
	}
}
