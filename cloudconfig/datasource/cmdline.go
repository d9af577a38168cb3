package datasource

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// CommandLine is cloud-config-url=URL on the kernel command line, as coreos-cloudinit and cloud-init know it.
type CommandLine struct{ Machine }

// Name implements Source.
func (CommandLine) Name() string { return "cmdline" }

// Fetch implements Source.
func (s CommandLine) Fetch(ctx context.Context) (Data, error) {
	url, ok := s.argument("cloud-config-url")
	if !ok {
		return Data{}, ErrNotHere
	}
	if !isURL(url) {
		return Data{}, fmt.Errorf("cloud-config-url on the kernel command line is no http or https URL")
	}
	ctx, cancel := s.timeout(ctx)
	defer cancel()
	userData, err := get(ctx, s.client(), http.MethodGet, url, nil, maxUserData)
	if err != nil {
		return Data{}, err
	}
	id, err := s.InstanceID()
	return Data{InstanceID: id, UserData: userData}, err
}

func isURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }
