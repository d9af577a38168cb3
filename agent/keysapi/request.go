package keysapi

import (
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/musterhq/muster/agent/keys"
)

// request is what the parameters of a request of version 2 say, from the query and the form in the body.
type request struct {
	write                               keys.Write // without Kind and Key
	waitIndex                           uint64
	recursive, wait, quorum, stream, no bool // no: no value on success
}

// maxTTL is what etcd takes, in seconds.
const maxTTL = 9_000_000_000

// parse reads the parameters, in the order in which a genuine server does: the first mistake is told.
func parse(r *http.Request) (request, *keys.Error) {
	if err := r.ParseForm(); err != nil {
		return request{}, mistake(keys.CodeForm, err.Error())
	}
	return parseForm(r.Form, r.Method)
}

func parseForm(values url.Values, method string) (request, *keys.Error) {
	f := form{values: values}
	q := request{}
	q.write.PrevIndex = f.index("prevIndex")
	q.waitIndex = f.index("waitIndex")
	q.recursive = f.flag("recursive", `"recursive"`)
	f.flag("sorted", `"sorted"`) // ours always are
	q.wait = f.flag("wait", `"wait"`)
	q.write.Dir = f.flag("dir", `"dir"`)
	q.quorum = f.flag("quorum", `"quorum"`)
	q.stream = f.flag("stream", `"stream"`)
	if q.wait && method != http.MethodGet {
		f.fail(keys.CodeField, `"wait" can only be used with GET requests`)
	}
	q.write.Value, q.write.PrevValue = values.Get("value"), values.Get("prevValue")
	if values.Has("prevValue") && q.write.PrevValue == "" {
		f.fail(keys.CodePrevValue, `"prevValue" cannot be empty`)
	}
	q.no = f.flag("noValueOnSuccess", `"noValueOnSuccess"`)
	q.write.TTL = f.ttl()
	if values.Has("prevExist") {
		exist := f.flag("prevExist", "prevExist")
		q.write.PrevExist = &exist
	}
	q.write.Refresh = f.flag("refresh", "refresh")
	if q.write.Refresh && q.write.Value != "" {
		f.fail(keys.CodeRefreshValue, "A value was provided on a refresh")
	}
	if q.write.Refresh && q.write.TTL == nil {
		f.fail(keys.CodeRefreshTTL, "No TTL value set")
	}
	q.write.Recursive = q.recursive
	return q, f.first
}

// form reads parameters and keeps the first mistake.
type form struct {
	values url.Values
	first  *keys.Error
}

// mistake is an error that the store is not asked for, and so has no index.
func mistake(code int, cause string) *keys.Error { return &keys.Error{Code: code, Cause: cause} }

func (f *form) fail(code int, cause string) {
	if f.first == nil {
		f.first = mistake(code, cause)
	}
}

func (f *form) index(name string) uint64 {
	if !f.values.Has(name) {
		return 0
	}
	n, err := strconv.ParseUint(f.values.Get(name), 10, 64)
	if err != nil {
		f.fail(keys.CodeIndex, `invalid value for "`+name+`"`)
	}
	return n
}

func (f *form) flag(name, shown string) bool {
	if !f.values.Has(name) {
		return false
	}
	on, err := strconv.ParseBool(f.values.Get(name))
	if err != nil {
		f.fail(keys.CodeField, "invalid value for "+shown)
	}
	return on
}

func (f *form) ttl() *time.Duration {
	text := f.values.Get("ttl")
	if text == "" {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		f.fail(keys.CodeTTL, `invalid value for "ttl"`)
	}
	ttl := time.Duration(min(n, maxTTL)) * time.Second
	return &ttl
}

// since is an index to wait from, as the store counts.
func (q request) since() int64 { return int64(min(q.waitIndex, math.MaxInt64)) }
