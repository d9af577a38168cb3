package local

import "testing"

func TestParseStat(t *testing.T) {
	const line = "4242 (a b) c) S 17 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 10 11"
	p, ok := parseStat(line)
	if !ok || p.pid != 4242 || p.parent != 17 || p.session != 4242 || p.started != "987654" || p.zombie {
		t.Errorf("parseStat = %+v, %v", p, ok)
	}
	if p, ok := parseStat("7 (x) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5"); !ok || !p.zombie {
		t.Errorf("a zombie: %+v, %v", p, ok)
	}
	for _, bad := range []string{"", "7", "7 (x) S 1", "x (x) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5"} {
		if _, ok := parseStat(bad); ok {
			t.Errorf("parseStat(%q) succeeds", bad)
		}
	}
}
