package ab

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Versions from the oldest to the newest, as the Version Format Specification's examples have them.
var ordered = []string{
	"122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1", "123.a-1", "123.1-1", "123a-1", "124-1",
}

func TestCompareVersions(t *testing.T) {
	for i, a := range ordered {
		for j, b := range ordered {
			if got, want := compareVersions(a, b), min(1, max(-1, i-j)); got != want {
				t.Errorf("compareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
	for _, pair := range [][2]string{{"1.9", "1.10"}, {"2026.9.30", "2026.11.3"}, {"9", "10"}, {"1.0", "1.0-rc1"}, {"1.0-rc1", "1.0.1"}} {
		if compareVersions(pair[0], pair[1]) != -1 {
			t.Errorf("%s does not come before %s", pair[0], pair[1])
		}
	}
}

func TestCompareVersionsOrders(t *testing.T) {
	gen := rapid.StringMatching(`[0-9a-c.~^_-]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := gen.Draw(t, "a"), gen.Draw(t, "b"), gen.Draw(t, "c")
		if compareVersions(a, b) != -compareVersions(b, a) {
			t.Fatalf("%q and %q", a, b)
		}
		if compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0 && compareVersions(a, c) > 0 {
			t.Fatalf("%q, %q and %q", a, b, c)
		}
	})
}

func TestParseEntry(t *testing.T) {
	for name, want := range map[string]entry{
		"muster_2.efi":           {version: "2", left: -1},
		"muster_2+3.efi":         {version: "2", left: 3},
		"muster_2+3-0.efi":       {version: "2", left: 3},
		"muster_1.0-rc1+0-3.efi": {version: "1.0-rc1", left: 0, done: 3},
	} {
		want.name = name
		if got, ok := parseEntry(name); !ok || got != want {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	for _, name := range []string{
		"", "muster_.efi", "muster_2", "linux_2.efi", "muster_2+.efi", "muster_2+x.efi", "muster_2+1-.efi", "muster_2+-1-2.efi",
		".#sysupdatemuster_2+3-0.efi12", "muster_2+3-0.efi.part", "muster_" + "1234567890123456789012345678901.efi",
	} {
		if got, ok := parseEntry(name); ok {
			t.Errorf("%s is taken for %+v", name, got)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add("muster_2+3-0.efi")
	f.Fuzz(func(t *testing.T, name string) {
		e, ok := parseEntry(name)
		if !ok {
			return
		}
		e.name = fileName(e.version, e.left, e.done)
		if again, ok := parseEntry(e.name); !ok || again != e {
			t.Errorf("%q is %+v, and %q is %+v", name, e, e.name, again)
		}
	})
}

func TestBootOrder(t *testing.T) {
	for want, names := range map[string][]string{
		"muster_2+3-0.efi":  {"muster_1.efi", "muster_2+3-0.efi"},
		"muster_1.efi":      {"muster_1.efi", "muster_2+0-3.efi"},
		"muster_2+1-2.efi":  {"muster_2+1-2.efi", "muster_3+0-0.efi"},
		"muster_3+0-0.efi":  {"muster_2+0-3.efi", "muster_3+0-0.efi"},
		"muster_10+2-1.efi": {"muster_9.efi", "muster_10+2-1.efi"},
	} {
		var entries []entry
		for _, name := range names {
			e, _ := parseEntry(name)
			entries = append(entries, e)
		}
		bootOrder(entries)
		if diff := cmp.Diff(want, entries[0].name); diff != "" {
			t.Errorf("%v: -want +got\n%s", names, diff)
		}
	}
}
