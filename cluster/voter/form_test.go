package voter

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/roster"
)

// BenchmarkForm is three members from nothing to the first write that is acknowledged and linearizable: the baseline of
// the whole `muster up`.
func BenchmarkForm(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := newCluster(b, 3, 0)
		control := c.controlTLS(0)
		b.StartTimer()
		voters := c.form(b.Context())
		client := c.client(control)
		if _, err := client.Put(b.Context(), "/x", "y"); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = client.Close()
		closeAll(voters)
		b.StartTimer()
	}
}

// BenchmarkEnsureAuth gives a new cluster's hosts access, and then 97 hosts more.
func BenchmarkEnsureAuth(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := newCluster(b, 3, 0)
		voters := c.form(b.Context())
		control := c.control()
		many := slices.Clone(c.hosts)
		for i := range 97 {
			many = append(many, roster.Host{ID: fmt.Sprintf("%032x", 1000+i)})
		}
		began := time.Now()
		b.StartTimer()
		if err := control.EnsureAuth(b.Context(), c.hosts); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/3-hosts")
		began = time.Now()
		if err := control.EnsureAuth(b.Context(), many); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/97-more")
		_ = control.Close()
		closeAll(voters)
		b.StartTimer()
	}
}
