//go:build unix && !linux

package local

import (
	"context"
	"fmt"

	"github.com/musterhq/muster/providers"
)

func (p *Provider) checkContainers() error { return p.container.check() }

func (*container) check() error {
	return fmt.Errorf("`boot: %s` needs Linux: %w", bootNspawn, providers.ErrInvalid)
}

func (p *Provider) startContainer(context.Context, host) (process, error) {
	return process{}, p.container.check()
}

// clear has nothing to remove: no container was ever started here.
func (host) clear(context.Context) error { return nil }
