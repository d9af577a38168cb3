package cloudconfig

import (
	_ "embed"
)

// Template is a cloud-config to begin with: valid as it is, and explained.
//
//go:embed files/template.yaml
var Template string
