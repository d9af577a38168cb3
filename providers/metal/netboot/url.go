package netboot

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
)

// ScriptPath is where a boot service has its scripts.
const ScriptPath = "/script"

// ScriptURL returns where a machine fetches its script. base is the boot service's URL without a final slash.
func ScriptURL(base string, r Request) string {
	query := "?mac=" + r.MAC + "&arch=" + string(r.Arch) + "&firmware=" + string(r.Firmware)
	if r.UUID != "" {
		query += "&uuid=" + r.UUID
	}
	return base + ScriptPath + query
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// ParseQuery is the inverse of ScriptURL for what stands behind the question mark.
func ParseQuery(query url.Values) (Request, error) {
	r := Request{
		MAC: query.Get("mac"), UUID: query.Get("uuid"), Arch: Arch(query.Get("arch")), Firmware: Firmware(query.Get("firmware")),
	}
	mac, err := net.ParseMAC(r.MAC)
	switch {
	case err != nil || len(mac) != 6 || mac.String() != r.MAC:
		return Request{}, fmt.Errorf("cannot tell which machine asks: mac is %q, not six pairs of lower-case hexadecimal digits", r.MAC)
	case r.Arch != AMD64 && r.Arch != ARM64:
		return Request{}, fmt.Errorf("cannot boot architecture %q: amd64 and arm64 are known", r.Arch)
	case r.Firmware != BIOS && r.Firmware != UEFI:
		return Request{}, fmt.Errorf("cannot boot with firmware %q: bios and uefi are known", r.Firmware)
	case r.UUID != "" && !uuidForm.MatchString(r.UUID):
		return Request{}, errors.New("cannot read uuid: it is not of the form that SMBIOS tools print")
	}
	return r, nil
}
