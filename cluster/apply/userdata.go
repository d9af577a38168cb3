package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

// userData renders what a new host gets. endpoints are voters' API addresses; none make it wait to be dialled.
func (r *run) userData(a plan.Action, token string, endpoints []string) ([]byte, error) {
	host, err := hostNamed(r.deps.Spec, a.Host)
	if err != nil {
		return nil, err
	}
	doc, err := document(r.deps, host, join.Config{
		ClusterID: r.cluster(), ClusterName: r.dir.Cluster().Name,
		HostID: a.ID, Generation: a.Generation, Provider: a.Provider, Labels: a.Labels,
		CA: string(r.keys.Root.CertPEM()), Endpoints: endpoints, Token: token,
	})
	if err != nil {
		return nil, err
	}
	return doc.Render(), nil
}

func hostNamed(s spec.Spec, name string) (spec.Host, error) {
	hosts := s.Hosts()
	i := slices.IndexFunc(hosts, func(h spec.Host) bool { return h.Name == name })
	if i < 0 {
		return spec.Host{}, errors.New("it is not in the cluster file")
	}
	return hosts[i], nil
}

// document is what a host is told. config has what the host, the cluster file and the driver do not decide.
func document(deps Deps, host spec.Host, config join.Config) (cloudconfig.Document, error) {
	config.Version, config.Host, config.LeaseMillis = 1, host.Name, deps.Spec.Lease.Milliseconds()
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return cloudconfig.Document{}, err
	}
	more, err := settings(deps.Spec)
	if err != nil {
		return cloudconfig.Document{}, err
	}
	musterd := deps.Musterd[config.Provider]
	first := cloudconfig.FirstBoot{
		Hostname: host.Name, ConfigPath: join.ConfigPath, Config: append(text, '\n'), Files: more,
		Musterd: musterd.Downloads, Awaits: musterd.Pushed,
		// No address: it is the provider that gives one, when the host is made.
		Variables: cloudconfig.Variables{Cluster: config.ClusterName, Provider: config.Provider, Labels: config.Labels},
	}
	return first.Merge(host.CloudConfig)
}

// settings are the files that musterd reads beside its configuration: none, unless the cluster file asks for something.
func settings(s spec.Spec) ([]cloudconfig.File, error) {
	var files []cloudconfig.File
	for _, f := range []struct {
		path    string
		none    bool
		content any
	}{
		{join.FleetPath, s.Fleet == (join.Fleet{}), s.Fleet},
		{join.KeysPath, s.Keys.Equal(join.Keys{}), s.Keys},
	} {
		if f.none {
			continue
		}
		text, err := json.Marshal(f.content)
		if err != nil {
			return nil, err
		}
		files = append(files, cloudconfig.NewFile(f.path, append(text, '\n'), "0644"))
	}
	return files, nil
}

// madeByUp stands for what only a run of Up can know.
const madeByUp = "(made by muster up)"

// PreviewDocument is what a host of the cluster file would be told, if it were one of the first. Secrets, as Masked has them,
// and the token are masked, and what `up` makes is named so: the state directory is not needed.
func PreviewDocument(deps Deps, name string) (cloudconfig.Document, error) {
	host, err := hostNamed(deps.Spec, name)
	if err != nil {
		return cloudconfig.Document{}, fmt.Errorf("cannot render the user-data of host %s: %w", name, err)
	}
	host.CloudConfig = host.CloudConfig.Masked()
	return document(deps, host, join.Config{
		ClusterID: madeByUp, ClusterName: deps.Spec.Cluster, HostID: madeByUp, Generation: 1, Provider: host.Provider,
		Labels: host.Labels, CA: madeByUp, Token: secret.Mask,
	})
}

// checkUserData renders what the hosts to come will get, and asks whether their providers take it. Of each provider the
// first host that cannot be made is told.
func (r *run) checkUserData(p plan.Plan, endpoints []string) error {
	var errs []error
	told := make(map[string]bool)
	for _, a := range p.Of(plan.Create, plan.Replace) {
		if told[a.Provider] {
			continue
		}
		if err := r.checkFits(a, endpoints); err != nil {
			told[a.Provider] = true
			errs = append(errs, fmt.Errorf("cannot make host %s at provider %s: %w; nothing was changed", a.Host, a.Provider, err))
		}
	}
	return errors.Join(errs...)
}

func (r *run) checkFits(a plan.Action, endpoints []string) error {
	provider, err := r.provider(a.Provider)
	if err != nil {
		return err
	}
	ref := refOf(a)
	data := r.machine(ref).UserData
	if data == nil {
		if data, err = r.userData(a, r.token(ref), endpoints); err != nil {
			return err
		}
	}
	_, err = providers.UserDataLimit(provider).Fit(data)
	return err
}
