package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// The sequential keys that histories are compared with (porcupine). Each file, which versions 2 and 3 share, and each
// directory of files in order is by itself.

// keyVerb is what a call does.
type keyVerb string

const (
	verbGet    keyVerb = "get"
	verbPut    keyVerb = "put"
	verbDelete keyVerb = "delete"
	verbPush   keyVerb = "push" // a file in order
	verbList   keyVerb = "list" // the files in order
	verbPop    keyVerb = "pop"  // deletes one of them
)

// demand is what must hold for a call to do anything.
type demand string

const (
	nothing   demand = ""
	absent    demand = "absent"
	present   demand = "present"
	sameValue demand = "value"
	sameIndex demand = "index"
)

// unanswered is an index that nobody has told.
const unanswered int64 = 0

// keyCall is the input of an operation. No two write the same value.
type keyCall struct {
	key    string
	verb   keyVerb
	demand demand
	value  string // to write
	old    string // the value that is demanded, that had the demanded index, or that is popped
	index  int64  // that is demanded
	api    int    // version, for people
}

func (c keyCall) String() string {
	return fmt.Sprintf("v%d %s %s if(%s %s %d) %s", c.api, c.verb, c.key, c.demand, c.old, c.index, c.value)
}

// keyNode is a file as a read or an answer tells it.
type keyNode struct {
	exists bool
	value  string
	index  int64
}

// outcome is how an operation ended.
type outcome string

const (
	unclear outcome = "unclear" // it may have been done, or be done yet, or never
	done    outcome = "done"
	refused outcome = "refused" // what it demands does not hold
)

// keyAnswer is the output of an operation.
type keyAnswer struct {
	outcome outcome
	node    keyNode  // what a read found, what a write made
	before  *keyNode // what a write found; nil if it does not tell
	code    int      // of a refusal of version 2
	items   string   // that a list found: "v1,v2,"
}

func (a keyAnswer) String() string {
	text := fmt.Sprintf("%s %v", a.outcome, a.node)
	if a.before != nil {
		text += fmt.Sprintf(" before %v", *a.before)
	}
	if a.code != 0 {
		text += fmt.Sprintf(" code %d", a.code)
	}
	return text + " " + a.items
}

// keyState is one file, or one directory of files in order.
type keyState struct {
	node  keyNode // its index is unanswered after a write whose answer was lost
	low   int64   // the greatest index, or name in order, that was told
	items string
}

// sequentialKeys do one thing at a time. What is unclear always may be: it can be the last of all.
func sequentialKeys() porcupine.Model {
	return porcupine.Model{
		Partition: partitionByKey,
		Init:      func() any { return keyState{} },
		Step: func(state, input, output any) (bool, any) {
			return state.(keyState).step(input.(keyCall), output.(keyAnswer))
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprint(input, " ", output) },
	}
}

func partitionByKey(history []porcupine.Operation) (parts [][]porcupine.Operation) {
	at := map[string]int{}
	for _, op := range history {
		key := op.Input.(keyCall).key
		if _, known := at[key]; !known {
			at[key] = len(parts)
			parts = append(parts, nil)
		}
		parts[at[key]] = append(parts[at[key]], op)
	}
	return parts
}

func (s keyState) step(in keyCall, out keyAnswer) (bool, keyState) {
	switch in.verb {
	case verbGet:
		return s.sees(out.node)
	case verbPush, verbList, verbPop:
		return s.inOrder(in, out)
	}
	holds := s.holds(in)
	switch {
	case out.outcome == unclear && !holds:
		return true, s
	case out.outcome == unclear:
		return true, s.after(in, unanswered)
	case out.outcome == refused:
		return s.refuses(in, out)
	}
	if out.before != nil {
		var ok bool
		if ok, s = s.sees(*out.before); !ok {
			return false, s
		}
	}
	if in.verb == verbDelete && in.demand == nothing && !s.node.exists {
		return true, s
	}
	if !holds || out.node.index != unanswered && out.node.index <= s.low {
		return false, s
	}
	return true, s.after(in, out.node.index)
}

// sees tells whether a read may find this, and what is known of the index then.
func (s keyState) sees(n keyNode) (bool, keyState) {
	switch {
	case n.exists != s.node.exists:
		return false, s
	case !n.exists:
		return true, s
	case n.value != s.node.value, s.node.index != unanswered && n.index != s.node.index:
		return false, s
	case s.node.index == unanswered && n.index <= s.low:
		return false, s
	}
	s.node.index, s.low = n.index, n.index
	return true, s
}

