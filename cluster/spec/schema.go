package spec

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/cloudconfig/strictyaml"
	"github.com/musterhq/muster/providers"
)

// Schema returns the JSON Schema (draft 2020-12) of the cluster file for the drivers of a registry, for editors.
func Schema(reg *providers.Registry) ([]byte, error) {
	root := reflected(clusterFile{})
	root.Version, root.Title = jsonschema.Version, "muster cluster file"
	cluster, _ := root.Properties.Get("cluster")
	cluster.Pattern = label.String()
	var configs, settings []*jsonschema.Schema
	for _, name := range reg.Names() {
		driver, err := reg.Lookup(name)
		if err != nil {
			return nil, err
		}
		configs = append(configs, configSchema(driver))
		settings = append(settings, made(driver.NewSettings))
	}
	root.Properties.Set("musterd", musterdSchema("How hosts get musterd, where their provider says nothing else. Without it they have it."))
	provider := object("driver", &jsonschema.Schema{Type: "string", Enum: anys(reg.Names()), Description: "Kind of the provider."})
	provider.AllOf = configs
	root.Properties.Set("providers", named("Providers by name, each with its driver.", provider))
	group := reflected(groupFile{})
	group.Properties.Set("settings", settingsSchema(settings))
	group.Properties.Set("names", &jsonschema.Schema{
		Type: "array", Items: &jsonschema.Schema{Type: "string", Pattern: label.String()}, UniqueItems: true,
		MinItems: new(uint64(1)), Description: description(group, "names"),
	})
	group.OneOf = []*jsonschema.Schema{{Required: []string{"provider"}}, {Required: []string{"spread"}}}
	group.Not = &jsonschema.Schema{Required: []string{"count", "names"}}
	root.Properties.Set("hosts", named("Groups of like hosts by name.", group))
	unit := reflected(unitFile{})
	unit.Properties.Set("instances", instancesSchema())
	root.Properties.Set("units", &jsonschema.Schema{Type: "array", Items: unit, Description: description(root, "units")})
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot write the schema: %w", err)
	}
	return append(out, '\n'), nil
}

// configSchema is what a provider must be when its driver is this one.
func configSchema(driver providers.Driver) *jsonschema.Schema {
	config := made(driver.NewConfig)
	config.Properties.Set("driver", &jsonschema.Schema{})
	if !driver.BringsMusterd {
		config.Properties.Set("musterd", musterdSchema("How hosts get musterd."))
	}
	return &jsonschema.Schema{If: object("driver", &jsonschema.Schema{Const: driver.Name}), Then: config}
}

// settingsSchema takes the settings of any driver, or those of several by provider: which driver a group's provider has
// is beyond JSON Schema.
func settingsSchema(drivers []*jsonschema.Schema) *jsonschema.Schema {
	byProvider := &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{AnyOf: drivers}}
	return &jsonschema.Schema{
		AnyOf:       append(slices.Clone(drivers), byProvider),
		Description: "Settings of the hosts, as their driver has them. With a spread also by name of the provider.",
	}
}

// musterdSchema takes one way to get musterd.
func musterdSchema(description string) *jsonschema.Schema {
	s := reflected(musterdFile{})
	s.Description, s.MinProperties, s.MaxProperties = description, new(uint64(1)), new(uint64(1))
	fetch, _ := s.Properties.Get("fetch")
	arch, _ := fetch.Items.Properties.Get("arch")
	arch.Enum = anys(cloudconfig.Architectures())
	sum, _ := fetch.Items.Properties.Get("sha256")
	sum.Pattern = "^[0-9a-f]{64}$"
	return s
}

func instancesSchema() *jsonschema.Schema {
	one := &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
		{Type: "string", Pattern: `^[0-9]+\.\.[0-9]+$|` + instance.String()}, {Type: "integer", Minimum: "0"},
	}}
	return &jsonschema.Schema{
		AnyOf:       []*jsonschema.Schema{one, {Type: "array", Items: one, MinItems: new(uint64(1))}},
		Description: "Instances of a template: a range such as 1..6, a name, or a list of them. One whose file says Replicas=N below [X-Muster] needs none.",
	}
}

// made reflects what a constructor of a driver makes, an object without keys for none.
func made(constructor func() any) *jsonschema.Schema {
	if constructor == nil {
		constructor = func() any { return struct{}{} }
	}
	return reflected(constructor())
}

// reflected is the schema of a struct with yaml tags, whole and without references. Only what is tagged `required` is.
func reflected(v any) *jsonschema.Schema {
	r := jsonschema.Reflector{
		Anonymous:                  true,
		DoNotReference:             true,
		ExpandedStruct:             true,
		RequiredFromJSONSchemaTags: true,
		FieldNameTag:               "yaml",
		Mapper:                     mapped,
	}
	s := r.Reflect(v)
	s.Version = ""
	return s
}

// mapped is the schema of types that are written in their own way.
func mapped(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
	case reflect.TypeFor[secret.Secret]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, reference("env"), reference("file")}}
	case reflect.TypeFor[yaml.Node]():
		return &jsonschema.Schema{}
	}
	switch p := reflect.PointerTo(t); {
	case p.Implements(reflect.TypeFor[strictyaml.Unmarshaler]()):
		return &jsonschema.Schema{} // it alone knows
	case p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return &jsonschema.Schema{Type: "string"}
	}
	return nil
}

// reference is a secret that stands elsewhere.
func reference(key string) *jsonschema.Schema {
	s := object(key, &jsonschema.Schema{Type: "string"})
	s.AdditionalProperties = jsonschema.FalseSchema
	return s
}

// named is an object whose keys are names and whose values are alike.
func named(description string, value *jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{
		Type: "object", PropertyNames: &jsonschema.Schema{Pattern: label.String()}, AdditionalProperties: value,
		MinProperties: new(uint64(1)), Description: description,
	}
}

// object is the schema of an object with one property, which it must have.
func object(property string, value *jsonschema.Schema) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties(), Required: []string{property}}
	s.Properties.Set(property, value)
	return s
}

func description(s *jsonschema.Schema, property string) string {
	p, _ := s.Properties.Get(property)
	return p.Description
}

func anys(names []string) []any {
	out := make([]any, len(names))
	for i, n := range names {
		out[i] = n
	}
	return out
}
