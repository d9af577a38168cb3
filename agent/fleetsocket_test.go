package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleetapi"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
)

func TestFleetSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.json")
	if s, err := readFleetSettings(path); err != nil || s != (join.Fleet{}) {
		t.Errorf("without a file: %+v, %v", s, err)
	}
	for _, c := range []struct {
		text string
		want join.Fleet
		good bool
	}{
		{`{}`, join.Fleet{}, true},
		{`{"listen": "10.0.0.1:49153"}`, join.Fleet{Listen: "10.0.0.1:49153"}, true},
		{`{"listen": ":49153"}`, join.Fleet{Listen: ":49153"}, true},
		{`{"hosts_command": true}`, join.Fleet{HostsCommand: true}, true},
		{`{"listen": "49153"}`, join.Fleet{}, false},
		{`{"hosts_command": "yes"}`, join.Fleet{}, false},
		{`{"host_command": true}`, join.Fleet{}, false},
		{`hosts_command: true`, join.Fleet{}, false},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := readFleetSettings(path); s != c.want || (err == nil) != c.good {
			t.Errorf("%s: %+v, %v", c.text, s, err)
		}
	}
}

func TestFleetAddress(t *testing.T) {
	real, local := netip.Addr{}, netip.MustParseAddr("127.77.0.3")
	for _, c := range []struct {
		listen string
		own    netip.Addr
		want   string
	}{
		{":49153", real, "127.0.0.1:49153"},
		{"0.0.0.0:49153", real, "0.0.0.0:49153"},
		{"10.0.0.1:49153", real, "10.0.0.1:49153"},
		{":49153", local, "127.77.0.3:49153"},
		{"[::]:49153", local, "127.77.0.3:49153"},
		{"127.0.0.1:49153", local, "127.0.0.1:49153"},
		{":49153", netip.MustParseAddr("10.0.0.1"), "127.0.0.1:49153"},
	} {
		if got, err := fleetAddress(join.Fleet{Listen: c.listen}, c.own); err != nil || got != c.want {
			t.Errorf("%s of a host at %v: %s, %v", c.listen, c.own, got, err)
		}
	}
}

func TestLinkFleetctl(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleetctl")
	for _, musterd := range []string{"/usr/bin/musterd", "/usr/bin/musterd", "/opt/muster/bin/musterd"} {
		if err := linkFleetctl(path, musterd); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(path); err != nil || got != musterd {
			t.Errorf("it links %s, %v, want %s", got, err, musterd)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func() error{
		"a program":    func() error { return os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600) },
		"another link": func() error { return os.Symlink("/opt/fleet/fleetctl", path) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Readlink(path)
		err := linkFleetctl(path, "/usr/bin/musterd")
		if after, _ := os.Readlink(path); err != nil || after != before {
			t.Errorf("%s was replaced: %q, %v", name, after, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := linkFleetctl(filepath.Join(path, "none"), "/usr/bin/musterd"); err == nil {
		t.Error("there is no such directory")
	}
}

// fleetClient speaks as programs written for fleet do, on a host's socket or an address.
type fleetClient struct {
	t *testing.T
	http.Client
}

func newFleetClient(t *testing.T, network, address string) *fleetClient {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &fleetClient{t: t, Client: http.Client{Transport: transport, Timeout: 3 * time.Second}}
}

// call sends a request and decodes what comes back, if into is given.
func (c *fleetClient) call(method, path, body string, into any) (status int, err error) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://domain-sock/fleet/v1/"+path+"?alt=json", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && into != nil && resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(data, into)
	}
	if err == nil && resp.StatusCode >= 400 {
		err = fmt.Errorf("%s", data)
	}
	return resp.StatusCode, err
}

// must wants a status.
func (c *fleetClient) must(status int, method, path, body string) {
	c.t.Helper()
	if got, err := c.call(method, path, body, nil); got != status {
		c.t.Fatalf("%s %s: status %d, want %d: %v", method, path, got, status, err)
	}
}

// TestFleetAPI runs a unit by fleet's API alone: on the socket of a host that does not vote, in a cluster whose voters let
// hosts command, with a look at a voter's TCP.
func TestFleetAPI(t *testing.T) {
	o := newOperator(t)
	voter, other := o.host(1, true), o.host(2, false)
	tcp := voter.Address + ":49153"
	o.fleet = fmt.Sprintf(`{"listen": %q, "hosts_command": true}`, tcp)
	o.form(voter)
	c := o.client()
	secret, sum := join.NewToken()
	asked := other
	asked.Address, asked.Ports = "", roster.Ports{}
	o.eventually("form", func() error {
		return c.AddToken(t.Context(), api.TokenRequest{Host: asked, TTL: time.Minute, Hash: sum})
	})
	o.fleet = ""
	o.provide(other, secret, []string{voter.APIAddress()})
	o.start(other.Name)

	socket := filepath.Join(o.roots["node-2"], fleetSocketPath)
	onHost, onVoter := newFleetClient(t, "unix", socket), newFleetClient(t, "tcp", tcp)
	var machines fleetapi.MachinePage
	o.eventually("join", func() error {
		_, err := onHost.call("GET", "machines", "", &machines)
		if err == nil && len(machines.Machines) != 2 {
			err = fmt.Errorf("%+v", machines)
		}
		return err
	})
	if again, err := fleetapi.AllMachines(t.Context(), c.Fleet); err != nil || len(again) != 2 {
		t.Errorf("an operator sees %+v, %v", again, err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	onHost.must(404, "GET", "units/hello.service", "")
	onHost.must(201, "PUT", "units/hello.service", `{"name":"hello.service","options":[
		{"section":"Service","name":"ExecStart","value":"/bin/sleep 1000"},
		{"section":"X-Fleet","name":"MachineMetadata","value":"role=app"}]}`)
	onHost.must(204, "PUT", "units/hello.service", `{"name":"hello.service","desiredState":"launched"}`)
	onVoter.must(204, "PATCH", "machines", fmt.Sprintf(`[{"op":"add","path":"/%s/metadata/role","value":"app"}]`, other.ID))
	var unit fleetapi.Unit
	o.eventually("launched", func() error {
		if _, err := onHost.call("GET", "units/hello.service", "", &unit); err != nil || unit.CurrentState != "launched" {
			return fmt.Errorf("%+v: %w", unit, err)
		}
		return nil
	})
	if unit.MachineID != other.ID {
		t.Errorf("it is on %s, not where the metadata is", unit.MachineID)
	}
	var state fleetapi.UnitState
	o.eventually("active", func() error {
		if _, err := onVoter.call("GET", "state/hello.service", "", &state); err != nil || state.Active != "active" {
			return fmt.Errorf("%+v: %w", state, err)
		}
		return nil
	})
	if state.Load != "loaded" || state.Sub != "running" || len(state.Hash) != 40 || state.MachineID != other.ID {
		t.Errorf("its state is %+v", state)
	}
	onHost.must(204, "DELETE", "units/hello.service", "")
	o.eventually("gone", func() error {
		if status, err := onVoter.call("GET", "state/hello.service", "", nil); status != 404 {
			return fmt.Errorf("%d: %w", status, err)
		}
		return nil
	})
}
