package redfish

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/stmcginnis/gofish/schemas"

	"github.com/musterhq/muster/providers"
)

// httpClient returns a client for one call, which speaks to the endpoint and nobody else.
func (c Controller) httpClient() (*http.Client, error) {
	endpoint, err := url.Parse(c.Endpoint)
	if err != nil || endpoint.Scheme != "https" || endpoint.Host == "" || endpoint.User != nil {
		return nil, fmt.Errorf("%w: cannot ask controller %q: it is to be an https URL without a password", providers.ErrInvalid, c.Endpoint)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.Certificate != "" {
		config.InsecureSkipVerify = true // in favour of the next line
		config.VerifyConnection = c.expected
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment},
		// Where else the password would go, only the answer would say.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func (c Controller) expected(connection tls.ConnectionState) error {
	sum := sha256.Sum256(connection.PeerCertificates[0].Raw)
	if got := hex.EncodeToString(sum[:]); got != c.Certificate {
		return fmt.Errorf("%w: its SHA-256 is %s", errCertificate, got)
	}
	return nil
}

// classify wraps an error in its class, unless it has one.
func (c Controller) classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("cannot ask controller %s: %w", c.Endpoint, context.Cause(ctx))
	}
	if errors.Is(err, providers.ErrInvalid) || errors.Is(err, providers.ErrUnavailable) {
		return fmt.Errorf("controller %s: %w", c.Endpoint, err)
	}
	if errors.Is(err, errCertificate) {
		return fmt.Errorf("%w: controller %s: %w: correct the cluster file if that is the controller's new one", providers.ErrAuth, c.Endpoint, err)
	}
	if unknown := (*tls.CertificateVerificationError)(nil); errors.As(err, &unknown) {
		return fmt.Errorf("%w: controller %s: %w: name the SHA-256 of its certificate in the cluster file", providers.ErrAuth, c.Endpoint, err)
	}
	refused := answer(err)
	if refused == nil {
		return fmt.Errorf("%w: controller %s: %w", providers.ErrUnavailable, c.Endpoint, err)
	}
	status := refused.HTTPReturnedStatusCode
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		return fmt.Errorf("%w: controller %s refuses user %q: correct the user or the password, and give it the operator's role",
			providers.ErrAuth, c.Endpoint, c.User)
	}
	return fmt.Errorf("%w: controller %s answers %d: %s", class(status), c.Endpoint, status, refused.Message)
}

func class(status int) error {
	switch {
	case status == http.StatusTooManyRequests:
		return providers.ErrThrottled
	case status == http.StatusNotFound:
		return providers.ErrNotFound
	case status == http.StatusConflict, status == http.StatusPreconditionFailed:
		return providers.ErrConflict
	case status >= 500, status < 400:
		return providers.ErrUnavailable
	}
	return providers.ErrInvalid
}

// answer finds what the service said in an error, also in one about a collection, which does not unwrap.
func answer(err error) *schemas.Error {
	if said := (*schemas.Error)(nil); errors.As(err, &said) {
		return said
	}
	if members := (*schemas.CollectionError)(nil); errors.As(err, &members) {
		for _, failure := range members.Failures {
			if said := answer(failure); said != nil {
				return said
			}
		}
	}
	return nil
}
