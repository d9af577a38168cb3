package hcloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	api "github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"

	"github.com/musterhq/muster/providers"
)

// Check looks whether the token may write, whether what the settings name is there, fits together and can be had in the
// locations now, and logs what the hosts will cost. It makes nothing.
func (p *Provider) Check(ctx context.Context, settings []any) error {
	if err := p.checkToken(ctx); err != nil {
		return err
	}
	var errs []error
	var hosts []priced
	add := func(err error) { // what is wrong with many hosts is said once
		if err != nil && !slices.ContainsFunc(errs, func(said error) bool { return said.Error() == err.Error() }) {
			errs = append(errs, err)
		}
	}
	for _, each := range settings {
		s, err := settingsOf(each)
		if err != nil {
			add(err)
			continue
		}
		kind, err := p.checkHost(ctx, *s)
		if err != nil && providers.Retryable(err) {
			return err
		}
		add(err)
		hosts = append(hosts, priced{kind: kind, settings: *s})
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return p.tellPrice(ctx, hosts)
}

// checkToken asks for something to be done to a server that cannot be, which a token that only reads is refused before it is
// looked for.
func (p *Provider) checkToken(ctx context.Context) error {
	_, response, err := p.api.Server.Poweron(ctx, &api.Server{ID: 0})
	err = classified(ctx, response, err)
	if providers.Retryable(err) || errors.Is(err, providers.ErrAuth) || ctx.Err() != nil {
		return err
	}
	return nil
}

// checkHost looks whether what a host's settings name is there and fits together.
func (p *Provider) checkHost(ctx context.Context, s Settings) (*api.ServerType, error) {
	kind, err := p.serverType(ctx, s.ServerType)
	if err != nil {
		return nil, errors.Join(err, p.checkLocations(ctx, s, nil))
	}
	var errs []error
	if image, err := p.image(ctx, s, kind); err != nil {
		errs = append(errs, err)
	} else if int(image.DiskSize) > kind.Disk {
		errs = append(errs, fmt.Errorf("image %s needs a disk of %g GB, server type %s has %d: %w",
			image.Description, image.DiskSize, kind.Name, kind.Disk, providers.ErrInvalid))
	}
	errs = append(errs, p.checkLocations(ctx, s, kind))
	if s.Network != "" {
		_, err := p.network(ctx, s.Network)
		errs = append(errs, err)
	}
	for _, name := range s.SSHKeys {
		_, err := p.sshKey(ctx, name)
		errs = append(errs, err)
	}
	for _, name := range s.Firewalls {
		_, err := p.firewall(ctx, name)
		errs = append(errs, err)
	}
	if s.PlacementGroup != "" && s.PlacementGroup != groupSpread {
		_, err := p.placement(ctx, owner{}, s)
		errs = append(errs, err)
	}
	return kind, errors.Join(errs...)
}

// checkLocations looks whether there are such locations and whether they have the server type, if that is known.
func (p *Provider) checkLocations(ctx context.Context, s Settings, kind *api.ServerType) error {
	all, err := remember(ctx, &p.known, "locations", func(ctx context.Context) ([]named[*api.Location], error) {
		list, err := pages(ctx, func(ctx context.Context, o api.ListOpts) ([]*api.Location, *api.Response, error) {
			return p.api.Location.List(ctx, api.LocationListOpts{ListOpts: o, Sort: byID})
		}, "")
		return naming(list, func(l *api.Location) (int64, string) { return l.ID, l.Name }), err
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range s.Locations {
		if _, err := choose("location", name, all); err != nil {
			errs = append(errs, err)
		} else if kind != nil && !slices.Contains(available(kind), name) {
			errs = append(errs, fmt.Errorf("server type %s cannot be had in location %s now; it can in: %s: %w",
				kind.Name, name, strings.Join(available(kind), ", "), providers.ErrQuota))
		}
	}
	return errors.Join(errs...)
}

// available are the locations that have a server type now.
func available(kind *api.ServerType) []string {
	var names []string
	for _, at := range kind.Locations {
		if at.Available {
			names = append(names, at.Location.Name)
		}
	}
	return names
}

// priced is a host of which the price is asked.
type priced struct {
	kind     *api.ServerType
	settings Settings
}

// tellPrice logs what the hosts cost a month without taxes and traffic, at the dearest of their locations.
func (p *Provider) tellPrice(ctx context.Context, hosts []priced) error {
	if len(hosts) == 0 {
		return nil
	}
	prices, err := p.prices(ctx)
	if err != nil {
		return err
	}
	sum := 0.0
	for _, host := range hosts {
		sum += monthly(prices, host)
	}
	p.log.InfoContext(ctx, "what the hosts cost a month, net, at the most", "provider", p.name, "hosts", len(hosts),
		"price", fmt.Sprintf("%.2f %s", sum, prices.Currency))
	return nil
}

// prices asks for the prices without the SDK's Pricing.Get, which makes room for as many kinds of primary addresses as there
// are of floating ones, and panics when there are more.
func (p *Provider) prices(ctx context.Context) (schema.Pricing, error) {
	request, err := p.api.NewRequest(ctx, http.MethodGet, "/pricing", nil)
	if err := classified(ctx, nil, err); err != nil {
		return schema.Pricing{}, err
	}
	var answer schema.PricingGetResponse
	response, err := p.api.Do(request, &answer)
	return answer.Pricing, classified(ctx, response, err)
}

func monthly(prices schema.Pricing, host priced) float64 {
	in := func(location string) bool {
		return len(host.settings.Locations) == 0 || slices.Contains(host.settings.Locations, location)
	}
	server, address := 0.0, 0.0
	for _, kind := range prices.ServerTypes {
		for _, at := range kind.Prices {
			if kind.ID == host.kind.ID && in(at.Location) {
				server = max(server, amount(at.PriceMonthly.Net))
			}
		}
	}
	for _, kind := range prices.PrimaryIPs {
		for _, at := range kind.Prices {
			if kind.Type == string(api.PrimaryIPTypeIPv4) && host.settings.PublicIPv4 && in(at.Location) {
				address = max(address, amount(at.PriceMonthly.Net))
			}
		}
	}
	return server + address
}

// amount reads a price. One that is no number counts nothing, since this is a hint.
func amount(text string) float64 {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return value
}
