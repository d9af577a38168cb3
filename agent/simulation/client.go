package simulation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// silence is how long a client waits for an answer that does not come: as long as it takes until store.Etcd leaves a member.
const silence = 2 * time.Second

// client is the store as one musterd reaches it. It has sessions of its own and asks the server for all else.
type client struct {
	*world
	process *process
}

var _ store.Store = (*client)(nil)

// call asks the server something and waits for the answer. heard may be nil.
func call[T any](ctx context.Context, c *client, label string, quorum bool, execute func() (T, error), heard func(T)) (T, error) {
	r := &request{process: c.process, label: label, carry: c.process.send}
	r.execute = func() any {
		if quorum && c.server.without > 0 {
			return fmt.Errorf("%w: no quorum", store.ErrUnavailable)
		}
		value, err := execute()
		if err != nil {
			return err
		}
		return value
	}
	r.heard = func(answer any) {
		if value, ok := answer.(T); ok && heard != nil {
			heard(value)
		}
	}
	c.post(r)
	return await[T](ctx, r)
}

// send carries requests to the server and its answers back, or loses them on the way.
func (p *process) send(twins []*request) {
	m := p.machine
	giveUp := func() {
		p.answer(twins, func(*request) any { return fmt.Errorf("%w: no answer", store.ErrUnavailable) })
	}
	if m.noRequests > 0 {
		m.after(silence, giveUp)
		return
	}
	m.after(m.delay(), func() {
		answers := make(map[*request]any, len(twins))
		for _, r := range twins {
			answers[r] = r.execute()
		}
		lost := m.noAnswers > 0 || m.lossy > 0 && m.rng.IntN(3) == 0
		m.tell("%s: %s%s", m.host.Name, twins[0].label, outcome(answers[twins[0]], lost))
		if lost {
			m.after(silence, giveUp)
			return
		}
		m.after(m.delay(), func() { p.answer(twins, func(r *request) any { return answers[r] }) })
	})
}

func outcome(answer any, lost bool) string {
	s := ""
	if err, failed := answer.(error); failed {
		s = ": " + err.Error()
	}
	if lost {
		s += " (the answer is lost)"
	}
	return s
}

func (c *client) Range(ctx context.Context, prefix string) (store.View, error) {
	return c.view(ctx, "range "+prefix, prefix, true)
}

func (c *client) RangeStale(ctx context.Context, prefix string) (store.View, error) {
	return c.view(ctx, "stale "+prefix, prefix, false)
}

func (c *client) view(ctx context.Context, label, prefix string, quorum bool) (store.View, error) {
	m := c.process.machine
	return call(ctx, c, label, quorum, func() (store.View, error) { return c.server.read(prefix, m) },
		func(view store.View) {
			if prefix == store.ScheduleKey(m.host.ID) {
				m.hear(view.Revision)
			}
		})
}

// Get reads one key. The history does not tell which: who reads several may do so in any order.
func (c *client) Get(ctx context.Context, key string) (store.Item, error) {
	return call(ctx, c, "get", true, func() (store.Item, error) { return c.server.memory.Get(c.ctx, key) }, nil)
}

func (c *client) Commit(ctx context.Context, commit store.Commit) (int64, error) {
	return call(ctx, c, labelOf(commit), true, func() (int64, error) { return c.server.commit(c.process, commit) }, nil)
}

// labelOf names what a commit is about, whatever the order of its operations.
func labelOf(commit store.Commit) string {
	var ops []string
	for _, op := range commit.Ops {
		key := strings.TrimPrefix(op.Key, store.Prefix)
		if op.Delete {
			ops = append(ops, "-"+key)
		} else {
			ops = append(ops, fmt.Sprintf("+%s=%08x", key, digest(op.Value)))
		}
	}
	slices.Sort(ops)
	return "commit " + strings.Join(ops, " ")
}

func (c *client) Campaign(ctx context.Context, election, candidate string, s store.Session) (store.Leadership, error) {
	return store.Elect(ctx, c, election, candidate, s)
}

// Close does nothing: the client ends with its process.
func (c *client) Close() error { return nil }
