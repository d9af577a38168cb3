package hcloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	api "github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/musterhq/muster/providers"
)

// codeGroupFull is what the SDK has no name for: a placement group has its ten servers.
const codeGroupFull api.ErrorCode = "placement_group_member_limit_reached"

// classes are the classes of error codes (API reference, "Errors"). Codes that are not here are classed by the status.
var classes = []struct {
	class error
	codes []api.ErrorCode
}{
	{providers.ErrThrottled, []api.ErrorCode{api.ErrorCodeRateLimitExceeded}},
	{providers.ErrUnavailable, []api.ErrorCode{
		api.ErrorCodeServiceError, api.ErrorCodeServerError, api.ErrorCodeUnknownError, api.ErrorCodeBadGateway, api.ErrorCodeTimeout,
		api.ErrorCodeMaintenance,
		// What is being worked on or ends passes, and the next try takes another group.
		api.ErrorCodeLocked, api.ErrorCodeConflict, api.ErrorCodeResourceInUse, codeGroupFull,
	}},
	{providers.ErrQuota, []api.ErrorCode{
		api.ErrorCodeResourceLimitExceeded, api.ErrorCodeResourceUnavailable, api.ErrorCodePlacementError,
		api.ErrorCodeIPNotAvailable, api.ErrorCodeNoSubnetAvailable,
	}},
	{providers.ErrAuth, []api.ErrorCode{api.ErrorCodeUnauthorized, api.ErrorCodeForbidden, "token_readonly"}},
	{providers.ErrNotFound, []api.ErrorCode{api.ErrorCodeNotFound}},
	{providers.ErrConflict, []api.ErrorCode{api.ErrorCodeUniquenessError, api.ErrorCodeProtected}},
}

// hints say what to do about errors that Hetzner says too little of.
var hints = map[api.ErrorCode]string{
	api.ErrorCodeForbidden:             "the token must be one that reads and writes",
	api.ErrorCodeResourceLimitExceeded: "ask Hetzner for a higher limit in the console, or use fewer hosts",
	api.ErrorCodeResourceUnavailable:   "use another `server_type` or other `locations`",
	api.ErrorCodePlacementError:        "use another `server_type` or other `locations`, or no `placement_group`",
	api.ErrorCodeProtected:             "end its protection: `hcloud server disable-protection`",
}

// classified wraps the class of what a call ended with. Without an answer of the API the outcome is not known.
func classified(ctx context.Context, response *api.Response, err error) error {
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case cause != nil:
		return cause
	case providers.Class(err) != "unknown":
		return err
	}
	var refusal api.Error
	status := 0
	if response != nil && response.Response != nil {
		status = response.StatusCode
	}
	switch transport := (*url.Error)(nil); {
	case errors.As(err, &refusal):
		return answered(refusal, status)
	case errors.As(err, &transport):
		return fmt.Errorf("no answer: %w: %w", transport.Err, providers.ErrUnavailable)
	case status >= http.StatusBadRequest:
		return fmt.Errorf("HTTP %d: %w", status, classOf("", status))
	case status != 0:
		return fmt.Errorf("half an answer: %w: %w", err, providers.ErrUnavailable)
	default: // the SDK refuses to ask
		return fmt.Errorf("%w: %w", err, providers.ErrInvalid)
	}
}

// answered is an answer that refuses, with the fields that it is about and what to do.
func answered(refusal api.Error, status int) error {
	text := []string{fmt.Sprintf("%s (%s)", refusal.Message, refusal.Code)}
	if details, ok := refusal.Details.(api.ErrorDetailsInvalidInput); ok {
		for _, field := range details.Fields {
			text = append(text, field.Name+": "+strings.Join(field.Messages, ", "))
		}
	}
	if hint, ok := hints[refusal.Code]; ok {
		text = append(text, hint)
	}
	return &apiError{text: strings.Join(text, "; "), code: refusal.Code, class: classOf(refusal.Code, status)}
}

// classOf finds the class of an error code, or of an HTTP status.
func classOf(code api.ErrorCode, status int) error {
	for _, c := range classes {
		if slices.Contains(c.codes, code) {
			return c.class
		}
	}
	switch {
	case status == http.StatusTooManyRequests:
		return providers.ErrThrottled
	case status >= http.StatusInternalServerError:
		return providers.ErrUnavailable
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return providers.ErrAuth
	case status == http.StatusNotFound:
		return providers.ErrNotFound
	case status == http.StatusConflict:
		return providers.ErrConflict
	default:
		return providers.ErrInvalid
	}
}

// apiError is an answer of the API that refuses.
type apiError struct {
	text  string
	code  api.ErrorCode
	class error
}

func (e *apiError) Error() string { return e.text + ": " + e.class.Error() }
func (e *apiError) Unwrap() error { return e.class }

func hasCode(err error, codes ...api.ErrorCode) bool {
	var e *apiError
	return errors.As(err, &e) && slices.Contains(codes, e.code)
}

// ignoreGone is err unless it says that what was to go is gone.
func ignoreGone(err error) error {
	if hasCode(err, api.ErrorCodeNotFound) {
		return nil
	}
	return err
}

// refused tells whether err says for certain that nothing was made, and will not be when asked again.
func refused(err error) bool { return err != nil && !providers.Retryable(err) }
