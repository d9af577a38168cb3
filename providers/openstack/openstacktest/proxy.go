package openstacktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

func withoutCancel(r *http.Request) context.Context { return context.WithoutCancel(r.Context()) }

// Proxy stands before a real cloud and shows it under the paths that a Cloud has: /identity/v3, /compute/v2.1 and so on.
// The catalogue that comes with a token is rewritten, so that every call of a client goes through the proxy.
type Proxy struct {
	*Gate
	server *httptest.Server
	mu     sync.Mutex
	target map[string]*url.URL // by the first part of the path
}

// NewProxy starts a proxy before the Keystone at authURL, which ends with /v3, for the calls of some patterns.
func NewProxy(t testing.TB, authURL string, patterns []string) *Proxy {
	keystone, err := url.Parse(strings.TrimSuffix(authURL, "/"))
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: map[string]*url.URL{"identity": keystone}}
	p.Gate = newGate(patterns, &httputil.ReverseProxy{Rewrite: p.rewrite, ModifyResponse: p.modify})
	p.Gate.Stray = func(r *http.Request) {
		t.Errorf("the driver made a call that its policy does not list: %s %s", r.Method, r.URL)
	}
	p.server = httptest.NewServer(p.Gate)
	t.Cleanup(p.server.Close)
	return p
}

// URL is the address of Keystone.
func (p *Proxy) URL() string { return p.server.URL + "/identity/v3" }

// shown is where the proxy shows a service: its path, and the version at the end of the service's own path.
var shown = map[string]string{
	"compute": "/compute/v2.1", "network": "/network", "image": "/image", "block-storage": "/volume/v3", "volumev3": "/volume/v3",
	"baremetal": "/baremetal", "identity": "/identity/v3",
}

func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	service, _, _ := strings.Cut(strings.TrimPrefix(r.In.URL.Path, "/"), "/")
	p.mu.Lock()
	target := p.target[service]
	p.mu.Unlock()
	if target == nil {
		target = &url.URL{Scheme: "http", Host: "127.0.0.1:1"} // nothing was said of it yet
	}
	prefix := "/" + service
	for _, path := range shown {
		if strings.HasPrefix(path, prefix+"/") {
			prefix = path
		}
	}
	r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
	r.Out.URL.Path = target.Path + strings.TrimPrefix(r.In.URL.Path, prefix)
	r.Out.Host = ""
}

// modify rewrites the catalogue.
func (p *Proxy) modify(r *http.Response) error {
	if !strings.HasSuffix(r.Request.URL.Path, "/auth/tokens") || r.StatusCode != http.StatusCreated {
		return nil
	}
	var body map[string]map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return fmt.Errorf("cannot read the catalogue: %w", err)
	}
	services, _ := body["token"]["catalog"].([]any)
	for _, each := range services {
		service, _ := each.(map[string]any)
		kind, _ := service["type"].(string)
		endpoints, _ := service["endpoints"].([]any)
		for _, each := range endpoints {
			endpoint, _ := each.(map[string]any)
			text, _ := endpoint["url"].(string)
			target, err := url.Parse(strings.TrimSuffix(text, "/"))
			path, known := shown[kind]
			if err != nil || !known {
				continue
			}
			name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
			p.mu.Lock()
			if name != "identity" {
				p.target[name] = target
			}
			p.mu.Unlock()
			endpoint["url"] = p.server.URL + path
		}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	r.ContentLength = int64(len(text))
	r.Header.Set("Content-Length", fmt.Sprint(len(text)))
	return nil
}
