package keysapi

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// route is what answers at a path, and the methods that it takes.
type route struct {
	allow string
	serve http.HandlerFunc
}

const members = "/v2/members"

func (s *Server) table() map[string]route {
	const get, read, change = "GET", "GET,HEAD", "GET,POST,DELETE,PUT"
	return map[string]route{
		members:             {change, s.serveMembers},
		members + "/":       {change, s.serveMembers},
		members + "/leader": {change, s.serveLeader},
		"/v2/machines":      {read, s.serveMachines},
		"/v2/stats/self":    {get, s.serveSelf},
		"/v2/stats/leader":  {get, s.serveLeaderStats},
		"/v2/stats/store":   {get, s.serveStoreStats},
		"/v1/leader":        {read, s.serveLeader1},
		"/v1/machines":      {read, s.serveMachines},
		"/v1/stats/self":    {get, s.serveSelf},
		"/v1/stats/leader":  {get, s.serveLeaderStats},
		"/v1/stats/store":   {get, s.serveStoreStats},
		"/version":          {get, s.serveVersion},
		"/health":           {get, s.serveHealth},
	}
}

// serveOther answers for paths that are not known in full.
func (s *Server) serveOther(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, members+"/") {
		if allowed(w, r, "GET,POST,DELETE,PUT") {
			s.noMember(w, r)
		}
		return
	}
	http.NotFound(w, r)
}

func plainJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (s *Server) clusterID(w http.ResponseWriter) {
	w.Header().Set("X-Etcd-Cluster-Id", fmt.Sprintf("%x", s.keys.State().Cluster))
}

func (s *Server) serveMembers(w http.ResponseWriter, r *http.Request) {
	s.clusterID(w)
	if r.Method != http.MethodGet {
		plainJSON(w, http.StatusForbidden, Complaint("members are the cluster file's affair: muster up"))
		return
	}
	plainJSON(w, http.StatusOK, line(map[string][]Member{"members": s.cfg.Members(r)}))
}

func (s *Server) serveLeader(w http.ResponseWriter, r *http.Request) {
	s.clusterID(w)
	if r.Method != http.MethodGet {
		s.serveMembers(w, r)
		return
	}
	plainJSON(w, http.StatusOK, line(s.cfg.Members(r)[0]))
}

func (s *Server) noMember(w http.ResponseWriter, r *http.Request) {
	s.clusterID(w)
	text := "Not found"
	if r.Method != http.MethodGet {
		text = "No such member: " + strings.TrimPrefix(r.URL.Path, members+"/")
	}
	plainJSON(w, http.StatusNotFound, Complaint(text))
}

// Complaint is an error of what is no key.
func Complaint(text string) []byte { return trim(line(map[string]string{"message": text})) }

// trim is a line without its end.
func trim(line []byte) []byte { return line[:len(line)-1] }

func (s *Server) serveMachines(w http.ResponseWriter, r *http.Request) {
	var urls []string
	for _, m := range s.cfg.Members(r) {
		urls = append(urls, m.ClientURLs...)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(strings.Join(urls, ", ")))
}

func (s *Server) serveVersion(w http.ResponseWriter, _ *http.Request) {
	minor := s.cfg.Version[:strings.LastIndexByte(s.cfg.Version, '.')+1] + "0"
	plainJSON(w, http.StatusOK, trim(line(struct {
		Server  string `json:"etcdserver"`
		Cluster string `json:"etcdcluster"`
	}{s.cfg.Version, minor})))
}

func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if s.keys.Sync(r.Context()) != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"health":"false"}`))
		return
	}
	_, _ = w.Write([]byte(`{"health":"true"}`))
}

type leaderInfo struct {
	Leader string    `json:"leader"`
	Uptime string    `json:"uptime"`
	Start  time.Time `json:"startTime"`
}

// serveSelf shows this host as a server that follows its cluster.
func (s *Server) serveSelf(w http.ResponseWriter, r *http.Request) {
	leader := s.cfg.Members(r)[0].ID
	state := "StateFollower"
	if leader == s.cfg.ID {
		state = "StateLeader"
	}
	plainJSON(w, http.StatusOK, trim(line(struct {
		Name     string     `json:"name"`
		ID       string     `json:"id"`
		State    string     `json:"state"`
		Start    time.Time  `json:"startTime"`
		Leader   leaderInfo `json:"leaderInfo"`
		Received int        `json:"recvAppendRequestCnt"`
		Sent     int        `json:"sendAppendRequestCnt"`
	}{
		Name: s.cfg.Name, ID: s.cfg.ID, State: state, Start: s.started.UTC(),
		Leader: leaderInfo{Leader: leader, Uptime: s.now().Sub(s.started).String(), Start: s.started.UTC()},
	})))
}

func (s *Server) serveLeaderStats(w http.ResponseWriter, r *http.Request) {
	plainJSON(w, http.StatusOK, trim(line(struct {
		Leader    string   `json:"leader"`
		Followers struct{} `json:"followers"`
	}{Leader: s.cfg.Members(r)[0].ID})))
}

func (s *Server) serveStoreStats(w http.ResponseWriter, _ *http.Request) {
	plainJSON(w, http.StatusOK, trim(line(s.stats.snapshot())))
}
