package providertest_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
	"github.com/musterhq/muster/providers/providertest"
)

// mutant is a provider with one mistake. Methods that it lacks are the fake's.
type mutant struct {
	*fake.Provider
	create  func(context.Context, *fake.Provider, providers.CreateRequest) (providers.Instance, error)
	list    func(context.Context, *fake.Provider, string) ([]providers.Instance, error)
	destroy func(context.Context, *fake.Provider, providers.Instance) error
	cleanup func(context.Context, *fake.Provider, string) error
	start   func(context.Context, *fake.Provider, providers.Instance) error
	stop    func(context.Context, *fake.Provider, providers.Instance) error
	upload  func(context.Context, *fake.Provider, providers.Image, func(int64)) (string, error)
}

func (m mutant) Create(ctx context.Context, req providers.CreateRequest) (providers.Instance, error) {
	if m.create == nil {
		return m.Provider.Create(ctx, req)
	}
	return m.create(ctx, m.Provider, req)
}

func (m mutant) List(ctx context.Context, cluster string) ([]providers.Instance, error) {
	if m.list == nil {
		return m.Provider.List(ctx, cluster)
	}
	return m.list(ctx, m.Provider, cluster)
}

func (m mutant) Destroy(ctx context.Context, instance providers.Instance) error {
	if m.destroy == nil {
		return m.Provider.Destroy(ctx, instance)
	}
	return m.destroy(ctx, m.Provider, instance)
}

func (m mutant) Cleanup(ctx context.Context, cluster string) error {
	if m.cleanup == nil {
		return m.Provider.Cleanup(ctx, cluster)
	}
	return m.cleanup(ctx, m.Provider, cluster)
}

func (m mutant) Start(ctx context.Context, instance providers.Instance) error {
	if m.start == nil {
		return m.Provider.Start(ctx, instance)
	}
	return m.start(ctx, m.Provider, instance)
}

func (m mutant) Stop(ctx context.Context, instance providers.Instance) error {
	if m.stop == nil {
		return m.Provider.Stop(ctx, instance)
	}
	return m.stop(ctx, m.Provider, instance)
}

