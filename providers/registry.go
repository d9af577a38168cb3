package providers

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// Driver describes a kind of provider. The cluster file configures a driver any number of times under different names.
type Driver struct {
	// Name is the value of `driver:` in the cluster file.
	Name string
	// Summary is one line for `muster providers`.
	Summary string
	// BringsMusterd says that the driver's hosts have musterd whatever the cluster file says of it: those on this machine
	// run its own. The key `musterd` of such a provider, if it has one, is the driver's.
	BringsMusterd bool
	// NewConfig returns a pointer to the configuration of one provider (credentials, region, directories) with its
	// defaults filled in. The struct has yaml tags and `jsonschema:"description=..."` tags; it may implement Validator.
	NewConfig func() any
	// NewSettings returns a pointer to the settings of one host (image, size, network) with defaults, in the same way.
	NewSettings func() any
	// Open makes a provider from what NewConfig returned. It makes no remote call. name is the provider's name in the
	// cluster file.
	Open func(name string, config any, env Environment) (Provider, error)
}

// Environment is what a driver may use of its surroundings.
type Environment struct {
	Log      *slog.Logger
	StateDir string           // muster's state directory for all clusters; a driver keeps files only below StateDir/providers/<name>
	Now      func() time.Time // the clock
	Dir      string           // directory of the cluster file, where relative paths in a configuration begin; "" is the working directory
	Musterd  string           // path of the musterd binary beside muster, for providers that start hosts on this machine
}

// Validator is implemented by a configuration or settings struct whose fields restrict each other. Problems name fields
// by their path ("root", "network.name"); the caller adds file and line.
type Validator interface {
	Validate() []Problem
}

// Problem is one thing wrong with a field. Hint says what to do and may be empty.
type Problem struct {
	Field   string
	Message string
	Hint    string
}

// Registry is the set of drivers that a binary knows. It is made by an explicit list, never by init functions.
type Registry struct {
	drivers map[string]Driver
}

// NewRegistry makes a registry of drivers. It panics when two have the same name, which is a mistake of the programmer.
func NewRegistry(drivers ...Driver) *Registry {
	r := &Registry{drivers: make(map[string]Driver, len(drivers))}
	for _, d := range drivers {
		if _, dup := r.drivers[d.Name]; dup {
			panic("providers: two drivers named " + d.Name)
		}
		r.drivers[d.Name] = d
	}
	return r
}

// Names returns the drivers' names, sorted.
func (r *Registry) Names() []string { return slices.Sorted(maps.Keys(r.drivers)) }

// Lookup finds a driver. The error lists what there is and guesses what was meant.
func (r *Registry) Lookup(name string) (Driver, error) {
	d, ok := r.drivers[name]
	if !ok {
		return Driver{}, fmt.Errorf("unknown driver `%s`, there are %v %s", name, r.Names(), finding.DidYouMean(name, r.Names()))
	}
	return d, nil
}
