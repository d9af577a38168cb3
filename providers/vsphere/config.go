package vsphere

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/vmware/govmomi/vim25/soap"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
)

// Config configures one provider: a datacenter of a vCenter, or an ESXi host. What is not given is taken from govc's
// environment (GOVC_URL, GOVC_USERNAME, GOVC_PASSWORD, GOVC_DATACENTER, GOVC_TLS_CA_CERTS, GOVC_TLS_KNOWN_HOSTS), except
// GOVC_INSECURE: user-data holds a join token, which nobody gets who has not shown a certificate. Relative paths begin at
// the cluster file's directory.
type Config struct {
	URL        string        `yaml:"url" jsonschema:"description=The vCenter or ESXi host; by default GOVC_URL,example=https://vcenter.example.org/sdk"`
	User       secret.Secret `yaml:"user" jsonschema:"description=User name\\, literally or as {env: NAME} or {file: PATH}; by default GOVC_USERNAME"`
	Password   secret.Secret `yaml:"password" jsonschema:"description=Password\\, as {env: NAME} or {file: PATH}; by default GOVC_PASSWORD"`
	CA         string        `yaml:"ca" jsonschema:"description=PEM file of the authorities that signed the server's certificate; by default GOVC_TLS_CA_CERTS or the system's"`
	Thumbprint string        `yaml:"thumbprint" jsonschema:"description=SHA-256 of the server's certificate\\, for one that no authority signed,example=5F:9A:...:C2"`
	Datacenter string        `yaml:"datacenter" jsonschema:"description=Datacenter by name or path; by default GOVC_DATACENTER or the only one there is"`
}

// NewConfig returns the defaults.
func NewConfig() *Config { return &Config{} }

var thumbprintForm = regexp.MustCompile(`^[0-9A-F]{2}(:[0-9A-F]{2}){31}$`)

// Validate reports what cannot be. What the environment may give is not missed yet.
func (c *Config) Validate() []providers.Problem {
	var problems []providers.Problem
	add := func(field, hint, format string, args ...any) {
		problems = append(problems, providers.Problem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if c.URL != "" {
		switch u, err := parseURL(c.URL); {
		case err != nil:
			add("url", "write https://HOST/sdk", "%s", err)
		case u.User != nil:
			add("url", "set `user` and `password`", "a URL is no place for a password")
		}
	}
	if c.Thumbprint != "" && !thumbprintForm.MatchString(c.Thumbprint) {
		add("thumbprint", "write it as `openssl x509 -noout -fingerprint -sha256` does", "not a SHA-256 in pairs of hexadecimal digits")
	}
	return problems
}

// parseURL reads the address of a server as govc does: https and /sdk may be left out. A connection without encryption is
// refused.
func parseURL(text string) (*url.URL, error) {
	u, err := soap.ParseURL(text)
	if err != nil || u == nil || u.Hostname() == "" {
		return nil, errors.New("not the URL of a server") // the text may hold a password
	}
	if u.Scheme != "https" {
		return nil, fmt.Errorf("%s does not encrypt", u.Scheme)
	}
	if password, _ := u.User.Password(); u.User.Username() == "" && password == "" {
		u.User = nil
	}
	return u, nil
}

// server is where and as whom the driver logs in: a configuration that is complete. CA is a path, or several as in PATH.
type server struct {
	Config
	url *url.URL // without user
}

// serverOf completes a configuration from govc's environment.
func serverOf(c Config, dir string, lookup func(string) (string, bool)) (server, error) {
	env := func(name string) string {
		value, _ := lookup(name)
		return value
	}
	text := cmp.Or(c.URL, env("GOVC_URL"))
	if text == "" {
		return server{}, fmt.Errorf("no server is given, set `url` or GOVC_URL: %w", providers.ErrInvalid)
	}
	u, err := parseURL(text)
	if err != nil {
		return server{}, fmt.Errorf("`url`: %w: %w", err, providers.ErrInvalid)
	}
	s := server{Config: c}
	s.Datacenter = cmp.Or(c.Datacenter, env("GOVC_DATACENTER"))
	inURL, _ := u.User.Password()
	for _, each := range []struct {
		to       *secret.Secret
		fallback []string
	}{{&s.User, []string{env("GOVC_USERNAME"), u.User.Username()}}, {&s.Password, []string{env("GOVC_PASSWORD"), inURL}}} {
		if each.to.IsZero() {
			*each.to = secret.New(cmp.Or(each.fallback...))
		}
	}
	if s.User.IsZero() || s.Password.IsZero() {
		return server{}, fmt.Errorf("no user or no password is given, set `user` and `password`, or GOVC_USERNAME and GOVC_PASSWORD: %w",
			providers.ErrAuth)
	}
	u.User = nil
	s.url = u
	if s.CA == "" {
		s.CA = env("GOVC_TLS_CA_CERTS")
	} else if !filepath.IsAbs(s.CA) {
		s.CA = filepath.Join(dir, s.CA)
	}
	if s.Thumbprint == "" {
		s.Thumbprint, err = knownThumbprint(env("GOVC_TLS_KNOWN_HOSTS"), u)
	}
	return s, err
}

// knownThumbprint looks a server up in govc's files of known hosts, whose lines are an address and a thumbprint.
func knownThumbprint(files string, u *url.URL) (string, error) {
	for _, name := range filepath.SplitList(files) {
		file, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("%w: %w", err, providers.ErrInvalid)
		}
		defer func() { _ = file.Close() }()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			address, thumbprint, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
			if address == u.Host || address == u.Hostname()+":"+cmp.Or(u.Port(), "443") {
				return strings.TrimSpace(thumbprint), nil
			}
		}
	}
	return "", nil
}
