package ipmi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
)

func TestClassify(t *testing.T) {
	c := Controller{Host: "bmc1", User: "admin", Password: secret.New("hunter2")}
	response := func(code types.CompletionCode) error {
		return fmt.Errorf("x: %w", types.NewResponseError(code, "y"))
	}
	for _, tt := range []struct {
		err, want error
	}{
		{fmt.Errorf("all suites: %v", client.ErrRAKPAuthentication), providers.ErrAuth},
		{fmt.Errorf("all suites: %v", types.NewRmcpStatusError(types.RmcpStatusCodeUnauthorizedName)), providers.ErrAuth},
		{response(types.CodeInsufficientPrivilege), providers.ErrAuth},
		{response(types.CodeNodeBusy), providers.ErrUnavailable},
		{response(types.CodeInvalidCommand), providers.ErrInvalid},
		{errors.New("timeout"), providers.ErrUnavailable},
	} {
		got := c.classify(t.Context(), tt.err)
		if !errors.Is(got, tt.want) || !strings.Contains(got.Error(), "bmc1") || strings.Contains(got.Error(), "hunter2") {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := c.classify(ctx, errors.New("x")); !errors.Is(got, context.Canceled) {
		t.Error(got)
	}
	if got := c.classify(t.Context(), nil); got != nil {
		t.Error(got)
	}
}

func TestUserNameTooLong(t *testing.T) {
	c := Controller{Host: "127.0.0.1", User: strings.Repeat("a", 17)}
	if err := c.PowerOn(t.Context()); !errors.Is(err, providers.ErrInvalid) {
		t.Error(err)
	}
}
