package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/secret"
)

const canary = "canary-7f3a"

func TestSecretIsNeverPrinted(t *testing.T) {
	s := secret.New(canary)
	type open struct{ Token secret.Secret }
	type closed struct{ token secret.Secret }
	shown := map[string]string{
		"wrapped": fmt.Errorf("cannot sign with %w", errors.New(s.String())).Error(),
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T%v", "%p", "%c", "%!"} {
		values := []any{s, &s, open{s}, &open{s}, closed{s}, []secret.Secret{s}, map[string]secret.Secret{"a": s}}
		for i, value := range values {
			shown[fmt.Sprint(verb, i)] = fmt.Sprintf(verb, value)
		}
	}
	for name, encode := range map[string]func(any) ([]byte, error){"json": json.Marshal, "yaml": yaml.Marshal} {
		out, err := encode(open{s})
		if err != nil || !strings.Contains(string(out), secret.Mask) {
			t.Errorf("%s: %s, %v", name, out, err)
		}
		shown[name] = string(out)
	}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("x", "secret", s, "open", open{s}, "closed", closed{s}, "pointer", &open{s})
	}
	shown["slog"] = log.String()
	for how, text := range shown {
		if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("%s shows the secret: %s", how, text)
		}
	}
	if got := fmt.Sprintf("%q %d %#v", s, s, s); got != "*** *** ***" {
		t.Errorf("verbs print %s", got)
	}
}

func TestSecretValue(t *testing.T) {
	var none secret.Secret
	some, same, other := secret.New(canary), secret.New(canary), secret.New("x")
	if none.Reveal() != "" || !none.IsZero() || !secret.New("").IsZero() || none.String() != secret.Mask {
		t.Error("the zero secret is not zero")
	}
	if some.Reveal() != canary || some.IsZero() {
		t.Error("the value is lost")
	}
	if !some.Equal(same) || some.Equal(other) || some.Equal(none) || !none.Equal(secret.New("")) {
		t.Error("Equal does not compare values")
	}
}
