//go:build lab && linux

package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const insideVariable = "MUSTER_TEST_INSIDE"

// TestLabBridge follows a bridge that comes, moves and goes, in a network namespace of its own.
func TestLabBridge(t *testing.T) {
	if os.Getenv(insideVariable) == "" {
		cmd := exec.CommandContext(t.Context(), "unshare", "--net", os.Args[0], "-test.run", "^TestLabBridge$", "-test.v")
		cmd.Env = append(os.Environ(), insideVariable+"=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	ip := func(args string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	ip("link set lo up")
	g := New(Config{Host: "node-1", Keys: http.HandlerFunc(echo), Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var trouble atomic.Pointer[error]
	go func() {
		done <- g.KeepBridge(ctx, "podman0", Policy{Bridged: true, Grants: []string{"/granted"}}, func(err error) { trouble.Store(&err) })
	}()
	ip("link add podman0 type bridge")
	ip("address add 10.88.0.1/16 dev podman0")
	ip("link set podman0 up")
	eventually(t, func() error { return answers("http://10.88.0.1:4001", http.MethodGet, "/v2/keys/a", 200) })
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{http.MethodPut, "/v2/keys/a", 403},
		{http.MethodPut, "/v2/keys/granted/a", 200},
		{http.MethodGet, "/v2/keys" + lockKey, 403},
	} {
		if err := answers("http://10.88.0.1:2379", tt.method, tt.path, tt.want); err != nil {
			t.Error(err)
		}
	}
	if err := answers("http://127.0.0.1:4001", http.MethodGet, "/v2/keys/a", 200); err == nil {
		t.Error("the bridge's gateway listens elsewhere too")
	}

	ip("address flush dev podman0")
	ip("address add 10.89.0.1/16 dev podman0")
	eventually(t, func() error { return answers("http://10.89.0.1:4001", http.MethodGet, "/v2/keys/a", 200) })
	ip("link delete podman0")
	eventually(t, func() error {
		if answers("http://10.89.0.1:4001", http.MethodGet, "/v2/keys/a", 200) == nil {
			return errors.New("it is still served")
		}
		return nil
	})
	if err := trouble.Load(); err != nil && *err != nil {
		t.Errorf("trouble: %v", *err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func answers(base, method, path string, want int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, base+path, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s%s: %s, want %d", method, base, path, resp.Status, want)
	}
	return nil
}

// eventually waits for many times as long as anything may take.
func eventually(t *testing.T, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * lookEvery)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(100 * time.Millisecond)
	}
}
