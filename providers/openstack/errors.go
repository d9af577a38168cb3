package openstack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/musterhq/muster/providers"
)

// apiError is an answer that refuses a request.
type apiError struct {
	status       int    // of HTTP
	kind         string // Neutron's name of the error, "" elsewhere
	message      string
	method, path string
	class        error
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%s (HTTP %d to %s %s): %v", e.message, e.status, e.method, e.path, e.class)
}

func (e *apiError) Unwrap() error { return e.class }

// hasStatus tells whether err is an answer with that status.
func hasStatus(err error, status int) bool {
	var e *apiError
	return errors.As(err, &e) && e.status == status
}

// refused tells whether err says for certain that the request was not carried out.
func refused(err error) bool {
	var e *apiError
	return errors.As(err, &e) && e.status < 500 && e.status != http.StatusRequestTimeout
}

// ignoreGone is err unless it says that what was to go is gone.
func ignoreGone(err error) error {
	if hasStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// classified turns an error of the SDK into one that has a class of providers and no more of the answer than its message.
func classified(ctx context.Context, err error) error {
	switch providers.Class(err) {
	case "unknown":
	case "canceled", "timeout": // of ctx, or of a request that had no answer in time
	default:
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var unable *gophercloud.ErrUnableToReauthenticate
	if errors.As(err, &unable) {
		return fmt.Errorf("the token is not valid any more, and logging in again failed: %w",
			classified(ctx, unable.ErrReauth))
	}
	var answer gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &answer) {
		return answered(answer)
	}
	var none *gophercloud.ErrEndpointNotFound
	if errors.As(err, &none) {
		return fmt.Errorf("the catalogue has no such endpoint: %w", providers.ErrNotFound)
	}
	var authority x509.UnknownAuthorityError
	var verification *tls.CertificateVerificationError
	if errors.As(err, &authority) || errors.As(err, &verification) {
		return fmt.Errorf("the cloud's certificate cannot be verified, set `ca_cert`: %w: %w", err, providers.ErrAuth)
	}
	if lost(err) {
		return fmt.Errorf("no answer: %w: %w", err, providers.ErrUnavailable)
	}
	return err
}

// lost tells whether a request has no answer, or half of one.
func lost(err error) bool {
	var network net.Error
	var address *url.Error
	var syntax *json.SyntaxError
	return errors.As(err, &network) || errors.As(err, &address) || errors.As(err, &syntax) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}

// answered classifies an answer. Quotas are a 403 of Nova, a 409 of Neutron and a 413 of Cinder, whose rate limits are
// 413 too and say when to come again.
func answered(answer gophercloud.ErrUnexpectedResponseCode) error {
	e := &apiError{status: answer.Actual, method: answer.Method, path: answer.URL}
	if u, err := url.Parse(answer.URL); err == nil {
		e.path = u.Path
	}
	e.kind, e.message = explain(answer.Body)
	if e.message == "" {
		e.message = http.StatusText(e.status)
	}
	e.class = e.classify(answer.ResponseHeader.Get("Retry-After") != "")
	return e
}

func (e *apiError) classify(retryAfter bool) error {
	quota := e.kind == "OverQuota" || strings.Contains(strings.ToLower(e.message), "quota") ||
		strings.Contains(e.message, "Maximum number of")
	switch e.status {
	case http.StatusTooManyRequests, 498:
		return providers.ErrThrottled
	case http.StatusRequestEntityTooLarge:
		if retryAfter && !quota {
			return providers.ErrThrottled
		}
		return providers.ErrQuota
	case http.StatusUnauthorized:
		return providers.ErrAuth
	case http.StatusForbidden:
		if quota {
			return providers.ErrQuota
		}
		return providers.ErrAuth
	case http.StatusNotFound:
		return providers.ErrNotFound
	case http.StatusConflict:
		switch {
		case quota, e.kind == "IpAddressGenerationFailure":
			return providers.ErrQuota
		case strings.Contains(e.message, "is locked by host"): // a node of Ironic that is being worked on
			return providers.ErrUnavailable
		}
		return providers.ErrConflict
	case http.StatusPreconditionFailed:
		return providers.ErrConflict
	case http.StatusRequestTimeout:
		return providers.ErrUnavailable
	}
	if e.status >= 500 {
		return providers.ErrUnavailable
	}
	return providers.ErrInvalid
}

// explain finds the message in the body of an error. Every service wraps it in another way: {"badRequest": {"message"}},
// {"NeutronError": {"type", "message"}}, {"error": {"message"}}, {"error_message": "{\"faultstring\"}"}.
func explain(body []byte) (kind, message string) {
	var outer map[string]json.RawMessage
	if json.Unmarshal(body, &outer) != nil {
		return "", ""
	}
	for _, raw := range outer {
		var text string
		if json.Unmarshal(raw, &text) == nil {
			raw = json.RawMessage(text)
		}
		var inner struct {
			Type        string `json:"type"`
			Message     string `json:"message"`
			FaultString string `json:"faultstring"`
		}
		if json.Unmarshal(raw, &inner) != nil {
			continue
		}
		if inner.Message == "" {
			inner.Message = inner.FaultString
		}
		if inner.Message != "" {
			return inner.Type, strings.TrimSpace(inner.Message)
		}
	}
	return "", ""
}
