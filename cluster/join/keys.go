package join

import (
	"fmt"
	"path"
	"regexp"
	"slices"
)

// KeysPath is where a host has the settings of the keys that its programs share with others', if there are any, below its
// root directory: from user-data, or by its administrator's hand.
const KeysPath = "/etc/muster/keys.json"

// Keys is what a host is told of serving the keys beyond its own programs. The zero value is not at all.
type Keys struct {
	// Bridge is the network interface behind which containers reach the keys, at its address: to read, and to write what
	// Grants has.
	Bridge string `json:"bridge,omitempty"`
	// Grants are keys that containers may write, and all that is below them: /services. Sorted.
	Grants []string `json:"grants,omitempty"`
}

// bridgePattern has what Linux and everybody else takes for an interface (IFNAMSIZ of if.h).
var bridgePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)

// Validate says what is wrong.
func (k Keys) Validate() error {
	if k.Bridge == "" && len(k.Grants) > 0 {
		return fmt.Errorf("grants are for containers behind a bridge, and none is named")
	}
	if k.Bridge != "" && !bridgePattern.MatchString(k.Bridge) {
		return fmt.Errorf("`%s` is no name of a network interface", k.Bridge)
	}
	for _, key := range k.Grants {
		if path.Clean("/"+key) != key {
			return fmt.Errorf("`%s` is no key: write it like /services/web", key)
		}
	}
	return nil
}

// Equal tells whether both are the same.
func (k Keys) Equal(other Keys) bool {
	return k.Bridge == other.Bridge && slices.Equal(k.Grants, other.Grants)
}
