package version_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/version"
)

// Versions from the oldest to the newest; those in one row are equal.
var ordered = [][]string{
	{"next"},
	{"0", "v0.0.0", "00"},
	{"0.9"},
	{"1.0.0-alpha"},
	{"1.0.0-alpha.1", "1.0.0-alpha.01"},
	{"1.0.0-alpha.beta"},
	{"1.0.0-beta"},
	{"1.0.0-beta.2"},
	{"1.0.0-beta.11"},
	{"1.0.0-rc.1", "1.0-rc.1", "v1.0.0-rc.1+build.7"},
	{"1.0.0", "1", "1.0.0+build"},
	{"1.0.0.1"},
	{"1.9"},
	{"1.10"},
	{"2026.9.30"},
	{"2026.11.3", "2026.11.03"},
	{"99999999999999999999999.1"},
	{"100000000000000000000000"},
}

func TestCompare(t *testing.T) {
	for i, row := range ordered {
		for j, other := range ordered {
			for _, a := range row {
				for _, b := range other {
					want := min(1, max(-1, i-j))
					if got := version.Compare(a, b); got != want {
						t.Errorf("Compare(%q, %q) = %d, want %d", a, b, got, want)
					}
				}
			}
		}
	}
}

func TestValid(t *testing.T) {
	for s, want := range map[string]bool{
		"1": true, "v1.2.3": true, "2026.11.3": true, "1.0.0-rc.1+b": true,
		"": false, "dev": false, "1..2": false, "1.0-": false, "../1": false, "1.0/2": false, "1.0 ": false, "1.0-é": false,
	} {
		if got := version.Valid(s); got != want {
			t.Errorf("Valid(%q) = %v", s, got)
		}
	}
}

// Compare is a total preorder on whatever a server may send.
func TestCompareOrders(t *testing.T) {
	gen := rapid.StringMatching(`v?[0-9a-c.+-]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := gen.Draw(t, "a"), gen.Draw(t, "b"), gen.Draw(t, "c")
		if version.Compare(a, b) != -version.Compare(b, a) {
			t.Fatalf("%q and %q are not ordered the same from both sides", a, b)
		}
		if version.Compare(a, b) <= 0 && version.Compare(b, c) <= 0 && version.Compare(a, c) > 0 {
			t.Fatalf("%q <= %q <= %q, yet not %q <= %q", a, b, c, a, c)
		}
	})
}
