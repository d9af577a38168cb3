package roster

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	good := Host{ID: strings.Repeat("0a", 16), Name: "web-1", Address: "192.0.2.1", Ports: DefaultPorts()}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(h *Host){
		"short ID":          func(h *Host) { h.ID = h.ID[1:] },
		"upper-case ID":     func(h *Host) { h.ID = strings.ToUpper(h.ID) },
		"ID with a newline": func(h *Host) { h.ID += "\n" },
		"no name":           func(h *Host) { h.Name = "" },
		"long name":         func(h *Host) { h.Name = strings.Repeat("a", 64) },
		"name of two":       func(h *Host) { h.Name = "a.b" },
		"name ends in -":    func(h *Host) { h.Name = "a-" },
		"reserved join":     func(h *Host) { h.Name = "join" },
		"reserved voter":    func(h *Host) { h.Name = "voter" },
		"address is a name": func(h *Host) { h.Address = "localhost" },
		"any address":       func(h *Host) { h.Address = "::" },
		"multicast":         func(h *Host) { h.Address = "224.0.0.1" },
		"zone":              func(h *Host) { h.Address = "fe80::1%eth0" },
		"no port":           func(h *Host) { h.Ports.Client = 0 },
		"port too high":     func(h *Host) { h.Ports.API = 65536 },
	}
	for name, change := range cases {
		h := good
		change(&h)
		if err := h.Validate(); err == nil {
			t.Errorf("%s: valid", name)
		}
	}
}

func TestAddresses(t *testing.T) {
	h := Host{Address: "2001:db8::1", Ports: Ports{Peer: 5}.OrDefault()}
	if got := h.APIAddress() + " " + h.ClientURL() + " " + h.PeerURL(); got !=
		"[2001:db8::1]:7400 https://[2001:db8::1]:2379 https://[2001:db8::1]:5" {
		t.Error(got)
	}
}

func TestLookup(t *testing.T) {
	r := Roster{{ID: "1", Name: "a", Voter: true}, {ID: "2", Name: "b"}}
	if h, ok := r.ByName("b"); !ok || h.ID != "2" {
		t.Error(h, ok)
	}
	if h, ok := r.ByID("1"); !ok || h.Name != "a" {
		t.Error(h, ok)
	}
	if _, ok := r.ByID("3"); ok {
		t.Error("found a stranger")
	}
	if v := r.Voters(); len(v) != 1 || v[0].Name != "a" {
		t.Error(v)
	}
}
