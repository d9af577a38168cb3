//go:build lab

package keysapi

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	seedFlag = flag.Int64("seed", 0, "seed of the random operations; 0 is the time")
	opsFlag  = flag.Int("ops", 10_000, "how many random operations")
)

// TestLabRandom sends random operations to both servers, whose answers must be the same, bytes and indices.
func TestLabRandom(t *testing.T) {
	p := startPair(t)
	seed := *seedFlag
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	t.Logf("-seed %d", seed)
	g := &generator{rand: rand.New(rand.NewPCG(uint64(seed), 0))}
	statuses := map[int]int{}
	var last []string
	for i := range *opsFlag {
		a := g.next()
		last = append(last, a.String())
		genuine, ours := p.genuine.do(a), p.ours.do(a)
		if diff := cmp.Diff(show(a, genuine), show(a, ours)); diff != "" {
			t.Fatalf("operation %d, %s (- genuine, + ours):\n%s\nbefore it:\n%s", i, a, diff, strings.Join(last[max(0, len(last)-30):], "\n"))
		}
		g.learn(a, genuine)
		statuses[genuine.status]++
		if i%500 == 0 {
			everything := ask{method: "GET", path: "/v2/keys?recursive=true&sorted=true"}
			if diff := cmp.Diff(show(everything, p.genuine.do(everything)), show(everything, p.ours.do(everything))); diff != "" {
				t.Fatalf("after operation %d, %s (- genuine, + ours):\n%s", i, a, diff)
			}
		}
	}
	t.Logf("%d operations, by status: %v", *opsFlag, statuses)
}

// generator makes operations on few keys, so that they meet, with values and indices that are often right.
type generator struct {
	rand    *rand.Rand
	indices map[string]uint64 // of keys, as last seen
	paths   []string          // that were made by POST
	changed []string          // keys of the last events, and their indices
}

func (g *generator) chance(percent int) bool { return g.rand.IntN(100) < percent }

func (g *generator) pick(from ...string) string { return from[g.rand.IntN(len(from))] }

func (g *generator) key() string {
	if len(g.paths) > 0 && g.chance(10) {
		return g.pick(g.paths...)
	}
	var key strings.Builder
	for range 1 + g.rand.IntN(3) {
		key.WriteString("/" + g.pick("a", "b", "c", "_h", "d d"))
	}
	if g.chance(1) {
		return "/"
	}
	return key.String()
}

func (g *generator) value() string { return g.pick("1", "2", "3", "", "ü<&>", "a b\n") }

func (g *generator) next() ask {
	key := g.key()
	query, form := url.Values{}, url.Values{}
	method := g.pick("GET", "PUT", "PUT", "PUT", "PUT", "DELETE", "DELETE", "POST")
	switch method {
	case "GET":
		g.read(query)
		if len(g.changed) > 0 && g.chance(20) {
			return ask{method: "GET", path: "/v2/keys" + g.pick(g.changed...)}
		}
	case "POST":
		key = g.pick("/q", "/a/q", key)
		form.Set("value", g.value())
	case "DELETE":
		g.remove(query)
	case "PUT":
		g.write(query, form)
	}
	if method != "GET" && g.chance(30) || query.Has("prevValue") || query.Has("prevIndex") {
		g.compare(key, query)
	}
	a := ask{method: method, path: "/v2/keys" + (&url.URL{Path: key}).EscapedPath(), form: form.Encode()}
	if len(query) > 0 {
		a.path += "?" + query.Encode()
	}
	return a
}

func (g *generator) read(query url.Values) {
	if g.chance(50) {
		query.Set("recursive", "true")
	}
	if g.chance(30) {
		query.Set("quorum", "true")
	}
}

func (g *generator) remove(query url.Values) {
	if g.chance(40) {
		query.Set("recursive", "true")
	}
	if g.chance(40) {
		query.Set("dir", "true")
	}
}

func (g *generator) compare(key string, query url.Values) {
	if g.chance(50) {
		query.Set("prevValue", g.pick("1", "2", "3", "wrong"))
	}
	if g.chance(50) {
		query.Set("prevIndex", fmt.Sprint(g.indices[key]))
	}
	if g.chance(30) {
		query.Set("prevExist", g.pick("true", "false"))
	}
}

func (g *generator) write(query, form url.Values) {
	if g.chance(80) {
		form.Set("value", g.value())
	}
	if g.chance(15) {
		query.Set("dir", g.pick("true", "true", "false"))
	}
	if g.chance(20) {
		form.Set("ttl", g.pick("", "505", "1005", "5005"))
	}
	if g.chance(10) {
		query.Set("refresh", "true")
		form.Set("ttl", "2005")
		form.Del("value")
	}
	if g.chance(10) {
		query.Set("noValueOnSuccess", "true")
	}
	if g.chance(20) {
		query.Set("prevExist", g.pick("true", "false"))
	}
}

// learn remembers what later operations refer to.
func (g *generator) learn(a ask, r reply) {
	var e event
	if json.Unmarshal([]byte(r.body), &e) != nil || e.Node == nil || e.Action == "get" {
		return
	}
	if g.indices == nil {
		g.indices = map[string]uint64{}
	}
	g.indices[e.Node.Key] = uint64(e.Node.Modified)
	if a.method == "POST" && len(g.paths) < 50 {
		g.paths = append(g.paths, e.Node.Key)
	}
	if !strings.Contains(a.path, "refresh") { // of which nobody is told
		path := (&url.URL{Path: e.Node.Key}).EscapedPath()
		g.changed = append(g.changed, fmt.Sprintf("%s?wait=true&waitIndex=%d", path, e.Node.Modified),
			fmt.Sprintf("/?wait=true&recursive=true&waitIndex=%d", e.Node.Modified))
		g.changed = slices.Clone(g.changed[max(0, len(g.changed)-100):])
	}
}