// holds tells whether what a call demands is so.
func (s keyState) holds(in keyCall) bool {
	switch in.demand {
	case absent:
		return !s.node.exists
	case present:
		return s.node.exists
	case sameValue:
		return s.node.exists && s.node.value == in.old
	case sameIndex:
		return s.node.exists && s.node.value == in.old && (s.node.index == unanswered || s.node.index == in.index)
	}
	return true
}

// refuses tells whether a refusal is right in what it says.
func (s keyState) refuses(in keyCall, out keyAnswer) (bool, keyState) {
	const notFound = 100
	if s.holds(in) || out.code != 0 && (out.code == notFound) == s.node.exists {
		return false, s
	}
	if out.before != nil {
		return s.sees(*out.before)
	}
	return true, s
}

func (s keyState) after(in keyCall, index int64) keyState {
	s.node = keyNode{exists: in.verb == verbPut, value: in.value, index: index}
	if in.verb == verbDelete {
		s.node = keyNode{}
	}
	s.low = max(s.low, index)
	return s
}

// inOrder is a step of a directory, where low is the greatest name.
func (s keyState) inOrder(in keyCall, out keyAnswer) (bool, keyState) {
	switch in.verb {
	case verbPush:
		if out.outcome == done && out.node.index <= s.low {
			return false, s
		}
		s.items += in.value + ","
	case verbList:
		return s.items == out.items, s
	case verbPop:
		without := slices.DeleteFunc(strings.SplitAfter(s.items, ","), func(item string) bool { return item == in.old+"," })
		left := strings.Join(without, "")
		if out.outcome != unclear && (out.outcome == done) == (left == s.items) {
			return false, s
		}
		s.items = left
	}
	s.low = max(s.low, out.node.index)
	return true, s
}

// keyRecord is a history while it is made. What is not answered by the end is unclear.
type keyRecord struct {
	began time.Time

	mu         sync.Mutex
	operations []*porcupine.Operation // guarded by mu, and what they point to
}

func (r *keyRecord) begin(client int, in keyCall) *porcupine.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	op := &porcupine.Operation{ClientId: client, Input: in, Call: int64(time.Since(r.began)), Output: keyAnswer{outcome: unclear}}
	r.operations = append(r.operations, op)
	return op
}

func (r *keyRecord) end(op *porcupine.Operation, out keyAnswer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op.Output, op.Return = out, int64(time.Since(r.began))
}

// drop takes an operation that did nothing out of the history.
func (r *keyRecord) drop(op *porcupine.Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.operations = slices.DeleteFunc(r.operations, func(o *porcupine.Operation) bool { return o == op })
}

// linearizable says whether the history is one that the sequential keys could have.
func (r *keyRecord) linearizable() porcupine.CheckResult {
	end := int64(time.Since(r.began)) + 1
	history := make([]porcupine.Operation, len(r.operations))
	for i, op := range r.operations {
		if history[i] = *op; op.Return == 0 {
			history[i].Return = end
		}
	}
	return porcupine.CheckOperationsTimeout(sequentialKeys(), history, 2*time.Minute)
}

// wrong are the operations on the keys of which the history is not linearizable.
func (r *keyRecord) wrong() string {
	var all []porcupine.Operation
	for _, op := range r.operations {
		all = append(all, *op)
	}
	text := ""
	for _, part := range partitionByKey(all) {
		one := &keyRecord{began: r.began}
		for i := range part {
			one.operations = append(one.operations, &part[i])
		}
		if one.linearizable() == porcupine.Ok {
			continue
		}
		for _, op := range part {
			text += fmt.Sprintf("%7.1f-%7.1f ms client %d: %v: %v\n", float64(op.Call)/1e6, float64(op.Return)/1e6, op.ClientId, op.Input, op.Output)
		}
	}
	return text
}

