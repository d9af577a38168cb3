package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/golden"
	"github.com/musterhq/muster/cluster/spec"
)

// TestUserDataOfExamples holds what the first host of every provider of every example is told, in both formats, to its
// golden file. Each reads back as the document that it was.
func TestUserDataOfExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		s, err := spec.Load(file, drivers())
		if err != nil {
			t.Fatal(err)
		}
		for provider, host := range firstHosts(s) {
			name := filepath.Base(filepath.Dir(file)) + "-" + provider
			t.Run(name, func(t *testing.T) {
				for _, format := range []string{formatCloudConfig, formatIgnition} {
					got := rendered(t, file, host, format)
					golden.Compare(t, "testdata/golden/"+filepath.Join("userdata", name+"."+format), got)
					if format == formatCloudConfig {
						readsBack(t, got)
					}
				}
			})
		}
	}
}

// firstHosts maps each provider to the first of its hosts.
func firstHosts(s spec.Spec) map[string]string {
	first := make(map[string]string)
	for _, h := range s.Hosts() {
		if first[h.Provider] == "" {
			first[h.Provider] = h.Name
		}
	}
	return first
}

func rendered(t *testing.T, file, host, format string) []byte {
	t.Helper()
	var out, problems bytes.Buffer
	args := []string{"cloudconfig", "render", host, "-f", file, "--format", format}
	if code := run(t.Context(), args, strings.NewReader(""), &out, &problems); code != 0 {
		t.Fatalf("muster %v: exit status %d\n%s", args, code, problems.String())
	}
	return out.Bytes()
}

func readsBack(t *testing.T, text []byte) {
	t.Helper()
	doc, err := cloudconfig.Parse("user-data", text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(doc.Render())); diff != "" {
		t.Errorf("render → parse → render (-want +got):\n%s", diff)
	}
}
