package e2e

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
)

// nameTokens names the join tokens of all hosts, as their user-data has them.
func (c *canaries) nameTokens() {
	c.t.Helper()
	paths, _ := filepath.Glob(filepath.Join(c.state, "providers", "*", "*", "user-data"))
	for _, path := range paths {
		config := c.configOf(path)
		if err := c.set.Add("join token of "+config.Host, config.Token); err != nil {
			c.t.Fatal(err)
		}
	}
	if len(paths) != 4 {
		c.t.Errorf("%d hosts have user-data, not 4", len(paths))
	}
}

// configOf is what user-data tells a host.
func (c *canaries) configOf(path string) join.Config {
	c.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	doc, err := cloudconfig.Parse(path, text)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range doc.WriteFiles {
		if f.Path == join.ConfigPath {
			var config join.Config
			if err := json.Unmarshal([]byte(f.Content), &config); err != nil {
				c.t.Fatal(err)
			}
			return config
		}
	}
	c.t.Fatalf("%s has no %s", path, join.ConfigPath)
	return join.Config{}
}

// nameKeys names every private key that there is, the cluster's before the hosts': voters have the issuer's too.
func (c *canaries) nameKeys() {
	c.t.Helper()
	for _, name := range []string{"ca", "issuer", "operator"} {
		paths, _ := filepath.Glob(filepath.Join(c.state, "*", name+".key")) // a run that was refused leaves keys too
		for _, path := range paths {
			c.nameKey("key "+name, path)
		}
	}
	for _, d := range c.hostDirs() {
		if d.host == "slow-1" {
			continue // it never began
		}
		for _, name := range []string{"host.key", "peer.pem", "control.pem"} {
			c.nameKey(fmt.Sprintf("key %s of %s", name, d.host), filepath.Join(d.path, join.StoragePath, name))
		}
	}
	c.nameKey("key of the stray", filepath.Join(c.dir, "stray", join.StoragePath, "host.key"))
	c.noKeyIsForgotten()
}

