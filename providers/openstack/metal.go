package openstack

import (
	"context"
	"errors"

	"github.com/musterhq/muster/providers"
)

const nodePrefix = "allocation/"

func (p *Provider) createNode(context.Context, *session, providers.CreateRequest, Settings) (providers.Instance, error) {
	return providers.Instance{}, errors.ErrUnsupported
}

func (p *Provider) destroyNode(context.Context, *session, providers.Identity) error {
	return errors.ErrUnsupported
}

func (p *Provider) listNodes(context.Context, *session, owner) ([]providers.Instance, error) {
	return nil, nil
}
func (p *Provider) cleanNodes(context.Context, *session, owner) error { return nil }
func (p *Provider) startNode(context.Context, *session, providers.Identity) error {
	return errors.ErrUnsupported
}

func (p *Provider) checkNode(context.Context, *session, Settings) (demand, error) {
	return demand{}, errors.ErrUnsupported
}
