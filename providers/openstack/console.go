package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/musterhq/muster/providers"
)

// consolePause is the time between two looks at a console that is followed. Every look is a call and an answer of the whole
// log, of which Nova keeps the last 100 KiB.
const consolePause = 2 * time.Second

// Console writes what a host has said on its serial console.
func (p *Provider) Console(ctx context.Context, instance providers.Instance, follow bool, w io.Writer) error {
	s, err := p.session(ctx)
	if err != nil {
		return err
	}
	if strings.HasPrefix(instance.ID, nodePrefix) {
		return fmt.Errorf("the bare-metal service keeps no console log: %w", errors.ErrUnsupported)
	}
	o := p.owner(instance.Cluster)
	_, there, err := s.serverOf(ctx, o, instance.Identity, instance.ID)
	if err == nil && !there {
		err = fmt.Errorf("host %s has no server %s: %w", instance.Host, instance.ID, providers.ErrNotFound)
	}
	if err != nil {
		return err
	}
	before := ""
	for {
		text, err := s.console(ctx, instance.ID)
		if hasStatus(err, http.StatusNotFound) && follow && before != "" {
			return nil // the host is gone
		}
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, added(before, text)); err != nil || !follow {
			return err
		}
		before = text
		if err := providers.Pause(ctx, consolePause); err != nil {
			return err
		}
		if _, there, err := s.serverOf(ctx, o, instance.Identity, instance.ID); err != nil || !there {
			return err
		}
	}
}

func (s *session) console(ctx context.Context, id string) (string, error) {
	text, err := servers.ShowConsoleOutput(ctx, s.compute, id, servers.ShowConsoleOutputOpts{}).Extract()
	err = classified(ctx, err)
	if hasStatus(err, http.StatusNotImplemented) || hasStatus(err, http.StatusBadRequest) {
		return "", fmt.Errorf("the server's hypervisor keeps no console log: %w: %w", err, errors.ErrUnsupported)
	}
	return text, err
}

// added is what a log has that an earlier look at it did not have. The log loses its beginning when it is full: then what
// was seen before ends somewhere in it.
func added(before, now string) string {
	if rest, grown := strings.CutPrefix(now, before); grown {
		return rest
	}
	for start := 1; start < len(before); start++ {
		if rest, found := strings.CutPrefix(now, before[start:]); found {
			return rest
		}
	}
	return now
}
