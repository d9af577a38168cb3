package voter

import (
	"testing"
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
