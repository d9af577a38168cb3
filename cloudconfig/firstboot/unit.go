package firstboot

import (
	_ "embed"
	"strings"
)

//go:embed muster-firstboot.service
var unitFile string

// UnitName is what an image calls the unit that does the first boot.
const UnitName = "muster-firstboot.service"

// UnitFile is the unit for images whose musterd is at a path. Where cloud-init is installed it does nothing.
func UnitFile(musterd string) string { return strings.ReplaceAll(unitFile, "@musterd@", musterd) }
