package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/musterhq/muster/providers"
)

// classes are the classes of libvirt's error codes (https://libvirt.org/html/libvirt-virterror.html).
var classes = []struct {
	class error
	codes []golibvirt.ErrorNumber
}{
	{providers.ErrNotFound, []golibvirt.ErrorNumber{
		golibvirt.ErrNoDomain, golibvirt.ErrNoNetwork, golibvirt.ErrNoStoragePool, golibvirt.ErrNoStorageVol,
	}},
	{providers.ErrConflict, []golibvirt.ErrorNumber{
		golibvirt.ErrDomExist, golibvirt.ErrNetworkExist, golibvirt.ErrStorageVolExist,
	}},
	{providers.ErrAuth, []golibvirt.ErrorNumber{
		golibvirt.ErrAuthFailed, golibvirt.ErrAuthCancelled, golibvirt.ErrAuthUnavailable, golibvirt.ErrAccessDenied,
		golibvirt.ErrOperationDenied,
	}},
	{providers.ErrInvalid, []golibvirt.ErrorNumber{
		golibvirt.ErrInvalidArg, golibvirt.ErrXMLError, golibvirt.ErrXMLDetail, golibvirt.ErrXMLInvalidSchema,
		golibvirt.ErrConfigUnsupported, golibvirt.ErrArgumentUnsupported, golibvirt.ErrOperationUnsupported,
		golibvirt.ErrNoSupport,
	}},
	{providers.ErrUnavailable, []golibvirt.ErrorNumber{
		golibvirt.ErrRPC, golibvirt.ErrNoConnect, golibvirt.ErrOperationTimeout, golibvirt.ErrResourceBusy,
		golibvirt.ErrNoMemory,
	}},
	{providers.ErrQuota, nil}, // by the message alone
}

// messages are the classes of errors whose code says little, by what they say: the daemon passes on what QEMU or the
// kernel told it.
var messages = []struct {
	class error
	parts []string
}{
	{providers.ErrQuota, []string{"No space left on device", "Cannot allocate memory", "Disk quota exceeded"}},
	{providers.ErrConflict, []string{"already exists with uuid", "is already defined with uuid", "already in use by pool"}},
	{providers.ErrUnavailable, []string{
		"client socket is closed", "has asynchronous jobs running", "cannot acquire state change lock",
	}},
}

// hasCode tells whether err is libvirt's error of a code.
func hasCode(err error, codes ...golibvirt.ErrorNumber) bool {
	var e golibvirt.Error
	return errors.As(err, &e) && slices.Contains(codes, golibvirt.ErrorNumber(e.Code))
}

// says tells whether err is libvirt's and its message contains one of the parts, for cases that share a code.
func says(err error, parts ...string) bool {
	var e golibvirt.Error
	return errors.As(err, &e) && slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(e.Message, part) })
}

// gone tells whether err says that a domain, volume, pool or network is not there.
func gone(err error) bool {
	return hasCode(err, golibvirt.ErrNoDomain, golibvirt.ErrNoNetwork, golibvirt.ErrNoStoragePool, golibvirt.ErrNoStorageVol)
}

// ignoreGone is err unless it says that what was to go is gone.
func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

// classified wraps the class of an error that has none.
func classified(err error) error {
	if err == nil || providers.Class(err) != "unknown" {
		return err
	}
	for _, m := range messages {
		if says(err, m.parts...) {
			return fmt.Errorf("%w: %w", err, m.class)
		}
	}
	for _, c := range classes {
		if hasCode(err, c.codes...) {
			return fmt.Errorf("%w: %w", err, c.class)
		}
	}
	if lost(err) {
		return fmt.Errorf("connection to libvirt lost: %w: %w", err, providers.ErrUnavailable)
	}
	return err
}

// lost tells whether a call has no answer because the connection ended. EINVAL is go-libvirt's word for a call on a
// connection that was closed.
func lost(err error) bool {
	var network net.Error
	return errors.Is(err, golibvirt.ErrInterrupted) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.EINVAL) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, syscall.ECONNRESET) || errors.As(err, &network)
}

// dialError classifies why there is no connection.
func dialError(ctx context.Context, at location, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("connecting to libvirt: %w", cause)
	}
	class, hint := providers.ErrUnavailable, ""
	switch {
	case providers.Class(err) != "unknown":
		return err
	case errors.Is(err, fs.ErrNotExist) && at.transport == overUnix:
		class, hint = providers.ErrNotFound, ": is libvirtd installed and running?"
	case errors.Is(err, fs.ErrNotExist):
		class = providers.ErrNotFound // a certificate
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, os.ErrPermission):
		class, hint = providers.ErrAuth, ": run as root or become a member of the group libvirt"
	case isTLSRefusal(err):
		class = providers.ErrAuth
	}
	return fmt.Errorf("cannot connect to libvirt%s: %w: %w", hint, err, class)
}
