package local

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/musterhq/muster/providers"
)

// sleeper is a musterd that costs little, for benchmarks with many hosts.
func sleeper(b *testing.B, dir string) string {
	b.Helper()
	path := filepath.Join(dir, "musterd")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 600\n"), 0o700); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkList lists 100 hosts: all running, and with one stopped, for which the whole process table is searched.
func BenchmarkList(b *testing.B) {
	dir := shortDir(b)
	p := testProvider(b, dir, func(c *Config, _ *providers.Environment) { c.Musterd = sleeper(b, dir) })
	for n := range 100 {
		if _, err := p.Create(b.Context(), request(fmt.Sprintf("web-%d", n), nil)); err != nil {
			b.Fatal(err)
		}
	}
	list := func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if list, err := p.List(b.Context(), testCluster); err != nil || len(list) != 100 {
				b.Fatalf("%d hosts, %v", len(list), err)
			}
		}
	}
	b.Run("running", list)
	h, _, err := p.find(request("web-7", nil).Identity)
	if err != nil {
		b.Fatal(err)
	}
	stop(b, p, h)
	b.Run("one stopped", list)
}

// BenchmarkCreateDestroy makes and ends one host.
func BenchmarkCreateDestroy(b *testing.B) {
	dir := shortDir(b)
	p := testProvider(b, dir, func(c *Config, _ *providers.Environment) { c.Musterd = sleeper(b, dir) })
	for b.Loop() {
		instance, err := p.Create(b.Context(), request("web-1", nil))
		if err == nil {
			err = p.Destroy(b.Context(), instance)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
