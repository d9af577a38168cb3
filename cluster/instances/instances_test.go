package instances

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// genSet draws a set, and the same as a map.
func genSet(t *rapid.T, name string) (Set, map[int]bool) {
	want := map[int]bool{}
	var ranges []Range
	for range rapid.IntRange(0, 5).Draw(t, name) {
		first := rapid.IntRange(1, 40).Draw(t, "first")
		r := Range{first, first + rapid.IntRange(-1, 8).Draw(t, "more")}
		ranges = append(ranges, r)
		for n := r.First; n <= r.Last; n++ {
			want[n] = true
		}
	}
	return Of(ranges...), want
}

func check(t *rapid.T, what string, s Set, want map[int]bool) {
	if got := slices.Collect(s.All()); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
	if s.Len() != len(want) {
		t.Fatalf("%s has %d, want %d", what, s.Len(), len(want))
	}
	for i, r := range s {
		if r.Len() < 1 || i > 0 && r.First <= s[i-1].Last+1 {
			t.Fatalf("%s is %v, which is not in its shortest form", what, s)
		}
	}
	for n := range 60 {
		if s.Has(n) != want[n] {
			t.Fatalf("%s has %d: %v", what, n, s.Has(n))
		}
	}
	again, err := Parse(s.String())
	if err != nil || !again.Equal(s) {
		t.Fatalf("%s: %q is read as %v, %v", what, s.String(), again, err)
	}
}

func TestSetsAreSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, inA := genSet(t, "a")
		b, inB := genSet(t, "b")
		both, either, rest := map[int]bool{}, maps.Clone(inA), map[int]bool{}
		for n := range inB {
			either[n] = true
		}
		for n := range inA {
			if inB[n] {
				both[n] = true
			} else {
				rest[n] = true
			}
		}
		check(t, "a", a, inA)
		check(t, "the union", a.Union(b), either)
		check(t, "the difference", a.Minus(b), rest)
		check(t, "the intersection", a.Intersect(b), both)
	})
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"0", "-1", "1-", "-", ",", "1,", "2-1", "1-1", "1,2", "1-3,4", "3,1", "01", "+1", "1 ", "a", "1-2-3", "2000000000",
	} {
		if s, err := Parse(text); err == nil {
			t.Errorf("%q is read as %v", text, s)
		}
	}
}

func TestJSON(t *testing.T) {
	in := struct {
		I Set `json:"i,omitempty"`
	}{Of(Range{1, 200000}, Range{300001, 300001})}
	data, err := json.Marshal(in)
	if want := `{"i":"1-200000,300001"}`; err != nil || string(data) != want {
		t.Fatalf("%s, %v, want %s", data, err, want)
	}
	out := in
	if out.I = nil; json.Unmarshal(data, &out) != nil || !out.I.Equal(in.I) {
		t.Fatalf("%v, want %v", out, in)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]int{
		"web@1.service": 1, "web@200000.service": 200000, "web@0.service": 0, "web@07.service": 0, "web@a.service": 0,
		"web@.service": 0, "web.service": 0, "web@-1.service": 0, "web@+1.service": 0, "1.service": 0,
	} {
		template, n, ok := Split(name)
		if ok != (want > 0) || n != want && ok {
			t.Errorf("%s is instance %d of %q, %v", name, n, template, ok)
		}
		if ok && Name(template, n) != name {
			t.Errorf("%s becomes %s", name, Name(template, n))
		}
	}
}
