// Package secret holds values that must never be shown: API tokens, passwords, keys.
//
// A Secret prints `***` wherever it is printed, logged or encoded, whatever the verb and also inside an unexported
// field; only Reveal gives the value. The package does not know where a secret comes from: cloudconfig/strictyaml reads
// it from a file literally, or as {env: NAME} or {file: path}.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Mask is what is shown instead of a secret.
const Mask = "***"

// Secret is a value that must not be shown. The zero value is no secret.
type Secret struct {
	// A pointer, because fmt prints an unexported field of another struct without asking its methods, and follows no
	// pointer there.
	value *string
}

// New makes a secret.
func New(value string) Secret { return Secret{value: &value} }

// Reveal returns the value, "" for the zero Secret. It is meant for the last step, where a request is signed or sent.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports whether there is no secret, or an empty one.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// Equal compares two secrets in a time that depends on their lengths alone.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String returns the mask.
func (s Secret) String() string { return Mask }

// Format writes the mask, under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Mask) }

// LogValue logs the mask.
func (s Secret) LogValue() slog.Value { return slog.StringValue(Mask) }

// MarshalText encodes the mask, for JSON, YAML and every other text format.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Mask), nil }
