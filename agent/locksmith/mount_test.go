package locksmith

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/keys"
	"github.com/musterhq/muster/agent/keysapi"
	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/cluster/store"
)

// TestLocksmithctl sends what locksmithctl sends (COMPAT: locksmith), through the keys' API.
func TestLocksmithctl(t *testing.T) {
	m := store.NewMemory(time.Now)
	defer m.Close()
	l := &lock.Locksmith{Keeper: &lock.Keeper{Store: m, Now: time.Now}}
	h := keysapi.New(keysapi.Config{Keys: keys.New(keys.Config{}), Mounts: map[string]keysapi.Mount{Root: &Mount{Locks: l}}}).Handler()
	index := ""
	call := func(method, path, query, value string) (int, string) {
		t.Helper()
		var body io.Reader
		if value != "" {
			body = strings.NewReader(url.Values{"value": {value}}.Encode())
		}
		r := httptest.NewRequestWithContext(t.Context(), method, "/v2/keys"+path+"?"+query, body)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if _, after, found := strings.Cut(w.Body.String(), `"modifiedIndex":`); found {
			index = after[:strings.IndexAny(after, ",}")]
		}
		return w.Code, w.Body.String()
	}
	const get = "quorum=false&recursive=false&sorted=false"
	for _, group := range []string{Root, Root + "/groups/web+1"} {
		at := group + "/semaphore"
		for i, step := range []struct {
			method, query, value string
			status               int
			has                  string
		}{
			{"GET", get, "", 404, `"errorCode":100`},
			{"PUT", "prevExist=false", `{"semaphore":1,"max":1,"holders":null}`, 201, `"action":"create"`},
			{"PUT", "prevExist=false", `{"semaphore":1,"max":1,"holders":null}`, 412, `"errorCode":105`},
			{"GET", get, "", 200, `{\"semaphore\":1,\"max\":1,\"holders\":null}`},
			{"PUT", "prevIndex=INDEX", `{"semaphore":0,"max":1,"holders":["a"]}`, 200, `"prevNode"`},
			{"GET", get, "", 200, `{\"semaphore\":0,\"max\":1,\"holders\":[\"a\"]}`},
			{"PUT", "prevIndex=1", `{"semaphore":1,"max":1,"holders":null}`, 412, `"errorCode":101`},
			{"PUT", "prevIndex=INDEX", `{"semaphore":-1,"max":1,"holders":["a","b"]}`, 401, `places are held`},
			{"PUT", "prevIndex=INDEX", `{"semaphore":1,"max":2,"holders":["a"]}`, 200, `"max\":2`},
			{"PUT", "", `{"semaphore":2,"max":2,"holders":null}`, 401, `prevIndex`},
			{"DELETE", "", "", 401, `muster lock`},
			{"PUT", "prevIndex=INDEX", `{"semaphore":2,"max":2,"holders":null}`, 200, `"holders\":null`},
		} {
			status, body := call(step.method, at, strings.ReplaceAll(step.query, "INDEX", index), step.value)
			if status != step.status || !strings.Contains(body, step.has) {
				t.Fatalf("%s, step %d: %d %s", group, i, status, body)
			}
		}
	}
	if status, body := call("GET", Root+"/groups/a/b/semaphore", get, ""); status != http.StatusNotFound {
		t.Errorf("%d %s", status, body)
	}
}

// TestRemote tells what voters answer.
func TestRemote(t *testing.T) {
	for status, want := range map[int]func(error) bool{
		http.StatusPreconditionFailed: func(err error) bool { return errors.Is(err, lock.ErrIndex) },
		http.StatusConflict:           func(err error) bool { var r *lock.Refused; return errors.As(err, &r) },
		http.StatusServiceUnavailable: func(err error) bool { var e *api.Error; return errors.As(err, &e) },
		http.StatusOK:                 func(err error) bool { return err == nil },
	} {
		r := &Remote{Swap: func(context.Context, string, api.LockSwap) error {
			if status == http.StatusOK {
				return nil
			}
			return api.Errorf(status, "", "no")
		}}
		if err := r.CompareAndSwap(t.Context(), "g", 1, "{}"); !want(err) {
			t.Errorf("%d: %v", status, err)
		}
	}
}
