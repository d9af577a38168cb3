package bootservice

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/musterhq/muster/providers/metal/dhcp"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// LoadersDirectory is where Debian's package ipxe has its files.
const LoadersDirectory = "/usr/lib/ipxe"

// candidates are the names of iPXE for each platform, best first. The build that drives the firmware's own network card
// comes first for BIOS, since the card's driver is known to work there.
var candidates = []struct {
	platform dhcp.Platform
	names    []string
}{
	{dhcp.Platform{Arch: netboot.AMD64, Firmware: netboot.BIOS}, []string{"undionly.kpxe"}},
	{dhcp.Platform{Arch: netboot.AMD64, Firmware: netboot.UEFI}, []string{"ipxe.efi", "snponly.efi"}},
	{dhcp.Platform{Arch: netboot.ARM64, Firmware: netboot.UEFI}, []string{"ipxe-arm64.efi", "snponly-arm64.efi"}},
}

// ReadLoaders reads the loaders that a directory has: names by platform, and contents by name. That one platform has none
// is no error, that none has any is.
func ReadLoaders(directory string) (map[dhcp.Platform]string, map[string][]byte, error) {
	names, contents := map[dhcp.Platform]string{}, map[string][]byte{}
	for _, candidate := range candidates {
		for _, name := range candidate.names {
			content, err := os.ReadFile(filepath.Join(directory, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return nil, nil, fmt.Errorf("cannot read iPXE: %w", err)
			}
			names[candidate.platform], contents[name] = name, content
			break
		}
	}
	if len(names) == 0 {
		return nil, nil, fmt.Errorf("cannot find iPXE in %s: install the package ipxe, or name the directory of its files", directory)
	}
	return names, contents, nil
}
