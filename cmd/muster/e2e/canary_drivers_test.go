package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

// driverCase is what a driver needs beside the secrets of its configuration, so that it can be opened and all of its calls
// go to this machine.
type driverCase struct {
	config   map[string]any // of the provider
	settings map[string]any // of a host
	env      []string       // NAME=value
	secret   []string       // names of variables from which the driver takes secrets by itself
}

// driverCases are the drivers that have secrets. Their clouds are a server at url, which refuses everybody.
func driverCases(url string) map[string]driverCase {
	return map[string]driverCase{
		"ec2": {
			config: map[string]any{
				"region": "eu-central-1", "access_key_id": "AKIAIOSFODNN7EXAMPLE", "endpoint": url,
				"endpoints": map[string]any{"ssm": url, "sts": url},
			},
			settings: map[string]any{"image": map[string]any{"id": "ami-0123456789abcdef0"}},
		},
		"hcloud": {
			config:   map[string]any{"endpoint": url + "/v1"},
			settings: map[string]any{"image": "debian-13", "server_type": "cx23"},
			secret:   []string{"HCLOUD_TOKEN"},
		},
		"openstack": {
			settings: map[string]any{"image": "debian", "flavor": "small"},
			env:      []string{"OS_AUTH_URL=" + url + "/v3", "OS_USERNAME=demo", "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_ID=1"},
			secret:   []string{"OS_PASSWORD"},
		},
	}
}

// secretsOfDrivers gives every driver of the program the secrets that its configuration takes, by the schema, from the
// environment and from files, and has its cloud refuse them.
func (c *canaries) secretsOfDrivers() {
	c.t.Helper()
	var asked atomic.Int64
	cloud := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "you may not", http.StatusUnauthorized)
	}))
	defer cloud.Close()
	cases := driverCases(cloud.URL)
	address, certificate := vcenter(c.t, func() { asked.Add(1) })
	c.writeFile("vcenter.pem", string(certificate))
	cases["vsphere"] = driverCase{
		config:   map[string]any{"url": address, "ca": "vcenter.pem"},
		settings: map[string]any{"template": "DC0_H0_VM0"},
		secret:   []string{"GOVC_USERNAME", "GOVC_PASSWORD"},
	}
	for driver, paths := range schemaSecrets(c.t, []byte(c.must("schema").stdout)) {
		one, known := cases[driver]
		switch {
		case known:
			before := asked.Load()
			c.refusedDriver(driver, paths, one)
			if asked.Load() == before {
				c.t.Errorf("the driver %s never asked its cloud", driver)
			}
		case len(paths) > 0:
			c.t.Errorf("the driver %s has secrets, %q: say in driverCases what else it needs", driver, paths)
		}
	}
}

func (c *canaries) refusedDriver(driver string, paths []string, one driverCase) {
	c.t.Helper()
	config := map[string]any{"driver": driver}
	maps.Copy(config, one.config)
	for _, name := range one.secret {
		one.env = append(one.env, name+"="+c.set.PlantAwkward(driverSecret(driver, name)))
	}
	for _, source := range []string{"env", "file"} {
		for i, at := range paths {
			value := c.set.PlantAwkward(driverSecret(driver, lastKey(at)))
			name := fmt.Sprintf("CANARY_%s_%d", source, i)
			one.env = append(one.env, name+"="+value)
			c.writeFile(name, value)
			put(config, strings.Split(at, "."), map[string]any{source: name})
		}
		text, err := json.Marshal(map[string]any{
			"version": 1, "cluster": "cloud", "providers": map[string]any{"a": config},
			"hosts": map[string]any{"node": map[string]any{"provider": "a", "settings": one.settings}},
		})
		if err != nil {
			c.t.Fatal(err)
		}
		c.writeFile("cloud.yaml", string(text))
		for _, line := range []string{"plan", "providers check", "up --yes -o json", "down --yes"} {
			r := c.verb(line+" -f cloud.yaml", one.env)
			if strings.HasPrefix(line, "up") && r.code == 0 {
				c.t.Errorf("`muster up` is content with a cloud of %s that refuses everything", driver)
			}
		}
	}
}

