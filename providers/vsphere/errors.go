package vsphere

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// taskError is why a task failed.
type taskError struct {
	fault   types.BaseMethodFault
	message string
}

func (e *taskError) Error() string {
	if e.message != "" {
		return e.message
	}
	return faultName(e.fault)
}

// Fault returns what the server says.
func (e *taskError) Fault() types.BaseMethodFault { return e.fault }

// faultName is the name of a fault's type in the API.
func faultName(fault types.BaseMethodFault) string {
	t := reflect.TypeOf(fault)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return "unknown fault"
	}
	return t.Name()
}

// faultOf is the fault that an error carries, nil when it carries none.
func faultOf(err error) types.BaseMethodFault {
	var carrier interface{ Fault() types.BaseMethodFault }
	if errors.As(err, &carrier) {
		return carrier.Fault()
	}
	return nil
}

// isFault tells whether an error carries a fault of type T or of one that extends it.
func isFault[T any](err error) bool {
	_, is := faultOf(err).(T)
	return is
}

// statusError is an answer that is not the API's: the server, or a proxy before it, would not or could not.
type statusError struct {
	status string
	code   int
}

func (e *statusError) Error() string { return "the server answers " + e.status }

// statuses is a transport that makes errors of answers that are not the API's. The API answers faults with 500 and XML, and
// errors of its REST part with JSON.
type statuses struct{ inner http.RoundTripper }

func (s statuses) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := s.inner.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	kind := res.Header.Get("Content-Type")
	switch {
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusBadGateway,
		res.StatusCode == http.StatusServiceUnavailable, res.StatusCode == http.StatusGatewayTimeout,
		res.StatusCode == http.StatusInternalServerError && !strings.Contains(kind, "xml") && !strings.Contains(kind, "json"):
		_ = res.Body.Close()
		return nil, &statusError{res.Status, res.StatusCode}
	}
	return res, nil
}

// classified wraps the class of an error that has none, and says why ctx ended when that is why a call failed.
func classified(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if providers.Class(err) != "unknown" {
		return err
	}
	fault := faultOf(err)
	if fault == nil {
		return classifiedTransport(err)
	}
	for _, words := range faultWords(fault) {
		err = fmt.Errorf("%w (%s)", err, words)
	}
	if class := faultClass(fault); class != nil {
		return fmt.Errorf("%w: %w", err, class)
	}
	return err
}

// faultWords is what a fault's text leaves out: of which type it is, what it is about, and what caused it.
func faultWords(fault types.BaseMethodFault) []string {
	words := []string{faultName(fault)}
	switch f := fault.(type) {
	case types.BaseNoPermission:
		no := f.GetNoPermission()
		if no.PrivilegeId != "" {
			words = append(words, "privilege "+no.PrivilegeId+" is missing, see providers/vsphere/PRIVILEGES.md")
		}
	case types.BaseInvalidArgument:
		if property := f.GetInvalidArgument().InvalidProperty; property != "" {
			words = append(words, "property "+property)
		}
	case *types.RestrictedVersion:
		words = append(words, "the license of this ESXi lets nobody change anything through the API")
	}
	if cause := fault.GetMethodFault().FaultCause; cause != nil && cause.LocalizedMessage != "" {
		words = append(words, cause.LocalizedMessage)
	}
	return words
}

// faultClass is the class of a fault, nil when it has none. A fault belongs to the first family that it extends
// (https://developer.broadcom.com/xapis/vsphere-web-services-api/latest/, "Faults").
func faultClass(fault types.BaseMethodFault) error {
	switch fault.(type) {
	case types.BaseNoPermission, types.BaseInvalidLogin, *types.RestrictedVersion, *types.PasswordExpired:
		return providers.ErrAuth
	case types.BaseInsufficientResourcesFault, types.BaseNotEnoughLicenses, *types.NoDiskSpace, *types.LimitExceeded:
		return providers.ErrQuota
	case *types.ManagedObjectNotFound, *types.NotFound, *types.FileNotFound:
		return providers.ErrNotFound
	case *types.DuplicateName, *types.AlreadyExists, *types.FileAlreadyExists:
		return providers.ErrConflict
	case types.BaseTaskInProgress, types.BaseHostCommunication, types.BaseHostConnectFault, *types.ConcurrentAccess, *types.FileLocked,
		*types.ResourceInUse, *types.Timedout, *types.RequestCanceled, *types.InvalidHostConnectionState:
		return providers.ErrUnavailable
	case types.BaseInvalidArgument, types.BaseInvalidRequest, types.BaseInvalidVmConfig, types.BaseVmConfigFault, types.BaseNotSupported,
		types.BaseInvalidDatastore, types.BaseInvalidFolder, *types.InvalidName, types.BaseOvfFault:
		return providers.ErrInvalid
	case types.BaseInvalidState:
		return providers.ErrConflict
	}
	return nil
}

// classifiedTransport classifies an error that is no fault: the answer is lost, or never was one.
func classifiedTransport(err error) error {
	var status *statusError
	var network net.Error
	var syntax *xml.SyntaxError
	switch {
	case errors.As(err, &status) && status.code == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %w", err, providers.ErrThrottled)
	case isUntrusted(err):
		return fmt.Errorf("%w: %w", untrusted(err), providers.ErrAuth)
	case errors.As(err, &status), errors.As(err, &network), errors.As(err, &syntax), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", err, providers.ErrUnavailable)
	}
	return err
}

// isUntrusted tells whether the server's certificate was refused.
func isUntrusted(err error) bool {
	var verification *tls.CertificateVerificationError
	return errors.As(err, &verification) || soap.IsCertificateUntrusted(err) || strings.Contains(err.Error(), "thumbprint does not match")
}

// untrusted says what to do about a certificate that was refused.
func untrusted(err error) error {
	var verification *tls.CertificateVerificationError
	if !errors.As(err, &verification) || len(verification.UnverifiedCertificates) == 0 {
		return err
	}
	return fmt.Errorf("%w; set `ca`, or when the server's console shows it too, `thumbprint: %s`", err,
		soap.ThumbprintSHA256(verification.UnverifiedCertificates[0]))
}

// Faults that a call may meet because somebody else has done already what it was to do.

func isGone(err error) bool { return isFault[*types.ManagedObjectNotFound](err) }

func isPower(err error, state types.VirtualMachinePowerState) bool {
	fault, is := faultOf(err).(*types.InvalidPowerState)
	return is && fault.ExistingState == state
}
