// Package registry follows what servers announce in the keys that all hosts share: the values in one directory, an address and
// port each. Whoever announces gives its key a time to live, so that a server which is gone is taken off by the clock.
//
// While the keys cannot be read, the servers that are known stay. It does not know whether they are well.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Directory is where servers announce themselves.
type Directory struct {
	// Keys is where the keys are: http://127.0.0.1:4001, or what $MUSTER_KEYS says. Who is on none of the hosts names several,
	// with commas between them, and asks the next when one does not answer.
	Keys string
	Key  string // of the directory: /services/api
}

// reread is after how long a directory is read again in which nothing changes.
const reread = time.Minute

// pauseOnError is how long the keys are left alone that could not be read.
const pauseOnError = time.Second

// Follow hands on the servers, sorted, now and whenever they may have changed, until ctx ends.
func (d Directory) Follow(ctx context.Context, log *slog.Logger, use func(servers []string)) {
	hosts := strings.Split(d.Keys, ",")
	for turn := 0; ctx.Err() == nil; turn++ {
		d.Keys = hosts[turn%len(hosts)]
		d.stay(ctx, log, use)
		select {
		case <-time.After(pauseOnError):
		case <-ctx.Done():
		}
	}
}

// stay follows the servers at one host until that fails.
func (d Directory) stay(ctx context.Context, log *slog.Logger, use func(servers []string)) {
	for ctx.Err() == nil {
		servers, index, err := d.read(ctx)
		if err == nil {
			use(servers)
			err = d.wait(ctx, index+1)
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("cannot follow the servers, going on with those that are known", "keys", d.Keys, "err", err)
			return
		}
	}
}

// reply is a directory or an error, as version 2 of etcd's API has them.
type reply struct {
	Code int `json:"errorCode"`
	Node struct {
		Nodes []struct {
			Value string `json:"value"`
		} `json:"nodes"`
	} `json:"node"`
}

// keyNotFound is the error of a directory in which nobody has announced anything yet.
const keyNotFound = 100

// read returns the servers and the index of the keys that they are as of. What is no address is nobody's announcement: more may
// write there than servers, and configuration is made of it.
func (d Directory) read(ctx context.Context) (servers []string, index uint64, err error) {
	resp, err := d.get(ctx, nil)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	var r reply
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return nil, 0, fmt.Errorf("cannot read %s: %s: %w", d.Key, resp.Status, err)
	}
	if resp.StatusCode != http.StatusOK && r.Code != keyNotFound {
		return nil, 0, fmt.Errorf("cannot read %s: %s", d.Key, resp.Status)
	}
	if index, err = strconv.ParseUint(resp.Header.Get("X-Etcd-Index"), 10, 64); err != nil {
		return nil, 0, fmt.Errorf("cannot read the index of %s: %w", d.Key, err)
	}
	servers = []string{}
	for _, n := range r.Node.Nodes {
		if at, err := netip.ParseAddrPort(n.Value); err == nil {
			servers = append(servers, at.String())
		}
	}
	slices.Sort(servers)
	return slices.Compact(servers), index, nil
}

// wait returns when something has changed since an index, and now and then without.
func (d Directory) wait(ctx context.Context, since uint64) error {
	ctx, cancel := context.WithTimeout(ctx, reread)
	defer cancel()
	resp, err := d.get(ctx, url.Values{"wait": {"true"}, "recursive": {"true"}, "waitIndex": {strconv.FormatUint(since, 10)}})
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	if err == nil && resp.StatusCode == http.StatusBadRequest {
		return nil // so much has happened that the index is history: read again
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return fmt.Errorf("cannot wait for changes of %s: %w", d.Key, err)
	}
	return nil
}

func (d Directory) get(ctx context.Context, query url.Values) (*http.Response, error) {
	at, err := url.JoinPath(d.Keys, "/v2/keys", d.Key)
	if err != nil {
		return nil, fmt.Errorf("`%s` is no URL: %w", d.Keys, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(r)
}
