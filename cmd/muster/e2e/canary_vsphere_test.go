package e2e

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/vmware/govmomi/simulator"
)

// vcenter starts a simulated vCenter that knows one user, whom nobody knows, behind TLS. It returns its address and its
// certificate; asked is called for every request.
func vcenter(t testing.TB, asked func()) (address string, certificate []byte) {
	t.Helper()
	model := simulator.VPX()
	if err := model.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Remove)
	model.Service.Listen = &url.URL{User: url.UserPassword("nobody", "knows")}
	simulated := model.Service.NewServer()
	t.Cleanup(simulated.Close)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: simulated.URL.Scheme, Host: simulated.URL.Host})
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked()
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(front.Close)
	return front.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
}
