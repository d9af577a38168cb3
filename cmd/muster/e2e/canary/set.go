package canary

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// MinLength is the least number of bytes of a secret that is looked for: a shorter one would be found by accident.
const MinLength = 12

// awkward is what escapes make something else of: each of JSON's, XML's, YAML's and URLs' special bytes.
const awkward = "\"'<&>\\ +/%{$:#\té"

// Set is what is looked for: names and their secrets. It is made and filled by one goroutine; afterwards it may be used by
// several. It prints names alone.
type Set struct {
	secrets []named
	index   *index // of needles; nil after a change
}

// named is a secret and what it is called.
type named struct {
	name  string
	value []byte
}

// Plant makes a canary of letters and digits, which can stand in any field.
func (s *Set) Plant(name string) string {
	value := rand.Text()
	s.add(name, value)
	return value
}

// PlantAwkward makes a canary that every escape changes, for fields that take any text of one line.
func (s *Set) PlantAwkward(name string) string {
	value := rand.Text() + awkward + rand.Text()
	s.add(name, value)
	return value
}

// PlantDigits makes a canary that YAML takes for a number.
func (s *Set) PlantDigits(name string) string {
	var random [18]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	for i := range random {
		random[i] = '1' + random[i]%9
	}
	s.add(name, string(random[:]))
	return string(random[:])
}

// Add names a secret that was found. The same value under a second name is known by its first.
func (s *Set) Add(name, value string) error {
	if len(value) < MinLength {
		return fmt.Errorf("cannot look for %s: it has %d bytes, and fewer than %d are found by accident", name, len(value), MinLength)
	}
	s.add(name, value)
	return nil
}

// AddKey names a private key in PEM: PKCS #8, PKCS #1 or SEC 1. It is looked for by its secret number, which is the same in
// every one of its forms.
func (s *Set) AddKey(name string, keyPEM []byte) error {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return fmt.Errorf("cannot look for %s: it is not PEM", name)
	}
	secret, err := secretOf(block.Bytes)
	if err != nil {
		return fmt.Errorf("cannot look for %s: %w", name, err)
	}
	return s.Add(name, string(secret))
}

// secretOf is the part of a private key that is in none of its public parts. Errors do not quote the key.
func secretOf(der []byte) ([]byte, error) {
	var key any
	if parsed, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		key = parsed
	} else if parsed, err := x509.ParseECPrivateKey(der); err == nil {
		key = parsed
	} else if parsed, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		key = parsed
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return key.Bytes()
	case ed25519.PrivateKey:
		return key.Seed(), nil
	case *rsa.PrivateKey:
		return key.Primes[0].Bytes(), nil
	default:
		return nil, errors.New("it is no private key in PKCS #8, PKCS #1 or SEC 1")
	}
}

func (s *Set) add(name, value string) {
	if slices.ContainsFunc(s.secrets, func(n named) bool { return string(n.value) == value }) {
		return
	}
	s.secrets = append(s.secrets, named{name, []byte(value)})
	s.index = nil
}

// Names lists what is looked for.
func (s *Set) Names() []string {
	names := make([]string, len(s.secrets))
	for i, n := range s.secrets {
		names[i] = n.name
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// String says how many secrets are looked for.
func (s *Set) String() string { return fmt.Sprintf("%d secrets", len(s.secrets)) }

// GoString is String.
func (s *Set) GoString() string { return s.String() }
