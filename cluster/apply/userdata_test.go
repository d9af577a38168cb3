package apply

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
)

// limited is a provider that bounds user-data.
type limited struct {
	providers.Provider
	limit cloudconfig.Limit
}

func (l limited) UserDataLimit() cloudconfig.Limit { return l.limit }

func operatorDocument(t *testing.T, text string) cloudconfig.Document {
	t.Helper()
	doc, err := cloudconfig.ParseOperator("own.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestVariablesAreFilledIn(t *testing.T) {
	w := newWorld(t, 2, fake.Faults{}, true)
	w.spec.Groups[0].CloudConfig = operatorDocument(t, `#cloud-config
write_files:
  - {path: /etc/motd, content: "${muster.host} of ${muster.cluster} at ${muster.provider}: ${muster.label.role}"}
`)
	w.mustUp(Options{NoWait: true})
	found := 0
	for _, cloud := range w.clouds {
		servers, err := cloud.Servers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range servers {
			for _, want := range []string{"node-1 of demo at a: web", "node-2 of demo at b: web"} {
				if strings.Contains(string(s.UserData), want) {
					found++
				}
			}
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 hosts have their own variables", found)
	}
}

// A variable without a value is noticed before anything is made.
func TestVariableWithoutValue(t *testing.T) {
	w := newWorld(t, 2, fake.Faults{}, true)
	w.spec.Groups[0].CloudConfig = operatorDocument(t, `#cloud-config
write_files:
  - {path: /etc/motd, content: "${muster.label.rack}"}
`)
	_, err := w.up(Options{NoWait: true})
	if err == nil || !strings.Contains(err.Error(), "node-1") || !strings.Contains(err.Error(), "own.yaml:3") || len(w.servers()) > 0 {
		t.Errorf("error %v, servers %v", err, w.servers())
	}
}

func TestTooMuchUserData(t *testing.T) {
	w := newWorld(t, 4, fake.Faults{}, true)
	d := w.deps(nil)
	d.Providers["b"] = providers.Retry(limited{w.clouds["b"], cloudconfig.Limit{Bytes: 300}}, providers.RetryPolicy{}, discard)
	_, err := Up(t.Context(), d, Options{NoWait: true})
	var size *cloudconfig.SizeError
	if !errors.As(err, &size) || size.Size <= 300 || size.Limit.Bytes != 300 || len(w.servers()) > 0 {
		t.Fatalf("error %v, servers %v", err, w.servers())
	}
	for _, want := range []string{"host node-2 at provider b", "at most 300", "nothing was changed"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	d.Providers["b"] = limited{w.clouds["b"], cloudconfig.Limit{Bytes: size.Size}}
	if _, err := Up(t.Context(), d, Options{NoWait: true}); err != nil {
		t.Errorf("user-data that just fits: %v", err)
	}
	w.assertExactlyWanted()
}

func TestPreviewDocument(t *testing.T) {
	w := newWorld(t, 2, fake.Faults{}, true)
	w.spec.Groups[0].CloudConfig = operatorDocument(t, "#cloud-config\nusers: [{name: core, passwd: $6$salt$hash}]\n")
	doc, err := PreviewDocument(w.deps(nil), "node-2")
	if err != nil {
		t.Fatal(err)
	}
	if text := string(doc.Render()); strings.Contains(text, "$6$") || !strings.Contains(text, `passwd: '***'`) {
		t.Errorf("the password is not masked:\n%s", text)
	}
	if got := w.spec.Groups[0].CloudConfig.Users[0].Passwd.Reveal(); got != "$6$salt$hash" {
		t.Errorf("the cluster file's password is %q now", got)
	}
	for _, f := range doc.WriteFiles {
		var config join.Config
		data, err := f.Bytes()
		if err == nil && f.Path == join.ConfigPath {
			err = json.Unmarshal(data, &config)
		}
		if err != nil || config.Token != "***" || config.Host != "node-2" || config.Provider != "b" {
			t.Errorf("%s: %v, %s", f.Path, err, data)
		}
	}
	if _, err := PreviewDocument(w.deps(nil), "node-9"); err == nil || !strings.Contains(err.Error(), "not in the cluster file") {
		t.Errorf("error %v", err)
	}
	w.assertNothing()
}

// TestSettings: what the cluster file says of fleet's API and of the keys is a file of every host each, and there is none
// else.
func TestSettings(t *testing.T) {
	for _, c := range []struct {
		fleet join.Fleet
		keys  join.Keys
		want  string
	}{
		{join.Fleet{}, join.Keys{}, ""},
		{join.Fleet{Listen: ":49153"}, join.Keys{}, `{"listen":":49153"}` + "\n"},
		{join.Fleet{HostsCommand: true}, join.Keys{}, `{"hosts_command":true}` + "\n"},
		{join.Fleet{}, join.Keys{Bridge: "podman0", Grants: []string{"/a"}}, `{"bridge":"podman0","grants":["/a"]}` + "\n"},
	} {
		w := newWorld(t, 1, fake.Faults{}, true)
		w.spec.Fleet, w.spec.Keys = c.fleet, c.keys
		doc, err := document(w.deps(nil), w.spec.Hosts()[0], join.Config{})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, f := range doc.WriteFiles {
			if f.Path == join.FleetPath || f.Path == join.KeysPath {
				got += f.Content
			}
		}
		if got != c.want {
			t.Errorf("%+v, %+v: %q", c.fleet, c.keys, got)
		}
	}
}
