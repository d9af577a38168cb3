package keysapi

import (
	"context"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/musterhq/muster/agent/keys"
	"github.com/musterhq/muster/agent/keys/keystest"
)

func startStore(tb testing.TB, client *clientv3.Client) *keys.Store {
	tb.Helper()
	return startStoreOf(tb, keys.Config{Client: client})
}

// startStoreOf runs a store until the end of the test.
func startStoreOf(tb testing.TB, cfg keys.Config) *keys.Store {
	tb.Helper()
	s := keys.New(cfg)
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	tb.Cleanup(func() { cancel(); wg.Wait() })
	ready, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	if err := s.Sync(ready); err != nil {
		tb.Fatal(err)
	}
	return s
}

// startServer serves both versions over an etcd of its own.
func startServer(tb testing.TB) (base string, etcd *keystest.Etcd) {
	tb.Helper()
	etcd = keystest.Start(tb, "")
	server := httptest.NewServer(New(Config{Keys: startStore(tb, etcd.Client), Name: "ours", ID: "1f"}).Handler())
	tb.Cleanup(server.Close)
	return server.URL, etcd
}
