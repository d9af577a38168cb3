package hcloud

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/hcloud/hcloudtest"
)

// TestCheck finds what would go wrong, says it in words that help, and makes nothing.
func TestCheck(t *testing.T) {
	cloud := hcloudtest.New(t)
	cloud.AddSnapshot(100, map[string]string{"os": "large"})
	p := testProvider(t, cloud)
	for name, test := range map[string]struct {
		change func(*Settings)
		class  error
		says   string
	}{
		"all is well":           {func(*Settings) {}, nil, ""},
		"no server type":        {func(s *Settings) { s.ServerType = "cx32" }, providers.ErrNotFound, "server type `cx32` not found in the project; did you mean `cx23`?"},
		"no image":              {func(s *Settings) { s.Image = "debain-13" }, providers.ErrNotFound, "image for x86 `debain-13` not found in the project; did you mean `debian-13`?"},
		"an image unlike any":   {func(s *Settings) { s.Image = "plan9" }, providers.ErrNotFound, "there is debian-12, debian-13, ubuntu-24.04"},
		"no snapshot":           {func(s *Settings) { s.Image, s.Snapshot = "", "os=muster" }, providers.ErrNotFound, "no snapshot for x86 has the labels `os=muster`"},
		"a bad selector":        {func(s *Settings) { s.Image, s.Snapshot = "", "os in muster" }, providers.ErrInvalid, `label_selector: "os in muster" is not one`},
		"too large a snapshot":  {func(s *Settings) { s.Image, s.Snapshot = "", "os=large" }, providers.ErrInvalid, "needs a disk of 100 GB, server type cx23 has 40"},
		"no location":           {func(s *Settings) { s.Locations = []string{"fsn2"} }, providers.ErrNotFound, "location `fsn2` not found in the project; did you mean `fsn1`?"},
		"sold out":              {func(s *Settings) { s.Locations = []string{"ash"} }, providers.ErrQuota, "cannot be had in location ash now; it can in: fsn1, nbg1, hel1"},
		"no network":            {func(s *Settings) { s.Network = "privat" }, providers.ErrNotFound, "did you mean `private`?"},
		"no key":                {func(s *Settings) { s.SSHKeys = []string{"laptpo"} }, providers.ErrNotFound, "did you mean `laptop`?"},
		"no firewall":           {func(s *Settings) { s.Firewalls = []string{"web"} }, providers.ErrNotFound, "there is none"},
		"no placement group":    {func(s *Settings) { s.PlacementGroup = "apart" }, providers.ErrNotFound, "there is none"},
		"two mistakes at once":  {func(s *Settings) { s.ServerType, s.Locations = "cx32", []string{"fsn2"} }, providers.ErrNotFound, "location `fsn2`"},
		"settings that are not": {func(s *Settings) { s.Image = "" }, providers.ErrInvalid, "`image`:"},
	} {
		t.Run(name, func(t *testing.T) {
			err := p.Check(t.Context(), []any{everySetting(), testSettings(test.change), testSettings(test.change)})
			if !errors.Is(err, test.class) || err != nil && (!strings.Contains(err.Error(), test.says) || strings.Count(err.Error(), test.says) > 1) {
				t.Errorf("check says %v, want %q once", err, test.says)
			}
		})
	}
	for call := range cloud.Calls() {
		if !strings.HasPrefix(call, http.MethodGet) && !strings.HasSuffix(call, "/poweron") {
			t.Errorf("check made the call %s", call)
		}
	}
	if all := cloud.Everything(); len(all) > 0 {
		t.Errorf("check made %v", all)
	}
}

// TestPrice says what hosts cost: their type and their address, at the dearest of their locations.
func TestPrice(t *testing.T) {
	cloud := hcloudtest.New(t)
	var said bytes.Buffer
	config := NewConfig()
	config.Token, config.Endpoint = secret.New(hcloudtest.Token), cloud.URL()
	p, err := New("cloud-a", *config, providers.Environment{Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.wire.CloseIdleConnections)
	hosts := []any{testSettings(), everySetting(), testSettings(func(s *Settings) { s.PublicIPv4 = false })}
	if err := p.Check(t.Context(), hosts); err != nil {
		t.Fatal(err)
	}
	if want := `hosts=3 price="11.47 EUR"`; !strings.Contains(said.String(), want) {
		t.Errorf("the log says %s, want %s", said.String(), want)
	}
}
