//go:build lab

package keysapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/keys/keystest"
)

// startGenuine starts Debian's etcd 3.4 with version 2 enabled and returns its base URL.
func startGenuine(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("etcd")
	if err != nil {
		t.Fatal("there is no etcd: install Debian's etcd-server")
	}
	client, peer := keystest.FreeURL(t), keystest.FreeURL(t)
	dir := keystest.MemoryDir(t)
	cmd := exec.CommandContext(t.Context(), program, "--name", "genuine", "--data-dir", filepath.Join(dir, "data"),
		"--enable-v2=true", "--listen-client-urls", client.String(), "--advertise-client-urls", client.String(),
		"--listen-peer-urls", peer.String(), "--initial-advertise-peer-urls", peer.String(),
		"--initial-cluster", "genuine="+peer.String(), "--logger", "zap", "--log-outputs", filepath.Join(dir, "log"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		if resp, err := http.Get(client.String() + "/health"); err == nil { //nolint
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return client.String()
			}
		}
		<-tick.C
	}
	t.Fatal("the genuine server is not ready")
	return ""
}

// peerConn is a connection to a server, on which requests are written as they are, with no client to make them nicer.
type peerConn struct {
	t    *testing.T
	host string
	conn net.Conn
	in   *bufio.Reader
}

func dial(t *testing.T, base string) *peerConn {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	p := &peerConn{t: t, host: u.Host}
	p.open()
	t.Cleanup(func() { _ = p.conn.Close() })
	return p
}

func (p *peerConn) open() {
	conn, err := net.Dial("tcp", p.host)
	if err != nil {
		p.t.Fatal(err)
	}
	p.conn, p.in = conn, bufio.NewReader(conn)
}

// ask is a request: method, path, and a form or nothing.
type ask struct{ method, path, form string }

func (a ask) String() string { return strings.TrimSpace(a.method + " " + a.path + " " + a.form) }

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   string
}

func (p *peerConn) send(a ask) {
	p.t.Helper()
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n", a.method, a.path, p.host)
	if a.form != "" || a.method == "PUT" || a.method == "POST" {
		head += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " + strconv.Itoa(len(a.form)) + "\r\n"
	}
	if _, err := io.WriteString(p.conn, head+"\r\n"+a.form); err != nil {
		p.t.Fatalf("%s: %v", a, err)
	}
}

func (p *peerConn) do(a ask) reply {
	p.t.Helper()
	_ = p.conn.SetDeadline(time.Now().Add(20 * time.Second))
	p.send(a)
	resp, err := http.ReadResponse(p.in, &http.Request{Method: a.method})
	if err != nil {
		p.t.Fatalf("%s: %v", a, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s: %v", a, err)
	}
	_ = resp.Body.Close()
	if resp.Close {
		_ = p.conn.Close()
		p.open()
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

func (p *peerConn) index() int {
	n, err := strconv.Atoi(p.do(ask{method: "GET", path: "/v2/keys"}).header.Get("X-Etcd-Index"))
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// pair are the two servers, whose indices are equal, so that answers can be compared as they are.
type pair struct{ genuine, ours *peerConn }

func startPair(t *testing.T) pair {
	t.Helper()
	base, _ := startServer(t)
	p := pair{genuine: dial(t, startGenuine(t)), ours: dial(t, base)}
	p.level()
	return p
}

// level brings the one that is behind to the other's index.
func (p pair) level() {
	for {
		genuine, ours := p.genuine.index(), p.ours.index()
		if genuine == ours {
			return
		}
		behind := p.genuine
		if ours < genuine {
			behind = p.ours
		}
		behind.do(ask{"PUT", "/v2/keys/_level", "value=x"})
		behind.do(ask{"DELETE", "/v2/keys/_level", ""})
		if genuine-ours == 1 || ours-genuine == 1 {
			behind.do(ask{"PUT", "/v2/keys/_level", "value=x"})
			ahead := p.genuine
			if behind == p.genuine {
				ahead = p.ours
			}
			ahead.do(ask{"PUT", "/v2/keys/_level", "value=x"})
			ahead.do(ask{"DELETE", "/v2/keys/_level", ""})
			behind.do(ask{"DELETE", "/v2/keys/_level", ""})
		}
	}
}

var (
	expirations = regexp.MustCompile(`"expiration":"([^"]*)"`)
	ttls        = regexp.MustCompile(`"ttl":(-?\d+)`)
)

// show writes an answer down, without what differs by its nature: times, the log's index and term, and the names of this
// cluster's members.
func show(a ask, r reply) string {
	h := r.header.Clone()
	for _, name := range []string{"Date", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Origin"} {
		h.Del(name) // the last three: see differences.txt
	}
	for _, name := range []string{"X-Raft-Index", "X-Raft-Term", "X-Etcd-Cluster-Id"} {
		if h.Get(name) != "" {
			h.Set(name, "*")
		}
	}
	body := expirations.ReplaceAllStringFunc(r.body, func(s string) string {
		if _, err := time.Parse(time.RFC3339Nano, expirations.FindStringSubmatch(s)[1]); err != nil {
			return s
		}
		return `"expiration":"2026-01-01T00:00:00Z"`
	})
	if body != r.body {
		h.Del("Content-Length") // fractions of seconds have any number of digits
	}
	if a.method == "GET" && !strings.Contains(a.path, "sorted=t") {
		body = sorted(body)
	}
	body = ttls.ReplaceAllStringFunc(body, func(s string) string {
		n, _ := strconv.Atoi(ttls.FindStringSubmatch(s)[1])
		return fmt.Sprintf(`"ttl":%d..`, (n+2)/10*10) // a second may pass
	})
	if shapes[strings.TrimSuffix(a.path, "/")] && r.status == http.StatusOK {
		body = shape(body)
		h.Del("Content-Length")
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, r.status)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(h[name], ", "))
	}
	fmt.Fprintf(&b, "%s", body)
	return b.String()
}

// sorted puts a listing in order, which a genuine server does only when asked.
func sorted(body string) string {
	var e event
	if !strings.Contains(body, `"nodes"`) || json.Unmarshal([]byte(body), &e) != nil {
		return body
	}
	sortNodes(e.Node)
	return string(line(e))
}

func sortNodes(n *node) {
	slices.SortFunc(n.Nodes, func(a, b *node) int { return strings.Compare(a.Key, b.Key) })
	for _, child := range n.Nodes {
		sortNodes(child)
	}
}

// shapes are the paths whose answers tell of a cluster, so that only their shape can be alike.
var shapes = map[string]bool{
	"/v2/members": true, "/v2/members/leader": true, "/v2/machines": true, "/v2/stats/self": true,
	"/v2/stats/leader": true, "/v2/stats/store": true,
}

var scalar = regexp.MustCompile(`:("[^"]*"|\d+)|\["[^\]]*"\]|http://[^",]*|\[\]`)

func shape(body string) string {
	return scalar.ReplaceAllStringFunc(body, func(s string) string {
		switch {
		case s[0] == '[':
			return "[urls]"
		case s[0] == 'h':
			return "url"
		case s[1] == '"':
			return `:"text"`
		}
		return ":0"
	})
}