// TestKeyModel has the model accept and refuse histories of one client.
func TestKeyModel(t *testing.T) {
	file := func(value string, index int64) keyNode { return keyNode{exists: true, value: value, index: index} }
	was := func(n keyNode) *keyNode { return &n }
	put := func(value string, d demand, old string, index int64) keyCall {
		return keyCall{key: "k", verb: verbPut, demand: d, value: value, old: old, index: index}
	}
	get, drop := keyCall{key: "k", verb: verbGet}, keyCall{key: "k", verb: verbDelete}
	push := func(value string) keyCall { return keyCall{key: "q", verb: verbPush, value: value} }
	list, pop := keyCall{key: "q", verb: verbList}, keyCall{key: "q", verb: verbPop, old: "a"}
	type step struct {
		in  keyCall
		out keyAnswer
	}
	wrote := func(index int64) keyAnswer {
		return keyAnswer{outcome: done, node: keyNode{exists: true, index: index}}
	}
	found := func(n keyNode) keyAnswer { return keyAnswer{outcome: done, node: n} }
	for _, tt := range []struct {
		name  string
		want  porcupine.CheckResult
		steps []step
	}{
		{"what was put is there", porcupine.Ok, []step{{put("a", nothing, "", 0), wrote(5)}, {get, found(file("a", 5))}}},
		{"another value", porcupine.Illegal, []step{{put("a", nothing, "", 0), wrote(5)}, {get, found(file("b", 5))}}},
		{"another index", porcupine.Illegal, []step{{put("a", nothing, "", 0), wrote(5)}, {get, found(file("a", 6))}}},
		{"nothing", porcupine.Illegal, []step{{put("a", nothing, "", 0), wrote(5)}, {get, found(keyNode{})}}},
		{"an index that goes back", porcupine.Illegal, []step{{put("a", nothing, "", 0), wrote(5)}, {put("b", nothing, "", 0), wrote(4)}}},
		{"what is unclear was done", porcupine.Ok, []step{{put("a", nothing, "", 0), keyAnswer{outcome: unclear}}, {get, found(file("a", 6))}}},
		{"what is unclear was not done", porcupine.Ok, []step{{put("a", nothing, "", 0), keyAnswer{outcome: unclear}}, {get, found(keyNode{})}}},
		{"what is unclear is done twice", porcupine.Illegal, []step{
			{put("a", nothing, "", 0), keyAnswer{outcome: unclear}},
			{put("b", sameValue, "a", 0), wrote(7)},
			{get, found(file("a", 8))},
		}},
		{"a swap that was right to be refused", porcupine.Ok, []step{
			{put("a", nothing, "", 0), wrote(5)}, {put("b", sameIndex, "z", 3), keyAnswer{outcome: refused, code: 101}},
		}},
		{"a swap that was wrong to be refused", porcupine.Illegal, []step{
			{put("a", nothing, "", 0), wrote(5)}, {put("b", sameIndex, "a", 5), keyAnswer{outcome: refused, code: 101}},
		}},
		{"a swap of what is not there", porcupine.Illegal, []step{{put("b", sameValue, "a", 0), wrote(5)}}},
		{"a refusal for another reason", porcupine.Illegal, []step{
			{put("a", nothing, "", 0), wrote(5)}, {put("b", sameValue, "z", 0), keyAnswer{outcome: refused, code: 100}},
		}},
		{"what was there before", porcupine.Illegal, []step{
			{put("a", nothing, "", 0), wrote(5)},
			{put("b", nothing, "", 0), keyAnswer{outcome: done, node: keyNode{index: 6}, before: was(keyNode{})}},
		}},
		{"nothing to delete", porcupine.Ok, []step{{drop, keyAnswer{outcome: done, before: was(keyNode{})}}, {get, found(keyNode{})}}},
		{"in order", porcupine.Ok, []step{
			{push("a"), wrote(5)},
			{push("b"), keyAnswer{outcome: unclear}},
			{list, keyAnswer{outcome: done, items: "a,b,"}},
			{pop, found(keyNode{})},
			{list, keyAnswer{outcome: done, items: "b,"}},
		}},
		{"in another order", porcupine.Illegal, []step{{push("a"), wrote(5)}, {push("b"), wrote(6)}, {list, keyAnswer{outcome: done, items: "b,a,"}}}},
		{"names that go back", porcupine.Illegal, []step{{push("a"), wrote(5)}, {push("b"), wrote(5)}}},
		{"popped twice", porcupine.Illegal, []step{{push("a"), wrote(5)}, {pop, found(keyNode{})}, {pop, found(keyNode{})}}},
		{"pushed twice", porcupine.Illegal, []step{{push("a"), wrote(5)}, {list, keyAnswer{outcome: done, items: "a,a,"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &keyRecord{began: time.Now()}
			for _, s := range tt.steps {
				op := r.begin(0, s.in)
				if s.out.outcome != unclear {
					r.end(op, s.out)
				}
			}
			if got := r.linearizable(); got != tt.want {
				t.Errorf("%s, want %s\n%s", got, tt.want, r.wrong())
			}
		})
	}
}
