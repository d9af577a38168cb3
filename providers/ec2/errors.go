package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/musterhq/muster/providers"
)

// Codes of the EC2 API that decide what happens next (API Reference, "Error codes for the Amazon EC2 API").
const (
	codeDryRun          = "DryRunOperation"
	codeMismatch        = "IdempotentParameterMismatch"
	codeTokenSpent      = "IdempotentInstanceTerminated"
	codeGroupExists     = "InvalidGroup.Duplicate"
	codeGroupGone       = "InvalidGroup.NotFound"
	codeRuleExists      = "InvalidPermission.Duplicate"
	codeRuleGone        = "InvalidPermission.NotFound"
	codePlacementExists = "InvalidPlacementGroup.Duplicate"
	codePlacementGone   = "InvalidPlacementGroup.Unknown"
	codeInstanceGone    = "InvalidInstanceID.NotFound"
	codeUnsupported     = "UnsupportedOperation"

	codeNone = "UnknownError" // the SDK's, for an answer that has none
)

// noRoomHere are the codes of a zone or subnet that has no room for the instance: another one may.
var noRoomHere = []string{
	"InsufficientInstanceCapacity", "InsufficientCapacity", "Unsupported", "InsufficientFreeAddressesInSubnet",
}

// classes are the classes of error codes. Codes that are not here are classed by their form and then by the status.
var classes = []struct {
	class error
	codes []string
}{
	{providers.ErrThrottled, []string{
		"RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
		"RequestThrottledException", "EC2ThrottledException", "TooManyRequestsException", "SlowDown", "BandwidthLimitExceeded",
	}},
	{providers.ErrUnavailable, []string{
		"InternalError", "InternalFailure", "ServerInternal", "InternalServerError", "Unavailable", "ServiceUnavailable",
		"RequestTimeout", "RequestTimeoutException",
		// What changes its state passes, and what depends on something does so until that is gone.
		"IncorrectInstanceState", "IncorrectState", "DependencyViolation", "InvalidPlacementGroup.InUse", "VolumeInUse",
		"InvalidIPAddress.InUse", "InvalidNetworkInterface.InUse", "PendingSnapshotLimitExceeded",
	}},
	{providers.ErrQuota, []string{
		"InsufficientInstanceCapacity", "InsufficientCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity",
		"InsufficientAddressCapacity", "InsufficientFreeAddressesInSubnet", "InsufficientVolumeCapacity",
		"MaxSpotInstanceCountExceeded", "ResourceCountExceeded",
	}},
	{providers.ErrAuth, []string{
		"AuthFailure", "UnauthorizedOperation", "Blocked", "OptInRequired", "PendingVerification", "InvalidClientTokenId",
		"SignatureDoesNotMatch", "MissingAuthenticationToken", "IncompleteSignature", "InvalidAccessKeyId", "ExpiredToken",
		"ExpiredTokenException", "RequestExpired", "UnrecognizedClientException", "AccessDenied", "AccessDeniedException",
		"Client.UnauthorizedOperation", "NotAuthorized", "InvalidSecurityToken",
	}},
	{providers.ErrNotFound, []string{
		"InvalidAMIID.Unavailable", codePlacementGone, "ParameterNotFound", "VPCIdNotSpecified", "DefaultVpcDoesNotExist",
		"MissingInput",
	}},
	{providers.ErrConflict, []string{
		codeGroupExists, codePlacementExists, codeMismatch, "OperationNotPermitted", "Resource.AlreadyAssociated",
	}},
}

// hints say what to do about errors that EC2 says too little of.
var hints = map[string]string{
	"UnauthorizedOperation":        "allow it as providers/ec2/policy.json does",
	"OptInRequired":                "the account does not use EC2 in this region, or has not accepted the image's terms",
	"VPCIdNotSpecified":            "there is no default VPC: set `vpc`",
	"OperationNotPermitted":        "the instance is protected from termination: end the protection",
	"RequestExpired":               "is this machine's clock right?",
	"VcpuLimitExceeded":            "ask Amazon for a higher quota of vCPUs, or use a smaller `type`",
	"AddressLimitExceeded":         "ask Amazon for a higher quota of elastic addresses, or set `address: public`",
	"InsufficientInstanceCapacity": "use another `type`, more `subnets` or no `spot`",
	"InvalidKeyPair.NotFound":      "import the key pair, or set `key` to one of this region",
}

// code is EC2's word for an error, "" for an error that is not EC2's.
func code(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	return api.ErrorCode()
}

func hasCode(err error, codes ...string) bool { return slices.Contains(codes, code(err)) }

// classOf finds the class of an error code with its HTTP status, which is 0 when it is not known.
func classOf(code string, status int) error {
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
	case strings.HasSuffix(code, "LimitExceeded"):
		return providers.ErrQuota
	case strings.HasSuffix(code, ".NotFound") || strings.HasSuffix(code, "NotFoundException"):
		return providers.ErrNotFound
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return providers.ErrAuth
	default:
		return providers.ErrInvalid
	}
}

// classified wraps the class of what a call ended with. Without an answer of EC2 the outcome is not known.
func classified(ctx context.Context, action string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%s: %w", action, cause)
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return fmt.Errorf("%s: no answer: %w: %w", action, err, providers.ErrUnavailable)
	}
	status := 0
	if response := (*smithyhttp.ResponseError)(nil); errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	return &apiError{text: action + ": " + inWords(api, status), class: classOf(api.ErrorCode(), status), api: api}
}

// inWords says what EC2 answered, and what to do about it.
func inWords(api smithy.APIError, status int) string {
	if api.ErrorCode() == codeNone {
		return fmt.Sprintf("answered HTTP status %d without a word of EC2's, is the endpoint right?", status)
	}
	text := fmt.Sprintf("%s (%s)", api.ErrorMessage(), api.ErrorCode())
	if hint := hints[api.ErrorCode()]; hint != "" {
		text += ", " + hint
	}
	return text
}

// apiError is an answer of EC2 in fewer words than the SDK's.
type apiError struct {
	text  string
	class error
	api   smithy.APIError
}

func (e *apiError) Error() string   { return e.text + ": " + e.class.Error() }
func (e *apiError) Unwrap() []error { return []error{e.class, e.api} }