// put puts a value below a path into what may be mappings and lists of one; "[]" is the item of a list.
func put(into any, path []string, value any) any {
	switch {
	case len(path) == 0:
		return value
	case path[0] == "[]":
		list, _ := into.([]any)
		if len(list) == 0 {
			list = make([]any, 1)
		}
		list[0] = put(list[0], path[1:], value)
		return list
	}
	mapping, _ := into.(map[string]any)
	if mapping == nil {
		mapping = map[string]any{}
	}
	mapping[path[0]] = put(mapping[path[0]], path[1:], value)
	return mapping
}

// schemaSecrets lists for every driver the secrets that its configuration takes, as keys with dots between them. It fails for
// one anywhere else, where no canary is planted.
func schemaSecrets(t testing.TB, schema []byte) map[string][]string {
	t.Helper()
	var root any
	if err := json.Unmarshal(schema, &root); err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]string{}
	drivers, _ := below(root, "properties", "providers", "additionalProperties", "allOf").([]any)
	if len(drivers) == 0 {
		t.Fatal("the schema has no drivers")
	}
	for _, driver := range drivers {
		name, _ := below(driver, "if", "properties", "driver", "const").(string)
		secrets[name] = nil
		eachSecret(below(driver, "then"), "", func(at string) { secrets[name] = append(secrets[name], at) })
	}
	delete(below(root, "properties", "providers").(map[string]any), "additionalProperties")
	eachSecret(root, "", func(at string) { t.Errorf("the cluster file takes a secret at %s, where this test plants none", at) })
	return secrets
}

// below goes down a document by keys; it returns nil where there is nothing.
func below(node any, keys ...string) any {
	for _, key := range keys {
		mapping, _ := node.(map[string]any)
		node = mapping[key]
	}
	return node
}

// eachSecret calls yield with the path of everything in a schema that may stand elsewhere, as {env: NAME} and {file: path}:
// secrets, and nothing else.
func eachSecret(node any, at string, yield func(at string)) {
	mapping, ok := node.(map[string]any)
	if !ok {
		return
	}
	if forms, _ := mapping["oneOf"].([]any); slices.ContainsFunc(forms, func(f any) bool { return below(f, "properties", "env") != nil }) {
		yield(strings.TrimPrefix(at, "."))
		return
	}
	properties, _ := mapping["properties"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		eachSecret(properties[key], at+"."+key, yield)
	}
	eachSecret(mapping["items"], at+".[]", yield)
	eachSecret(mapping["additionalProperties"], at+".any", yield)
	for _, key := range []string{"then", "allOf", "anyOf", "oneOf"} {
		parts, _ := mapping[key].([]any)
		for _, part := range append(parts, mapping[key]) {
			eachSecret(part, at, yield)
		}
	}
}

// vaultConfig has a secret in each place where a driver's configuration may have one.
type vaultConfig struct {
	Token secret.Secret `yaml:"token"`
	Name  string        `yaml:"name"`
	TLS   struct {
		Key        secret.Secret `yaml:"key"`
		Passphrase secret.Secret `yaml:"passphrase"`
	} `yaml:"tls"`
	Accounts []struct {
		Password secret.Secret `yaml:"password"`
	} `yaml:"accounts"`
	Keys []secret.Secret `yaml:"keys"`
}

// TestSchemaTellsSecrets finds the secrets of a driver in its schema, and gives it a value for each.
func TestSchemaTellsSecrets(t *testing.T) {
	vault := providers.Driver{Name: "vault", NewConfig: func() any { return new(vaultConfig) }}
	plain := providers.Driver{Name: "plain", NewConfig: func() any { return new(struct{}) }}
	schema, err := spec.Schema(providers.NewRegistry(plain, vault))
	if err != nil {
		t.Fatal(err)
	}
	secrets := schemaSecrets(t, schema)
	want := []string{"accounts.[].password", "keys.[]", "tls.key", "tls.passphrase", "token"}
	if got := secrets["vault"]; len(secrets) != 2 || len(secrets["plain"]) > 0 || !slices.Equal(slices.Sorted(slices.Values(got)), want) {
		t.Fatalf("found %v, want %q of vault", secrets, want)
	}
	config := map[string]any{}
	for _, at := range secrets["vault"] {
		put(config, strings.Split(at, "."), at)
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	const filled = `{"accounts":[{"password":"accounts.[].password"}],"keys":["keys.[]"],` +
		`"tls":{"key":"tls.key","passphrase":"tls.passphrase"},"token":"token"}`
	if string(text) != filled {
		t.Errorf("filled in %s, want %s", text, filled)
	}
}
