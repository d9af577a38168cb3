package e2e

import (
	"fmt"
	"maps"
	"os/exec"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cmd/muster/e2e/canary"
)

// fieldsWithCanaries are the fields that hold a secret, by their type or by their name, and the name of what is looked for
// on their account. Fields of the drivers' configurations are found in the schema, and need no line here.
var fieldsWithCanaries = map[string]string{
	"cloudconfig.User.Passwd":    "cloud-config users.passwd",
	"ignition.user.PasswordHash": "cloud-config users.passwd",
	"join.Config.Token":          "join token of *",
	"join.Request.Token":         "join token of *",
	"state.Entry.Token":          "join token of *",
	"state.Machine.Token":        "join token of *",
	"apply.run.tokens":           "join token of *",
	"state.Entry.UserData":       "cloud-config *",
	"state.Machine.UserData":     "cloud-config *",
	"join.VoterRole.IssuerKey":   "key issuer",
	"pki.Pair.KeyPEM":            "key operator",
}

// fieldsWithoutSecrets only sound as if they held one.
var fieldsWithoutSecrets = map[string]string{
	"join.VoterRole.ClusterToken":       "etcd's initial-cluster-token is a name, which keeps clusters apart",
	"state.Bootstrap.ClusterToken":      "as above",
	"store.Tables.Tokens":               "records by the hashes of tokens",
	"state.Tokens.tokens":               "as above",
	"state.tokensFile.Tokens":           "as above",
	"fleetapi.UnitPage.Next":            "where a list goes on",
	"fleetapi.UnitStatePage.Next":       "as above",
	"fleetapi.MachinePage.Next":         "as above",
	"repository.InitOptions.Passphrase": "it is of no cluster: it is held while `muster release init` encrypts a key file of the operator's",
}

// driverSecret is what the canary of a key in a driver's configuration is called. The driver's package has its name.
func driverSecret(driver, key string) string { return "driver " + driver + ": " + key }

// lastKey is the key that a path ends with, but for lists.
func lastKey(path string) string {
	path = strings.TrimSuffix(path, ".[]")
	return path[strings.LastIndex(path, ".")+1:]
}

// everyFieldHasACanary reads from the sources of both programs which fields hold secrets, and fails for one that is neither
// planted nor known to be harmless. So nobody adds a secret that this test does not look for.
func (c *canaries) everyFieldHasACanary() {
	c.t.Helper()
	names := c.set.Names()
	known := map[string]bool{}
	for _, f := range secretFields(c.t) {
		field := f.String()
		known[field] = true
		pattern, planted := fieldsWithCanaries[field]
		_, harmless := fieldsWithoutSecrets[field]
		switch {
		case planted:
			if !slices.ContainsFunc(names, func(name string) bool { ok, _ := path.Match(pattern, name); return ok }) {
				c.t.Errorf("the canary of %s, %q, was not planted", field, pattern)
			}
		case !harmless && !slices.Contains(names, driverSecret(f.Package, f.Key)):
			c.t.Errorf("%s may hold a secret and has no canary: plant one, or say in fieldsWithoutSecrets why it holds none", field)
		}
	}
	for _, field := range slices.Concat(slices.Collect(maps.Keys(fieldsWithCanaries)), slices.Collect(maps.Keys(fieldsWithoutSecrets))) {
		if !known[field] {
			c.t.Errorf("there is no field %s any more", field)
		}
	}
}

// secretFields lists the fields of all packages of this module that the two programs link.
func secretFields(t testing.TB) []canary.Field {
	t.Helper()
	list := exec.Command("go", "list", "-deps", "-f", "{{if and .Module .Module.Main}}{{.Dir}}{{end}}", "./cmd/muster", "./cmd/musterd")
	list.Dir = repoRoot()
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var found []canary.Field
	for _, dir := range strings.Fields(string(out)) {
		for _, secret := range []string{"secret.Secret", "Private"} { // Private is state's own
			fields, err := canary.Fields(dir, secret)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range fields {
				if !slices.ContainsFunc(found, func(g canary.Field) bool { return g.String() == f.String() }) {
					found = append(found, f)
				}
			}
		}
	}
	return found
}

// daemonOptions are the options of the daemons of 2014 that hold a secret: each that a document may have.
func (c *canaries) daemonOptions() string {
	var text strings.Builder
	coreos := reflect.TypeFor[cloudconfig.CoreOS]()
	for i := range coreos.NumField() {
		field := coreos.Field(i)
		if field.Type != reflect.TypeFor[cloudconfig.Options]() {
			continue
		}
		daemon, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		for _, option := range []string{"etcd_password", "password", "passwd", "secret", "token", "auth_token", "private_key"} {
			line := fmt.Sprintf("  %s: {%s: %%s}\n", daemon, option)
			if _, err := cloudconfig.Parse("probe", fmt.Appendf(nil, "#cloud-config\ncoreos:\n"+line, "x")); err == nil {
				fmt.Fprintf(&text, line, c.set.Plant("cloud-config coreos."+daemon+"."+option))
			}
		}
	}
	if !strings.Contains(text.String(), "etcd_password") {
		c.t.Error("no daemon has a password any more: look for what holds it now")
	}
	return text.String()
}

