package cloudconfig_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/musterhq/muster/cloudconfig"
)

// TestMasked looks for what is hidden, what is shown, and for a change of the document itself.
func TestMasked(t *testing.T) {
	const text = `#cloud-config
users: [{name: a, passwd: hidden1}, {name: b, gecos: shown}]
write_files:
  - {path: /own, permissions: "0600", content: hidden2}
  - {path: /group, permissions: "0640", encoding: b64, content: aGlkZGVuMw==}
  - {path: /all, permissions: "0644", content: shown}
  - {path: /default, content: shown}
  - {path: /empty, permissions: "0600"}
coreos:
  fleet: {etcd_password: hidden4, metadata: is=shown}
  flannel: {etcd_password: hidden5}
runcmd: [shown]
`
	parse := func() cloudconfig.Document {
		doc, err := cloudconfig.Parse("x", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	doc := parse()
	masked := string(doc.Masked().Render())
	if strings.Contains(masked, "hidden") || strings.Contains(masked, "aGlk") {
		t.Errorf("something is not masked:\n%s", masked)
	}
	if n := strings.Count(masked, "shown"); n != 5 {
		t.Errorf("%d of 5 texts are shown:\n%s", n, masked)
	}
	if n := strings.Count(masked, "***"); n != 5 {
		t.Errorf("%d of 5 secrets are masked:\n%s", n, masked)
	}
	if again := parse(); !reflect.DeepEqual(again, doc) {
		t.Error("the document was changed")
	}
}
