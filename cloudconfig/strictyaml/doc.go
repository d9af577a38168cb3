// Package strictyaml decodes YAML into typed Go structs and tells everything that is wrong with it at once, each with
// file, line, column and a hint: unknown keys, wrong types, duplicate keys, syntax, more than one document.
//
// Supported are structs with yaml tags (`yaml:"name"`, `yaml:"-"`, `yaml:",inline"`), pointers, slices, maps with keys
// of kind string, strings, booleans, numbers, time.Duration ("5s"), any, secret.Secret, types with
// encoding.TextUnmarshaler or Unmarshaler, and yaml.Node, which takes the node as it is for a later Decoder.Node. Values
// that the file does not mention keep what they had, so defaults are filled in before. Another type is a mistake of the
// programmer and panics. Anchors, aliases and merge keys (`<<`) work; what they may expand to is bounded.
//
// The package knows nothing of the meaning of values: ranges and references are for the caller, who finds their places
// with Locate.
package strictyaml
