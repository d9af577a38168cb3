package membership

import "testing"

func TestNextUpkeep(t *testing.T) {
	const mb = 1 << 20
	db := func(member uint64, size, used int64, marks string) Database {
		d := Database{Member: member, Healthy: true, Size: size * mb, Used: used * mb, Quota: 1000 * mb}
		for _, m := range marks {
			switch m {
			case '*':
				d.Leader = true
			case '?':
				d.Healthy = false
			case '!':
				d.Full = true
			case '#':
				d.Defragmented = true
			}
		}
		return d
	}
	for _, c := range []struct {
		name      string
		all       []Database
		compacted bool
		kind      UpkeepKind
		member    uint64
	}{
		{"all is well", []Database{db(1, 100, 90, "*"), db(2, 100, 90, "")}, false, UpkeepNone, 0},
		{"little is free", []Database{db(1, 60, 1, "*"), db(2, 60, 1, "")}, false, UpkeepNone, 0},
		{"less than half is free", []Database{db(1, 500, 300, "*"), db(2, 500, 300, "")}, false, UpkeepNone, 0},
		{"much is free", []Database{db(1, 500, 100, "*"), db(2, 500, 100, ""), db(3, 500, 100, "")}, false, Defragment, 2},
		{"then the next", []Database{db(1, 500, 100, "*"), db(2, 100, 100, ""), db(3, 500, 100, "")}, false, Defragment, 3},
		{"the leader last", []Database{db(1, 500, 100, "*"), db(2, 100, 100, ""), db(3, 100, 100, "")}, false, Defragment, 1},
		{"not while one is away", []Database{db(1, 500, 100, "*"), db(2, 500, 100, ""), db(3, 0, 0, "?")}, false, UpkeepNone, 0},
		{"full", []Database{db(1, 1000, 990, "*!"), db(2, 1000, 990, "!")}, false, Compact, 0},
		{"full, and compacted", []Database{db(1, 1000, 200, "*!"), db(2, 1000, 200, "!")}, true, Defragment, 2},
		{"full, by a little", []Database{db(1, 1000, 800, "*!"), db(2, 1000, 800, "!")}, true, Defragment, 2},
		{"full, and defragmented", []Database{db(1, 200, 200, "*!"), db(2, 200, 200, "!")}, true, Disarm, 0},
		{"full, and one is away", []Database{db(1, 1000, 200, "*!"), db(2, 1000, 200, "!"), db(3, 0, 0, "?")}, true, Defragment, 2},
		{"full, one away, and defragmented", []Database{db(1, 200, 200, "*!"), db(2, 200, 200, "!"), db(3, 0, 0, "?")}, true, Disarm, 0},
		{"full, and nothing written since", []Database{db(1, 1000, 990, "*!"), db(2, 1000, 990, "!")}, true, Defragment, 2},
		{"full, and written since", []Database{db(1, 1000, 200, "*!#"), db(2, 1000, 200, "!#")}, true, Defragment, 2},
		{"full, the leader last", []Database{db(1, 1000, 990, "*!"), db(2, 990, 990, "!#")}, true, Defragment, 1},
		{"full of what is needed", []Database{db(1, 1000, 990, "*!#"), db(2, 1000, 990, "!#")}, true, UpkeepNone, 0},
	} {
		got := NextUpkeep(c.all, c.compacted)
		if got.Kind != c.kind || got.Member != c.member {
			t.Errorf("%s: %+v, want %d of %d", c.name, got, c.kind, c.member)
		}
		if (got.Kind != UpkeepNone || c.name == "full of what is needed") && got.Reason == "" {
			t.Errorf("%s: no reason", c.name)
		}
	}
}
