package ec2

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/ec2/ec2test"
)

// TestCredentials finds them in every way of the SDK's.
func TestCredentials(t *testing.T) {
	a := newAccount(t, ec2test.Options{})
	services := httptest.NewServer(credentialServices())
	t.Cleanup(services.Close)
	files := credentialFiles(t)
	keys := map[string]string{"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "canary"}
	inConfig := map[string]string{"AWS_CONFIG_FILE": files + "/config"}
	for name, tt := range map[string]struct {
		environment []map[string]string
		config      func(*Config)
	}{
		"environment":  {[]map[string]string{keys}, func(*Config) {}},
		"profile":      {[]map[string]string{inConfig}, func(c *Config) { c.Profile, c.Region = "keys", "" }},
		"its variable": {[]map[string]string{inConfig, {"AWS_PROFILE": "keys"}}, func(c *Config) { c.Region = "" }},
		"process":      {[]map[string]string{inConfig}, func(c *Config) { c.Profile = "process" }},
		"role of a profile": {
			[]map[string]string{inConfig, {"AWS_ENDPOINT_URL_STS": a.url}}, func(c *Config) { c.Profile = "role" },
		},
		"SSO": {
			[]map[string]string{inConfig, {"AWS_ENDPOINT_URL_SSO": services.URL, "HOME": files}}, func(c *Config) { c.Profile = "sso" },
		},
		"web identity": {[]map[string]string{{
			"AWS_ENDPOINT_URL_STS": services.URL, "AWS_WEB_IDENTITY_TOKEN_FILE": files + "/token",
			"AWS_ROLE_ARN": "arn:aws:iam::" + ec2test.Account + ":role/muster",
		}}, func(*Config) {}},
		"container": {[]map[string]string{{"AWS_CONTAINER_CREDENTIALS_FULL_URI": services.URL + "/container"}}, func(*Config) {}},
		"instance": {[]map[string]string{{
			"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": services.URL,
		}}, func(*Config) {}},
		"endpoint": {[]map[string]string{keys, {"AWS_ENDPOINT_URL_EC2": a.url}}, func(c *Config) { c.Endpoint = "" }},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variables := range tt.environment {
				for key, value := range variables {
					t.Setenv(key, value)
				}
			}
			p := a.open(t, func(c *Config) {
				c.AccessKeyID, c.SecretAccessKey = "", NewConfig().SecretAccessKey
				tt.config(c)
			})
			if _, err := p.List(t.Context(), cluster); err != nil {
				t.Error(err)
			}
		})
	}
}

// credentialFiles writes what the SDK reads, and returns the directory.
func credentialFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	session := sha1.Sum([]byte("staff"))
	cache := filepath.Join(dir, ".aws", "sso", "cache")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		filepath.Join(dir, "token"): "a token",
		filepath.Join(dir, "helper"): `#!/bin/sh
echo '{"Version": 1, "AccessKeyId": "AKIDTEST", "SecretAccessKey": "canary"}'
`,
		filepath.Join(cache, hex.EncodeToString(session[:])+".json"): `{"accessToken": "a token", "expiresAt": "2199-01-01T00:00:00Z"}`,
		filepath.Join(dir, "config"): fmt.Sprintf(`[profile keys]
aws_access_key_id = AKIDTEST
aws_secret_access_key = canary
region = eu-test-1
[profile process]
credential_process = %s/helper
[profile role]
role_arn = arn:aws:iam::%s:role/muster
source_profile = keys
[profile sso]
sso_session = staff
sso_account_id = %[2]s
sso_role_name = muster
[sso-session staff]
sso_region = eu-test-1
sso_start_url = https://staff.test/start
`, dir, ec2test.Account),
	} {
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// credentialServices are the services that give credentials to containers, instances, web identities and staff.
func credentialServices() http.Handler {
	const expires = "2199-01-01T00:00:00Z"
	const asJSON = `{"Code": "Success", "AccessKeyId": "AKIDTEST", "SecretAccessKey": "s", "Token": "t", "Expiration": "` + expires + `"}`
	mux := http.NewServeMux()
	for pattern, text := range map[string]string{
		"GET /container":        asJSON,
		"PUT /latest/api/token": "a token",
		"GET /latest/meta-data/iam/security-credentials/{$}":    "muster",
		"GET /latest/meta-data/iam/security-credentials/muster": asJSON,
		"POST /{$}": `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>` +
			`<AccessKeyId>AKIDTEST</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>` +
			`<Expiration>` + expires + `</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
		"GET /federation/credentials": fmt.Sprintf(`{"roleCredentials": {"accessKeyId": "AKIDTEST", "secretAccessKey": "s", `+
			`"sessionToken": "t", "expiration": %d}}`, time.Now().Add(time.Hour).UnixMilli()),
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			_, _ = io.WriteString(w, text)
		})
	}
	return mux
}

func TestNoRegion(t *testing.T) {
	a := newAccount(t, ec2test.Options{})
	_, err := a.open(t, func(c *Config) { c.Region = "" }).List(t.Context(), cluster)
	if !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "set `region`") {
		t.Errorf("%v", err)
	}
}
