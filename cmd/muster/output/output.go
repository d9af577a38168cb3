// Package output writes what a verb found out: as a table for people, or as JSON or YAML for programs.
//
// JSON is the contract, with the json tags of the value; YAML is that JSON in another notation, in the same order.
// Tables may change from release to release. The package knows the look of words that are states, and nothing of what
// they mean.
package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Format is a notation. It is a flag value (pflag.Value).
type Format string

// The formats.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// Formats are all of them, for completion and messages.
var Formats = []string{string(Table), string(JSON), string(YAML)}

// String is the flag's text.
func (f *Format) String() string { return string(*f) }

// Type names the value in help texts.
func (f *Format) Type() string { return "format" }

// Set reads the flag's text.
func (f *Format) Set(text string) error {
	switch format := Format(text); format {
	case Table, JSON, YAML:
		*f = format
		return nil
	default:
		return fmt.Errorf("unknown format `%s`, choose table, json or yaml", text)
	}
}

// Write renders value as JSON or YAML, and calls table for a table.
func Write(w io.Writer, format Format, value any, table func(io.Writer) error) error {
	switch format {
	case JSON:
		return writeJSON(w, value)
	case YAML:
		return writeYAML(w, value)
	default:
		return table(w)
	}
}

func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("cannot write JSON: %w", err)
	}
	return nil
}

// writeYAML goes through JSON, which is YAML too, so that names, order and omitted fields are those of the JSON.
func writeYAML(w io.Writer, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot write YAML: %w", err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return fmt.Errorf("cannot write YAML: %w", err)
	}
	block(&document)
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document); err != nil {
		return fmt.Errorf("cannot write YAML: %w", err)
	}
	return encoder.Close()
}

// block turns JSON's braces and quotes into indented blocks and plain words. The encoder quotes again what YAML 1.2 needs;
// the words that are booleans to YAML 1.1 readers keep their quotes here.
func block(n *yaml.Node) {
	n.Style = 0
	switch strings.ToLower(n.Value) {
	case "y", "yes", "on", "n", "no", "off":
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, child := range n.Content {
		block(child)
	}
}
