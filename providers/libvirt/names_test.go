package libvirt

import (
	"testing"

	"github.com/musterhq/muster/providers"
)

func TestEarlierGenerations(t *testing.T) {
	o := owner{cluster: "2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d", provider: "cloud"}
	id := providers.Identity{Cluster: o.cluster, Host: "web-1", Generation: 3}
	other := owner{cluster: o.cluster, provider: "other"}
	at := func(o owner, host string, generation int) string {
		return o.volumes(providers.Identity{Cluster: o.cluster, Host: host, Generation: generation}).seed
	}
	for volume, want := range map[string]int{
		at(o, "web-1", 1): 1, at(o, "web-1", 2): 2, at(o, "web-1", 3): 0, at(o, "web-1", 4): 0,
		at(o, "web-2", 1): 0, at(o, "web-1.2", 1): 0, at(other, "web-1", 1): 0,
		o.volumePrefix() + "web-1.1.of-somebody": 0, o.volumePrefix() + "web-1.01.seed.iso": 0, imageName("x"): 0,
	} {
		earlier, ok := o.earlier(volume, id)
		if ok != (want > 0) || ok && earlier != (providers.Identity{Cluster: o.cluster, Host: "web-1", Generation: want}) {
			t.Errorf("%s is of %+v (%v), want generation %d", volume, earlier, ok, want)
		}
	}
}
