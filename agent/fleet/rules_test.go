package fleet

import (
	"testing"

	"github.com/musterhq/muster/cluster/store"
)

// TestSameRun compares files by what their hosts run.
func TestSameRun(t *testing.T) {
	const base = "[Container]\nImage=localhost/web\n"
	for _, tt := range []struct {
		name, other string
		want        bool
	}{
		{"comment", "# A web server.\n" + base, true},
		{"placement", base + "[X-Fleet]\nGlobal=true\n", true},
		{"image", "[Container]\nImage=localhost/other\n", false},
		{"engine", base + "[X-Muster]\nEngine=docker\n", false},
	} {
		r := NewRules()
		for _, text := range []string{base, tt.other} {
			sum := store.FileSum([]byte(text))
			r.keep(store.Item{Key: store.FileKey(sum), Value: []byte(text), ModRevision: 1}, map[string]string{sum: "web.service"})
		}
		if got := r.SameRun(store.FileSum([]byte(base)), store.FileSum([]byte(tt.other))); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