// mutants are mistakes that drivers make, and "sound", which makes none.
var mutants = map[string]mutant{
	"sound": {},
	"create makes a new one every time": {create: func(ctx context.Context, p *fake.Provider, req providers.CreateRequest) (providers.Instance, error) {
		if err := req.Validate(); err != nil {
			return providers.Instance{}, err
		}
		id, err := p.Plant(ctx, "new", req.Tags())
		return providers.Instance{Identity: req.Identity, ID: id, State: providers.StateRunning}, err
	}},
	"create ignores the generation": {create: func(ctx context.Context, p *fake.Provider, req providers.CreateRequest) (providers.Instance, error) {
		req.Generation = min(req.Generation, 1)
		return p.Create(ctx, req)
	}},
	"create ignores the context": {create: func(ctx context.Context, p *fake.Provider, req providers.CreateRequest) (providers.Instance, error) {
		return p.Create(context.WithoutCancel(ctx), req)
	}},
	"create starts a stopped host": {create: func(ctx context.Context, p *fake.Provider, req providers.CreateRequest) (providers.Instance, error) {
		made, err := p.Create(ctx, req)
		if err == nil && made.State == providers.StateStopped {
			err = p.Start(ctx, made)
			made.State = providers.StateRunning
		}
		return made, err
	}},
	"list knows no cluster": {list: func(ctx context.Context, p *fake.Provider, _ string) ([]providers.Instance, error) {
		servers, err := p.Servers(ctx)
		var all []providers.Instance
		for cluster := range maps.Keys(clusters(servers)) {
			list, listErr := p.List(ctx, cluster)
			all, err = append(all, list...), cmp.Or(err, listErr)
		}
		return all, err
	}},
	"list sorts generations as text": {list: func(ctx context.Context, p *fake.Provider, cluster string) ([]providers.Instance, error) {
		list, err := p.List(ctx, cluster)
		slices.SortFunc(list, func(a, b providers.Instance) int {
			return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Tags()[providers.TagGeneration], b.Tags()[providers.TagGeneration]))
		})
		return list, err
	}},
	"list hides stopped hosts": {list: func(ctx context.Context, p *fake.Provider, cluster string) ([]providers.Instance, error) {
		list, err := p.List(ctx, cluster)
		return slices.DeleteFunc(list, func(i providers.Instance) bool { return i.State == providers.StateStopped }), err
	}},
	"list tells no address": {list: func(ctx context.Context, p *fake.Provider, cluster string) ([]providers.Instance, error) {
		list, err := p.List(ctx, cluster)
		for i := range list {
			list[i].Addresses = nil
		}
		return list, err
	}},
	"list believes half of the tags": {list: func(ctx context.Context, p *fake.Provider, cluster string) ([]providers.Instance, error) {
		list, err := p.List(ctx, cluster)
		servers, serversErr := p.Servers(ctx)
		for _, s := range servers {
			if s.Tags[providers.TagCluster] == cluster && s.Tags[providers.TagGeneration] == "" {
				list = append(list, providers.Instance{ID: s.ID, Identity: providers.Identity{Cluster: cluster}})
			}
		}
		return list, cmp.Or(err, serversErr)
	}},
	"destroy of what is gone fails": {destroy: func(ctx context.Context, p *fake.Provider, instance providers.Instance) error {
		servers, err := p.Servers(ctx)
		if err == nil && !slices.ContainsFunc(servers, func(s fake.Server) bool { return s.ID == instance.ID }) {
			return providers.ErrNotFound
		}
		return cmp.Or(err, p.Destroy(ctx, instance))
	}},
	"destroy ends every generation": {destroy: func(ctx context.Context, p *fake.Provider, instance providers.Instance) error {
		list, err := p.List(ctx, instance.Cluster)
		for _, each := range list {
			if each.Host == instance.Host {
				err = cmp.Or(err, p.Destroy(ctx, each))
			}
		}
		return err
	}},
	"destroy does nothing":  {destroy: func(ctx context.Context, _ *fake.Provider, _ providers.Instance) error { return context.Cause(ctx) }},
	"clean-up does nothing": {cleanup: func(ctx context.Context, _ *fake.Provider, _ string) error { return context.Cause(ctx) }},
	"clean-up ends everything": {cleanup: func(ctx context.Context, p *fake.Provider, _ string) error {
		servers, err := p.Servers(ctx)
		for _, s := range servers {
			err = cmp.Or(err, p.Destroy(ctx, providers.Instance{ID: s.ID}))
		}
		return err
	}},
	"upload sends again": {upload: func(ctx context.Context, p *fake.Provider, image providers.Image, progress func(int64)) (string, error) {
		reference, err := p.UploadImage(ctx, image, nil)
		if err == nil && progress != nil {
			progress(1 << 20)
		}
		return reference, err
	}},
	"upload believes any sum": {upload: func(ctx context.Context, p *fake.Provider, image providers.Image, progress func(int64)) (string, error) {
		reference, err := p.UploadImage(ctx, image, progress)
		if errors.Is(err, providers.ErrInvalid) && image.Validate() == nil {
			return "img-0", nil
		}
		return reference, err
	}},
	"upload takes the name for the image": {upload: func(ctx context.Context, p *fake.Provider, image providers.Image, progress func(int64)) (string, error) {
		_, err := p.UploadImage(ctx, image, progress)
		return "img-" + image.Name, err
	}},
	"stop does nothing": {stop: func(ctx context.Context, _ *fake.Provider, _ providers.Instance) error { return context.Cause(ctx) }},
	"stop ends the host": {stop: func(ctx context.Context, p *fake.Provider, instance providers.Instance) error {
		return p.Destroy(ctx, instance)
	}},
	"stop stops every host": {stop: func(ctx context.Context, p *fake.Provider, instance providers.Instance) error {
		list, err := p.List(ctx, instance.Cluster)
		for _, each := range list {
			err = cmp.Or(err, p.Stop(ctx, each))
		}
		return cmp.Or(err, p.Stop(ctx, instance))
	}},
	"stop asks for no tags": {stop: func(ctx context.Context, p *fake.Provider, instance providers.Instance) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		return p.SetState(ctx, instance.ID, providers.StateStopped)
	}},
	"stop of what is stopped fails": {stop: func(ctx context.Context, p *fake.Provider, instance providers.Instance) error {
		list, err := p.List(ctx, instance.Cluster)
		for _, each := range list {
			if each.ID == instance.ID && each.State == providers.StateStopped {
				return providers.ErrConflict
			}
		}
		return cmp.Or(err, p.Stop(ctx, instance))
	}},
	"stop of what is gone succeeds": {stop: func(ctx context.Context, p *fake.Provider, instance providers.Instance) error {
		if err := p.Stop(ctx, instance); !errors.Is(err, providers.ErrNotFound) {
			return err
		}
		return nil
	}},
	"start does nothing": {start: func(context.Context, *fake.Provider, providers.Instance) error { return nil }},
}

