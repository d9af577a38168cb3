package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// backends are the addresses (host:port) of the running units that match a pattern, sorted. A server's port is base plus
// the number of its instance.
func backends(s api.Status, pattern string, base int) []string {
	addresses := map[string]string{}
	for _, h := range s.Hosts {
		addresses[h.Name] = h.Address
	}
	var found []string
	for _, u := range s.Units {
		number, ok := instance(u.Name)
		if match, _ := path.Match(pattern, u.Name); !match || !ok || u.State != api.UnitRunning || addresses[u.Host] == "" {
			continue
		}
		found = append(found, net.JoinHostPort(addresses[u.Host], strconv.Itoa(base+number)))
	}
	slices.Sort(found)
	return found
}

// instance is N of NAME@N.service.
func instance(unit string) (int, bool) {
	_, rest, _ := strings.Cut(unit, "@")
	number, err := strconv.Atoi(strings.TrimSuffix(rest, path.Ext(rest)))
	return number, err == nil && number > 0
}

// balancer passes requests on, to one server after the other.
type balancer struct {
	servers atomic.Pointer[[]string]
	turn    atomic.Uint64
	proxy   *httputil.ReverseProxy
	log     *slog.Logger
}

// dialTimeout bounds how long a request waits for a server that is gone before another gets it.
const dialTimeout = 500 * time.Millisecond

func newBalancer(log *slog.Logger) *balancer {
	b := &balancer{log: log}
	b.servers.Store(&[]string{})
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	b.proxy = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetXForwarded() },
		Transport: nextOnFailure{balancer: b, transport: transport},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	return b
}

// use replaces the servers.
func (b *balancer) use(servers []string) {
	if slices.Equal(servers, *b.servers.Load()) {
		return
	}
	b.servers.Store(&servers)
	b.log.Info("servers changed", "servers", servers)
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/backends" {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(*b.servers.Load()) // the client went away
		return
	}
	b.proxy.ServeHTTP(w, r)
}

// nextOnFailure tries one server after the other until one can be reached. A request whose body has begun to travel is
// not repeated.
type nextOnFailure struct {
	balancer  *balancer
	transport http.RoundTripper
}

func (n nextOnFailure) RoundTrip(r *http.Request) (*http.Response, error) {
	servers := *n.balancer.servers.Load()
	err := fmt.Errorf("no server runs")
	first := n.balancer.turn.Add(1)
	for i := range servers {
		server := servers[(first+uint64(i))%uint64(len(servers))]
		attempt := r.Clone(r.Context())
		attempt.URL = &url.URL{Scheme: "http", Host: server, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
		var answer *http.Response
		if answer, err = n.transport.RoundTrip(attempt); err == nil {
			return answer, nil
		}
		if r.Body != nil && r.Body != http.NoBody {
			break
		}
	}
	return nil, err
}
