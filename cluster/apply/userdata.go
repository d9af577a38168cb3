package apply

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/spec"
)

// The runtimes that hosts have. Hosts that are given musterd ready to run share this machine with others, where systemd
// is not theirs.
const (
	runtimeSystemd = "systemd"
	runtimeProcess = "process"
)

// userData renders what a new host gets. endpoints are voters' API addresses; none make it wait to be dialled.
func (r *run) userData(a plan.Action, token string, endpoints []string) ([]byte, error) {
	hosts := r.deps.Spec.Hosts()
	i := slices.IndexFunc(hosts, func(h spec.Host) bool { return h.Name == a.Host })
	if i < 0 {
		return nil, fmt.Errorf("it is not in the cluster file")
	}
	musterd := r.deps.Musterd[a.Provider]
	config := join.Config{
		Version: 1, ClusterID: r.cluster(), ClusterName: r.dir.Cluster().Name,
		Host: a.Host, HostID: a.ID, Generation: a.Generation, Provider: a.Provider, Labels: a.Labels,
		CA: string(r.keys.Root.CertPEM()), Endpoints: endpoints, Token: token,
		LeaseMillis: r.deps.Spec.Lease.Milliseconds(), Runtime: runtimeProcess,
	}
	if len(musterd) > 0 {
		config.Runtime = runtimeSystemd
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, err
	}
	first := cloudconfig.FirstBoot{Hostname: a.Host, ConfigPath: join.ConfigPath, Config: append(text, '\n'), Musterd: musterd}
	return cloudconfig.UserData(first, hosts[i].CloudConfig)
}