func (m mutant) UploadImage(ctx context.Context, image providers.Image, progress func(int64)) (string, error) {
	if m.upload == nil {
		return m.Provider.UploadImage(ctx, image, progress)
	}
	return m.upload(ctx, m.Provider, image, progress)
}

func clusters(servers []fake.Server) map[string]bool {
	found := map[string]bool{}
	for _, s := range servers {
		if id, ok := providers.IdentityFromTags(s.Tags); ok {
			found[id.Cluster] = true
		}
	}
	return found
}

// mutantVariable names the mutant that TestMutant runs the suite on, in a process of its own.
const mutantVariable = "PROVIDERTEST_MUTANT"

// TestSuiteCatches shows that the suite passes a sound provider and fails every mutant.
func TestSuiteCatches(t *testing.T) {
	for name := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			binary, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), binary, "-test.run", "^TestMutant$")
			cmd.Env = append(os.Environ(), mutantVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if passed := err == nil; passed != (name == "sound") {
				t.Errorf("suite passes: %v\n%s", passed, out)
			}
			if strings.Contains(string(out), "panic:") {
				t.Errorf("the suite panics:\n%s", out)
			}
		})
	}
}

// TestMutant is the suite on one mutant. Without one it has nothing to do.
func TestMutant(t *testing.T) {
	m, ok := mutants[os.Getenv(mutantVariable)]
	if !ok {
		return
	}
	providertest.Run(t, func(*testing.T) providertest.Fixture {
		m := m
		m.Provider = fake.New(fake.Config{ClientTokens: true, Faults: fake.Faults{TwoStepTags: true}}, providers.Environment{})
		return providertest.Fixture{
			Provider: m,
			Patience: 200 * time.Millisecond, // what has not come then does not come
			Stop: func(ctx context.Context, i providers.Instance) error {
				return m.SetState(ctx, i.ID, providers.StateStopped)
			},
			Plant:     func(t *testing.T, tags map[string]string) func() bool { return plant(t, m.Provider, tags) },
			Crash:     func(t *testing.T, req providers.CreateRequest) { crash(t, m.Provider, req) },
			Leftovers: func(t *testing.T, cluster string) []string { return leftovers(t, m.Provider, cluster) },
		}
	})
}

func plant(t *testing.T, p *fake.Provider, tags map[string]string) func() bool {
	t.Helper()
	id, err := p.Plant(t.Context(), "theirs", tags)
	if err != nil {
		t.Fatal(err)
	}
	return func() bool {
		servers, err := p.Servers(t.Context())
		return err == nil && slices.ContainsFunc(servers, func(s fake.Server) bool { return s.ID == id && maps.Equal(s.Tags, tags) })
	}
}

func crash(t *testing.T, p *fake.Provider, req providers.CreateRequest) {
	t.Helper()
	crashing := p.WithInterrupt(func(string) error { return os.ErrProcessDone })
	if _, err := crashing.Create(t.Context(), req); err == nil {
		t.Fatal("the create did not crash")
	}
}

func leftovers(t *testing.T, p *fake.Provider, cluster string) []string {
	t.Helper()
	servers, err := p.Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, s := range servers {
		if strings.Contains(s.Name, cluster) || s.Tags[providers.TagCluster] == cluster {
			left = append(left, s.ID)
		}
	}
	return left
}
