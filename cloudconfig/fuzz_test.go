package cloudconfig_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cloudconfig"
)

// FuzzParse looks for panics and hangs, and checks that what is valid renders to something that parses to the same, and
// merges with itself.
func FuzzParse(f *testing.F) {
	in, _ := everythingParsed(f)
	for _, seed := range []string{
		in, "#cloud-config\n", "#cloud-config\nusers: []\nruncmd: [[]]\n", "#cloud-config\n{}\n", "hostname: a\n",
		"#cloud-config\nwrite_files:\n- {path: /a, content: \"\\0\\t \\u2028\\n\"}\n- {path: /b, content: |2-\n\n   x\n\n  }\n",
		"#cloud-config\nruncmd: [&a [x, y], *a, \"  \\n\"]\nusers: [{name: x, passwd: '0x1'}]\n",
		"#cloud-config\nwrite_files: &a [{path: /etc/muster/x, permissions: 07777}]\n<<: {hostname: b}\n",
	} {
		f.Add([]byte(seed))
	}
	corpus, err := filepath.Glob("testdata/2014/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range corpus {
		seed, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("file:")) {
			return // a secret's file: nothing is to be read here
		}
		doc, err := cloudconfig.Parse("f", data)
		if err != nil {
			return
		}
		if expanded, err := doc.ExpandAddresses(addresses()); err == nil && len(expanded.Uses) > 0 {
			t.Fatalf("uses are left: %v", expanded.Uses)
		}
		out := doc.Render()
		again, err := cloudconfig.Parse("f", out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		doc, again = withoutPlaces(doc), withoutPlaces(again)
		if !cmp.Equal(doc, again) || !bytes.Equal(out, again.Render()) {
			t.Fatalf("%s\n%s", cmp.Diff(doc, again), out)
		}
		merged, err := cloudconfig.Merge(cloudconfig.Document{}, doc)
		if err != nil {
			return
		}
		if !cmp.Equal(merged, doc) {
			t.Fatalf("merged over nothing: %s", cmp.Diff(doc, merged))
		}
	})
}
