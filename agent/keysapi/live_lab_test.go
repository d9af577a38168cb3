//go:build lab

package keysapi

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// player plays steps on one server.
type player struct {
	t     *testing.T
	base  string
	main  *peerConn
	waits map[string]*http.Response
	lines map[string]*bufio.Reader
}

var toCome = regexp.MustCompile(`NEXT\((\d+)\)`)

func (p *player) play(step string) string {
	parts := append(strings.SplitN(step, " ", 3), "", "")
	name := parts[1]
	switch parts[0] {
	case "wait":
		path := toCome.ReplaceAllStringFunc(parts[2], func(s string) string {
			n, _ := strconv.Atoi(toCome.FindStringSubmatch(s)[1])
			return strconv.Itoa(p.main.index() + n)
		})
		return p.wait(name, ask{method: "GET", path: path})
	case "event":
		line, err := p.lines[name].ReadString('\n')
		if err != nil {
			p.t.Fatalf("%s: %v", step, err)
		}
		return show(ask{}, reply{body: line})
	case "end":
		rest, err := io.ReadAll(p.lines[name])
		return fmt.Sprintf("%q %v", rest, err)
	}
	a := ask{parts[0], parts[1], parts[2]}
	return show(a, p.main.do(a))
}

func (p *player) wait(name string, a ask) string {
	conn := dial(p.t, p.base)
	_ = conn.conn.SetDeadline(time.Now().Add(30 * time.Second))
	conn.send(a)
	resp, err := http.ReadResponse(conn.in, &http.Request{Method: a.method})
	if err != nil {
		p.t.Fatalf("%s: %v", a, err)
	}
	p.waits[name], p.lines[name] = resp, bufio.NewReader(resp.Body)
	return show(a, reply{status: resp.StatusCode, header: resp.Header})
}

// TestLabLive compares what those who wait are told, and when.
func TestLabLive(t *testing.T) {
	p := startPair(t)
	play := func(c *peerConn) *player {
		return &player{t, "http://" + c.host, c, map[string]*http.Response{}, map[string]*bufio.Reader{}}
	}
	genuine, ours := play(p.genuine), play(p.ours)
	steps := readLines(t, "testdata/live.txt")
	for i, step := range steps {
		if diff := cmp.Diff(genuine.play(step), ours.play(step)); diff != "" {
			t.Errorf("step %d, %s (- genuine, + ours):\n%s", i, step, diff)
		}
	}
	t.Logf("%d steps", len(steps))
}

// TestLabHistory has more happen than is kept.
func TestLabHistory(t *testing.T) {
	p := startPair(t)
	start := p.genuine.index()
	for i := range 1010 {
		a := ask{"PUT", fmt.Sprintf("/v2/keys/k%d", i%3), "value=" + strconv.Itoa(i)}
		p.genuine.do(a)
		p.ours.do(a)
	}
	for _, past := range []int{1, start, start + 5, start + 11, start + 12, start + 500, start + 1010} {
		a := ask{method: "GET", path: "/v2/keys/?wait=true&recursive=true&waitIndex=" + strconv.Itoa(past)}
		if diff := cmp.Diff(show(a, p.genuine.do(a)), show(a, p.ours.do(a))); diff != "" {
			t.Errorf("%s (- genuine, + ours):\n%s", a, diff)
		}
	}
}