// wrongDocuments are mistakes in a cloud-config, each with a secret in it: %s is letters and digits, %d digits alone.
var wrongDocuments = map[string]string{
	"a list as password":     "#cloud-config\nusers: [{name: a, passwd: [%s]}]\n",
	"a number as password":   "#cloud-config\nusers: [{name: a, passwd: %d}]\n",
	"a mapping as password":  "#cloud-config\nusers: [{name: a, passwd: {%s: %s}}]\n",
	"an alias as password":   "#cloud-config\nusers: [{name: a, passwd: *%s}]\n",
	"a tag as password":      "#cloud-config\nusers: [{name: a, passwd: !%s x}]\n",
	"a directive":            "#cloud-config\nusers:\n- name: a\n  passwd: %%%s\n",
	"a reserved mark":        "#cloud-config\nusers:\n- name: a\n  passwd: @%s\n",
	"a quote left open":      "#cloud-config\nusers:\n- name: a\n  passwd: \"%s\n",
	"an unknown escape":      "#cloud-config\nusers:\n- name: a\n  passwd: \"%s\\q\"\n",
	"two passwords":          "#cloud-config\nusers: [{name: a, passwd: %s, passwd: %s}]\n",
	"a key that is unknown":  "#cloud-config\nusers: [{name: a, password: %s}]\n",
	"a number as content":    "#cloud-config\nwrite_files: [{path: /x, permissions: '0600', content: %d}]\n",
	"a list as content":      "#cloud-config\nwrite_files: [{path: /x, permissions: '0600', content: [%s]}]\n",
	"not base64":             "#cloud-config\nwrite_files: [{path: /x, permissions: '0600', encoding: b64, content: '%s!'}]\n",
	"not gzip":               "#cloud-config\nwrite_files: [{path: /x, permissions: '0600', encoding: gz+b64, content: %s}]\n",
	"an unknown variable":    "#cloud-config\nwrite_files: [{path: /x, permissions: '0600', content: '%s ${muster.nothing}'}]\n",
	"a label without value":  "#cloud-config\nwrite_files: [{path: /x, permissions: '0600', content: '%s ${muster.label.none}'}]\n",
	"an option of no string": "#cloud-config\ncoreos: {flannel: {etcd_password: [%s]}}\n",
	"no cloud-config":        "token: %s\n",
	"a script":               "#!/bin/sh\nlogin %s\n",
	"no YAML":                "#cloud-config\nwrite_files: [{content: %s\n",
	"a tab":                  "#cloud-config\nusers:\n- name: a\n\tpasswd: %s\n",
	"a line too many":        "#cloud-config\nusers:\n- name: a\n  passwd: a\n%s\n",
}

// wrongConfigs are mistakes in the lines of a provider and of its hosts' settings.
var wrongConfigs = map[string][2]string{
	"a secret for a driver without": {"token: %s", ""},
	"a password for a driver":       {"password: {env: NOWHERE, value: %s}", ""},
	"a list as a variable":          {"", "env: {TOKEN: [%s]}"},
	"a variable without a name":     {"", "env: {'': %s}"},
	"a NUL in a variable":           {"", `env: {TOKEN: "%s\0"}`},
}

// wrongFiles has muster read files with mistakes beside their secrets, and keeps how it tells.
func (c *canaries) wrongFiles() {
	c.t.Helper()
	file := func(config, settings string) string {
		return fmt.Sprintf("version: 1\ncluster: wrong\nproviders:\n  a: {driver: local, %s}\nhosts:\n"+
			"  node: {provider: a, settings: {%s}, cloud_config: wrong-web.yaml}\n", config, settings)
	}
	refused := func(what string) {
		c.verb("plan -f wrong.yaml", nil)
		if r := c.verb("up --yes -o json -f wrong.yaml", nil); r.code == 0 {
			c.t.Errorf("`muster up` is content with %s", what)
		}
	}
	c.writeFile("wrong.yaml", file("", ""))
	for what, text := range wrongDocuments {
		c.writeFile("wrong-web.yaml", c.withSecrets(what, text))
		refused(what)
		c.verb("cloudconfig validate wrong-web.yaml", nil)
		c.verb("cloudconfig render node-1 -f wrong.yaml", nil)
	}
	c.writeFile("wrong-web.yaml", "#cloud-config\n{}\n")
	for what, lines := range wrongConfigs {
		c.writeFile("wrong.yaml", file(c.withSecrets(what, lines[0]), c.withSecrets(what, lines[1])))
		refused(what)
	}
}

// withSecrets puts canaries into a text.
func (c *canaries) withSecrets(what, text string) string {
	text = strings.ReplaceAll(text, "%s", c.set.Plant("mistake: "+what))
	text = strings.ReplaceAll(text, "%d", c.set.PlantDigits("mistake: "+what))
	return strings.ReplaceAll(text, "%%", "%")
}
