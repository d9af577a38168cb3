package spec_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/golden"
	"github.com/musterhq/muster/cluster/spec"
)

// TestBadFiles parses every archive of testdata/bad: a cluster file, the files that it names, and what is said of it.
func TestBadFiles(t *testing.T) {
	t.Setenv("MUSTER_TEST_TOKEN", "canary")
	archives, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(archives) < 30 {
		t.Fatalf("%d archives, %v", len(archives), err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := txtar.Write(archive, dir); err != nil {
				t.Fatal(err)
			}
			want := &archive.Files[len(archive.Files)-1]
			if want.Name != "want" {
				t.Fatalf("the last file is %s, not want", want.Name)
			}
			got, err := spec.Load(filepath.Join(dir, "cluster.yaml"), registry())
			var findings finding.Findings
			if !errors.As(err, &findings) {
				t.Fatalf("the error is %v", err)
			}
			if !cmp.Equal(got, spec.Spec{}) {
				t.Errorf("with findings there is a Spec: %+v", got)
			}
			text := strings.ReplaceAll(findings.Error()+"\n", dir+"/", "")
			if golden.Updating() {
				want.Data = []byte(text)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(want.Data), text); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			for _, f := range findings {
				if f.Line == 0 || f.Column == 0 && !strings.Contains(f.Message, "YAML") || f.Message == "" {
					t.Errorf("no place or no message: %v", f)
				}
			}
		})
	}
}

func TestLoadMissingFile(t *testing.T) {
	_, err := spec.Load("none/cluster.yaml", registry())
	want := "none/cluster.yaml: cannot read the cluster file: no such file or directory; `muster init` writes one to start from"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	_, err = spec.Load("testdata", registry())
	if want := "testdata: cannot read the cluster file: testdata is not a regular file"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
