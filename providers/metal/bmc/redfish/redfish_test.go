package redfish

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/metal/bmc"
	"github.com/musterhq/muster/providers/metal/bmc/bmctest"
	"github.com/musterhq/muster/providers/metal/bmc/redfish/redfishtest"
	"github.com/musterhq/muster/providers/metal/netboot"
)

func controller(s *redfishtest.Service) Controller {
	return Controller{Endpoint: s.URL, User: redfishtest.User, Password: secret.New(redfishtest.Password), Certificate: s.Certificate}
}

func TestController(t *testing.T) {
	for name, options := range map[string]redfishtest.Options{
		"plain":       {},
		"action info": {ActionInfo: true},
		"other words": {Resets: []string{"ForceOn", "ForceOff", "PowerCycle"}},
		"button":      {Resets: []string{"PushPowerButton", "ForceOff", "ForceRestart"}},
		"no mode":     {NoMode: true},
	} {
		t.Run(name, func(t *testing.T) {
			bmctest.Run(t, bmctest.Bench{
				New: func(t *testing.T) (bmctest.Machine, bmc.Controller, bmc.Controller) {
					s := redfishtest.New(t, options)
					wrong := controller(s)
					wrong.Password = secret.New("wrong")
					return s, controller(s), wrong
				},
				Silent: silent,
			})
		})
	}
}

// silent is a controller at a port where nobody listens.
func silent(t *testing.T) bmc.Controller {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	return Controller{Endpoint: "https://" + listener.Addr().String(), User: "a", Password: secret.New("b")}
}

func TestMode(t *testing.T) {
	for _, noMode := range []bool{false, true} {
		s := redfishtest.New(t, redfishtest.Options{NoMode: noMode})
		for firmware, want := range map[netboot.Firmware]string{netboot.BIOS: "Legacy", netboot.UEFI: "UEFI"} {
			if err := controller(s).SetBoot(t.Context(), bmc.Network, firmware); err != nil {
				t.Fatal(err)
			}
			if noMode {
				want = ""
			}
			if got := s.Mode(); got != want {
				t.Errorf("%s: mode %q, want %q", firmware, got, want)
			}
		}
	}
}

func TestMedia(t *testing.T) {
	for _, old := range []bool{false, true} {
		s := redfishtest.New(t, redfishtest.Options{OldMedia: old})
		c := controller(s)
		for _, image := range []string{"http://10.0.0.1/a.iso", "http://10.0.0.1/b.iso", "http://10.0.0.1/b.iso"} {
			if err := c.InsertMedia(t.Context(), image); err != nil {
				t.Fatal(err)
			}
			if got := s.Image(); got != image {
				t.Errorf("old: %t, inserted %q, want %q", old, got, image)
			}
		}
		for range 2 {
			if err := c.EjectMedia(t.Context()); err != nil || s.Image() != "" {
				t.Errorf("old: %t, %q is inserted, %v", old, s.Image(), err)
			}
		}
	}
}

func TestSystems(t *testing.T) {
	s := redfishtest.New(t, redfishtest.Options{Systems: 2})
	c := controller(s)
	for name, want := range map[string]string{"": "name one of them", "3": "name one of them", "1": ""} {
		c.System = name
		err := c.PowerOn(t.Context())
		if want == "" && err != nil || want != "" && (!errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("system %q: %v", name, err)
		}
	}
	if !s.On() {
		t.Error("the machine is off")
	}
}

func TestNoKnownReset(t *testing.T) {
	s := redfishtest.New(t, redfishtest.Options{Resets: []string{"Nmi"}})
	if err := controller(s).PowerOn(t.Context()); !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "Nmi") {
		t.Error(err)
	}
}

func TestCertificate(t *testing.T) {
	s := redfishtest.New(t, redfishtest.Options{})
	for certificate, want := range map[string]string{
		"":                       "name the SHA-256 of its certificate",
		strings.Repeat("00", 32): "not the expected one: its SHA-256 is " + s.Certificate,
	} {
		c := controller(s)
		c.Certificate = certificate
		if err := c.PowerOn(t.Context()); !errors.Is(err, providers.ErrAuth) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if s.On() {
		t.Error("it was powered on")
	}
}

func TestFaults(t *testing.T) {
	s := redfishtest.New(t, redfishtest.Options{})
	for status, want := range map[int]error{
		http.StatusForbidden: providers.ErrAuth, http.StatusTooManyRequests: providers.ErrThrottled, http.StatusNotFound: providers.ErrNotFound,
		http.StatusConflict: providers.ErrConflict, http.StatusBadGateway: providers.ErrUnavailable, http.StatusBadRequest: providers.ErrInvalid,
		http.StatusFound: providers.ErrUnavailable,
	} {
		s.Fail(status)
		_, err := controller(s).Power(t.Context())
		if !errors.Is(err, want) || !strings.Contains(err.Error(), s.URL) || strings.Contains(err.Error(), redfishtest.Password) {
			t.Errorf("%d: %v, want %v", status, err, want)
		}
	}
}

func TestEndpointIsHTTPS(t *testing.T) {
	for _, endpoint := range []string{"http://10.0.0.1", "10.0.0.1", "https://a:b@10.0.0.1", ""} {
		if _, err := (Controller{Endpoint: endpoint}).Power(t.Context()); !errors.Is(err, providers.ErrInvalid) {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}
