package keysapi

import (
	"errors"
	"net/http"

	"github.com/musterhq/muster/agent/keys"
)

var kinds = map[string]keys.Kind{http.MethodPut: keys.Put, http.MethodPost: keys.Post, http.MethodDelete: keys.Delete}

func (s *Server) serveKeys(w http.ResponseWriter, r *http.Request, key string) {
	if !allowed(w, r, "HEAD,GET,PUT,POST,DELETE") {
		return
	}
	q, mistake := parse(r)
	if mistake != nil {
		s.refuse(w, mistake)
		return
	}
	kind, writes := kinds[r.Method]
	switch {
	case writes:
		q.write.Kind, q.write.Key = kind, key
		s.write(w, r, q)
	case q.wait && !q.quorum:
		s.watch(w, r, key, q, s.change)
	default:
		s.read(w, r, keys.Read{Key: key, Recursive: q.recursive, Quorum: q.quorum})
	}
}

// tree is what answers for a key: the store, or who is mounted there.
func (s *Server) tree(key string) Mount {
	if m := s.mounted(key); m != nil {
		return m
	}
	return s.keys
}

func (s *Server) read(w http.ResponseWriter, r *http.Request, read keys.Read) {
	e, err := s.tree(read.Key).Get(r.Context(), read)
	s.stats.count(keys.ActionGet, err)
	s.reply(w, e, err, false)
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, q request) {
	e, err := s.tree(q.write.Key).Do(r.Context(), q.write)
	s.stats.count(action(q.write), err)
	s.reply(w, e, err, q.no && r.Method != http.MethodDelete)
}

func (s *Server) reply(w http.ResponseWriter, e keys.Event, err error, bare bool) {
	if err != nil {
		s.refuse(w, refusal(err))
		return
	}
	s.answer(w, e, bare)
}

// refusal is an error as a client of version 2 is told.
func refusal(err error) *keys.Error {
	var refusal *keys.Error
	if errors.As(err, &refusal) {
		return refusal
	}
	return mistake(keys.CodeRaft, err.Error())
}

// watch answers with events as they come, each as body has it: one, or a stream of lines.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, key string, q request, body func(keys.Event) []byte) {
	if s.mounted(key) != nil {
		s.refuse(w, mistake(keys.CodeField, `"wait" cannot be used with this key: read it again now and then`))
		return
	}
	watcher, err := s.keys.Watch(r.Context(), key, q.recursive, q.since())
	if err != nil {
		s.refuse(w, refusal(err))
		return
	}
	defer watcher.Close()
	s.stats.watchers.Add(1)
	defer s.stats.watchers.Add(-1)
	state := s.keys.State()
	s.headRaft(w, state, state.Index)
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	if flush() != nil {
		return
	}
	for {
		e, err := watcher.Next(r.Context())
		if err != nil {
			return // the client has gone, or fell behind: it sees the end
		}
		if _, err := w.Write(body(e)); err != nil || !q.stream || flush() != nil {
			return
		}
	}
}

var _ Mount = (*keys.Store)(nil)
