package datasource

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// EC2 is Amazon's instance metadata service, version 2
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html), which OpenStack serves
// too, without tokens.
type EC2 struct {
	Machine
	Base string // of the service, "" is its well-known address
}

const (
	imdsBase    = "http://169.254.169.254"
	tokenHeader = "X-aws-ec2-metadata-token"
	tokenTTL    = "X-aws-ec2-metadata-token-ttl-seconds"
	tokenLife   = "300"
)

// Name implements Source.
func (EC2) Name() string { return "ec2" }

// Fetch implements Source.
func (s EC2) Fetch(ctx context.Context) (Data, error) {
	if !s.here() {
		return Data{}, ErrNotHere
	}
	ctx, cancel := s.timeout(ctx)
	defer cancel()
	client := *s.client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	base := s.Base
	if base == "" {
		base = imdsBase
	}
	service := imds{client: &client, base: base + "/latest/"}
	if err := service.authenticate(ctx); err != nil {
		return Data{}, err
	}
	return service.read(ctx)
}

// here reports whether the firmware says that this machine is of EC2 or OpenStack. Elsewhere the address belongs to
// somebody else.
func (s EC2) here() bool {
	if kind, ok := s.argument("ds"); ok && (kind == "ec2" || strings.HasPrefix(kind, "ec2;")) {
		return true
	}
	uuid, _ := s.read(4096, "sys/hypervisor/uuid")
	for _, id := range []string{s.dmi("product_uuid"), string(uuid)} {
		if strings.HasPrefix(strings.ToLower(id), "ec2") {
			return true
		}
	}
	openStack := []string{"OpenStack Nova", "OpenStack Compute", "OpenStack Ironic"}
	return s.dmi("sys_vendor") == "Amazon EC2" || slices.Contains(openStack, s.dmi("product_name")) ||
		slices.Contains(openStack, s.dmi("chassis_asset_tag"))
}

// imds is one conversation with the service.
type imds struct {
	client *http.Client
	base   string
	header http.Header
}

// authenticate gets a token. A server that knows none answers without.
func (s *imds) authenticate(ctx context.Context) error {
	header := http.Header{http.CanonicalHeaderKey(tokenTTL): {tokenLife}}
	token, err := get(ctx, s.client, http.MethodPut, s.base+"api/token", header, 4096)
	var status *statusError
	switch {
	case errors.Is(err, errNotFound), errors.As(err, &status) && status.code == http.StatusMethodNotAllowed:
		return nil
	case err != nil:
		return err
	}
	if strings.ContainsFunc(string(token), func(r rune) bool { return r <= ' ' || r > '~' }) || len(token) == 0 {
		return errors.New("the metadata service gave no token")
	}
	s.header = http.Header{http.CanonicalHeaderKey(tokenHeader): {string(token)}}
	return nil
}

// page reads a page; one that is not there is empty.
func (s *imds) page(ctx context.Context, name string, limit int64) ([]byte, error) {
	data, err := get(ctx, s.client, http.MethodGet, s.base+name, s.header, limit)
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	return data, err
}

func (s *imds) read(ctx context.Context) (Data, error) {
	var data Data
	var private4, public4, ipv6 string
	group, ctx := errgroup.WithContext(ctx)
	for name, into := range map[string]*string{
		"instance-id": &data.InstanceID, "local-hostname": &data.Hostname,
		"local-ipv4": &private4, "public-ipv4": &public4, "ipv6": &ipv6,
	} {
		group.Go(func() error {
			text, err := s.page(ctx, "meta-data/"+name, maxMetaData)
			*into = strings.TrimSpace(string(text))
			return err
		})
	}
	group.Go(func() (err error) {
		data.UserData, err = s.page(ctx, "user-data", maxUserData)
		return err
	})
	group.Go(func() (err error) {
		data.SSHKeys, err = s.keys(ctx)
		return err
	})
	if err := group.Wait(); err != nil {
		return Data{}, err
	}
	if data.InstanceID == "" {
		return Data{}, errors.New("the metadata service has no instance-id")
	}
	data.Addresses.PrivateIPv4, _ = netip.ParseAddr(private4)
	data.Addresses.PublicIPv4, _ = netip.ParseAddr(public4)
	if addr, err := netip.ParseAddr(ipv6); err == nil {
		found := Classify([]netip.Addr{addr})
		data.Addresses.PrivateIPv6, data.Addresses.PublicIPv6 = found.PrivateIPv6, found.PublicIPv6
	}
	return data, nil
}

// keys reads the public keys: an index of lines such as 0=name, then a page for each.
func (s *imds) keys(ctx context.Context) ([]string, error) {
	const most = 32
	index, err := s.page(ctx, "meta-data/public-keys/", maxMetaData)
	if err != nil {
		return nil, err
	}
	var keys []string
	for i, line := range keyLines(string(index)) {
		number, _, _ := strings.Cut(line, "=")
		if i == most || strings.ContainsFunc(number, func(r rune) bool { return r < '0' || r > '9' }) {
			break
		}
		text, err := s.page(ctx, "meta-data/public-keys/"+number+"/openssh-key", maxMetaData)
		if err != nil {
			return nil, err
		}
		keys = append(keys, keyLines(string(text))...)
	}
	return keys, nil
}