func (c *canaries) nameKey(name, path string) {
	c.t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		if at := strings.Index(string(text), "-----BEGIN PRIVATE KEY"); at > 0 {
			text = text[at:] // a pair has its certificates first
		}
		err = c.set.AddKey(name, text)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// noKeyIsForgotten fails for a file that holds a key and is not known here.
func (c *canaries) noKeyIsForgotten() {
	c.t.Helper()
	err := filepath.WalkDir(c.state, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasSuffix(path, ".wal") || strings.HasSuffix(path, ".tmp") {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "PRIVATE KEY-----") && len(c.set.Bytes(path, text)) == 0 {
			c.t.Errorf("%s holds a private key that this test does not look for", path)
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// keepStore keeps all that etcd has: keys and values, users and roles.
func (c *canaries) keepStore() {
	c.t.Helper()
	s, err := c.status()
	if err != nil {
		c.t.Fatal(err)
	}
	identity := filepath.Join(c.dirOf("node-1").path, join.StoragePath)
	config := clientv3.Config{Context: c.t.Context(), DialTimeout: 10 * time.Second, Logger: zap.NewNop()}
	for _, h := range s.Hosts {
		config.Endpoints = append(config.Endpoints, "https://"+net.JoinHostPort(h.Address, strconv.Itoa(h.Ports.Client)))
	}
	source, err := pki.NewSource(filepath.Join(identity, "control.pem"), filepath.Join(identity, "control.pem"))
	if err != nil {
		c.t.Fatal(err)
	}
	config.TLS = pki.ClientConfig(c.root(), source, pki.VoterName)
	client, err := clientv3.New(config)
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	all, err := client.Get(c.t.Context(), "\x00", clientv3.WithFromKey())
	if err != nil || len(all.Kvs) < 10 {
		c.t.Fatalf("etcd's keys cannot be read: %v", err)
	}
	for _, kv := range all.Kvs {
		c.keep("etcd's key space", append(append(kv.Key, '\n'), kv.Value...))
	}
	users, err1 := client.UserList(c.t.Context())
	roles, err2 := client.RoleList(c.t.Context())
	if err1 != nil || err2 != nil {
		c.t.Fatalf("etcd's users cannot be read: %v, %v", err1, err2)
	}
	c.keep("etcd's users", fmt.Appendf(nil, "%v %v", users, roles))
}

// root is the cluster's own certificate.
func (c *canaries) root() *x509.Certificate {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.state, "canaries", "ca.crt"))
	if err != nil {
		c.t.Fatal(err)
	}
	root, err := pki.ParseCert(text)
	if err != nil {
		c.t.Fatal(err)
	}
	return root
}

// keepAnswers keeps what the API answers to everything that can be read: to the operator, to a process of the host, and to a
// stranger, whom it must tell nothing.
func (c *canaries) keepAnswers() {
	c.t.Helper()
	s, err := c.status()
	if err != nil {
		c.t.Fatal(err)
	}
	dir := filepath.Join(c.state, "canaries")
	operator, err := pki.NewSource(filepath.Join(dir, "operator.crt"), filepath.Join(dir, "operator.key"))
	if err != nil {
		c.t.Fatal(err)
	}
	unit := "/v1/units/" + url.PathEscape("nap@1.service")
	reads := []string{"/v1/status", "/v1/units", unit, unit + "/why", unit + "/logs", "/v1/health", "/v1/tokens", "/", "/debug/pprof/"}
	address := net.JoinHostPort(s.Hosts[0].Address, strconv.Itoa(s.Hosts[0].Ports.API))
	for who, source := range map[string]*pki.Source{"the operator": operator, "a stranger": nil} {
		transport := &http.Transport{TLSClientConfig: pki.ClientConfig(c.root(), source, "")}
		c.ask(transport, who, "https://"+address, reads)
	}
	socket := filepath.Join(c.dirOf("node-1").path, "run/muster.sock")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	c.ask(&http.Transport{DialContext: dial}, "a process of the host", "http://localhost", reads)
}

func (c *canaries) ask(transport *http.Transport, who, base string, paths []string) {
	c.t.Helper()
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: 10 * time.Second}
	answered := 0
	for _, path := range paths {
		answer, err := client.Get(base + path)
		if err != nil {
			c.t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil {
			c.t.Fatal(err)
		}
		if answer.StatusCode == http.StatusOK {
			answered++
		}
		c.keep("what the API answers "+who, fmt.Appendf(body, "%v", answer.Header))
	}
	if (who == "a stranger") != (answered == 0) {
		c.t.Errorf("%s got %d answers", who, answered)
	}
}

// strayHost starts a host with a token that nobody gave, and keeps what it says when it is refused.
func (c *canaries) strayHost() {
	c.t.Helper()
	s, err := c.status()
	if err != nil {
		c.t.Fatal(err)
	}
	config := c.configOf(filepath.Join(c.dirOf("node-1").path, "user-data"))
	config.Host, config.HostID = "stray", strings.Repeat("ab", 16)
	config.Token = c.set.PlantAwkward("join token, wrong")
	config.Endpoints = []string{net.JoinHostPort(s.Hosts[0].Address, strconv.Itoa(s.Hosts[0].Ports.API))}
	text, err := json.Marshal(config)
	if err != nil {
		c.t.Fatal(err)
	}
	data, err := cloudconfig.UserData(cloudconfig.FirstBoot{Hostname: config.Host, ConfigPath: join.ConfigPath, Config: text}, cloudconfig.Document{})
	if err != nil {
		c.t.Fatal(err)
	}
	root := filepath.Join(c.dir, "stray")
	c.writeFile("stray/meta-data.json", `{"instance_id": "i-stray", "local_hostname": "stray", "local_ipv4": "127.219.3.7"}`)
	if err := os.WriteFile(filepath.Join(root, "user-data"), data, 0o600); err != nil {
		c.t.Fatal(err)
	}
	var said lockedBuffer
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(binDir, "musterd"), "--root", root, "--log-level", "debug")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.await("the refusal of a token", func() bool { return strings.Contains(said.String(), join.ErrTokenUnknown.Error()) })
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait() // with an error, as it was refused
	c.keep("what musterd says with a wrong token", []byte(said.String()))
}
