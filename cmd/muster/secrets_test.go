package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
)

// vaultConfig is the configuration of a driver with a credential.
type vaultConfig struct {
	Token secret.Secret `yaml:"token"`
}

// vaultDriver is the simulated cloud behind a credential, and as careless with it as a driver can be. While refuse says
// so it makes one host less than it should.
func vaultDriver(refuse *bool) providers.Driver {
	d := fake.Driver()
	return providers.Driver{
		Name: "vault", Summary: "a cloud with a credential",
		NewConfig:   func() any { return new(vaultConfig) },
		NewSettings: d.NewSettings,
		Open: func(name string, config any, env providers.Environment) (providers.Provider, error) {
			env.Log.Warn("opened", "config", config, "text", fmt.Sprintf("%+v", config))
			p, err := d.Open(name, d.NewConfig(), env)
			return providers.Decorate(p, func(ctx context.Context, call providers.Call, next func(context.Context) error) error {
				if *refuse && call.Op == providers.OpCreate && call.Identity.Host == "node-2" {
					return fmt.Errorf("login with %v refused: %w", config, providers.ErrAuth)
				}
				return next(ctx)
			}), err
		},
	}
}

// secretsOf collects what a state directory holds that nobody may see: private keys and join tokens.
func secretsOf(t *testing.T, state string) map[string]string {
	t.Helper()
	secrets := map[string]string{}
	keys, _ := filepath.Glob(filepath.Join(state, "*", "*.key"))
	for _, path := range keys {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		secrets[filepath.Base(path)] = strings.Split(string(content), "\n")[1]
	}
	journal, _ := filepath.Glob(filepath.Join(state, "*", "journal.jsonl"))
	for _, path := range journal {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(content) {
			var entry struct{ Token string }
			if json.Unmarshal(line, &entry) == nil && entry.Token != "" {
				secrets["token "+entry.Token[:4]] = entry.Token
			}
		}
	}
	return secrets
}

// TestSecretsStaySecret: neither a credential of the cluster file nor a key nor a join token is in anything that muster
// prints, whatever goes wrong and however much it logs.
func TestSecretsStaySecret(t *testing.T) {
	const canary = "CANARY-5f3a91"
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("MUSTER_STATE_DIR", filepath.Join(dir, "state"))
	t.Setenv("VAULT_TOKEN", canary)
	file := strings.Replace(goodFile, "driver: fake", "driver: vault, token: {env: VAULT_TOKEN}", 1)
	literal := strings.Replace(goodFile, "driver: fake", "driver: vault, token: "+canary, 1)
	for name, content := range map[string]string{"cluster.yaml": file, "literal.yaml": literal, "bad.yaml": literal + "oops: 1\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var printed strings.Builder
	refuse := true
	muster := func(want int, args string) {
		var out bytes.Buffer
		known := providers.NewRegistry(vaultDriver(&refuse), fake.Driver())
		status := runWith(t.Context(), known, append(strings.Fields(args), "--log-level", "debug"), strings.NewReader(""), &out, &out)
		if status != want {
			t.Errorf("`muster %s`: exit status %d, want %d\n%s", args, status, want, out.String())
		}
		fmt.Fprintf(&printed, "$ muster %s\n%s", args, out.String())
	}
	muster(statusDone, "plan")
	muster(statusDone, "plan -f literal.yaml -o json")
	muster(statusUsage, "plan -f bad.yaml")
	muster(statusDone, "providers check")
	muster(statusPartial, "up --no-wait")
	secrets := secretsOf(t, "state")
	secrets["credential"] = canary
	muster(statusPartial, "up --no-wait -o json")
	muster(statusFailed, "status")
	muster(statusFailed, "logs web")
	muster(statusDone, "schema")
	muster(statusDone, "down --dry-run -o yaml")
	refuse = false
	muster(statusDone, "down --yes")

	if len(secrets) < 4 {
		t.Fatalf("only %d secrets were found to look for: %v", len(secrets), secrets)
	}
	for name, value := range secrets {
		if strings.Contains(printed.String(), value) {
			t.Errorf("%s is printed", name)
		}
	}
	if !strings.Contains(printed.String(), secret.Mask) {
		t.Error("the careless driver printed nothing; this test tests nothing")
	}
}
