package vsphere

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/providers"
)

// maxGuestinfo is how long the value of a guestinfo variable may be: GUESTMSG_MAX_IN_SIZE of open-vm-tools
// (lib/include/guest_msg_def.h), less the words around the value in the answer to the guest.
const maxGuestinfo = 64<<10 - 64

var userDataLimit = cloudconfig.Limit{Bytes: maxGuestinfo, Base64: true, Gzip: true}

// UserDataLimit is what a guestinfo variable holds, in gzip and base64.
func (p *Provider) UserDataLimit() cloudconfig.Limit { return userDataLimit }

// gzipBase64 is the encoding of a variable
// (https://cloudinit.readthedocs.io/en/latest/reference/datasources/vmware.html).
const gzipBase64 = "gzip+base64"

// guestinfo are the variables by which a host learns who it is. The user-data is always in gzip: it is kept in the server's
// database and read with every configuration of the machine.
func guestinfo(id providers.Identity, s *Settings, userData []byte) ([]types.BaseOptionValue, error) {
	fitted, err := userDataLimit.Fit(userData)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, providers.ErrInvalid)
	}
	value, encoding := base64.StdEncoding.EncodeToString(cloudconfig.Gzip(userData)), gzipBase64
	if len(value) > maxGuestinfo {
		value, encoding = base64.StdEncoding.EncodeToString(fitted), "base64" // nothing that gzip makes smaller
	}
	meta, err := metaData(id, s)
	if err != nil {
		return nil, err
	}
	return options(
		"guestinfo.userdata", value, "guestinfo.userdata.encoding", encoding,
		"guestinfo.metadata", base64.StdEncoding.EncodeToString(cloudconfig.Gzip(meta)), "guestinfo.metadata.encoding", gzipBase64,
	), nil
}

// metaDocument is cloud-init's metadata for VMware, in JSON, which is YAML too.
type metaDocument struct {
	InstanceID    string          `json:"instance-id"`
	LocalHostname string          `json:"local-hostname"`
	Network       *networkVersion `json:"network,omitempty"`
}

// networkVersion is the configuration of the network, version 2
// (https://cloudinit.readthedocs.io/en/latest/reference/network-config-format-v2.html).
type networkVersion struct {
	Version   int                 `json:"version"`
	Ethernets map[string]ethernet `json:"ethernets"`
}

type ethernet struct {
	Match       map[string]string `json:"match"`
	Addresses   []netip.Prefix    `json:"addresses"`
	Routes      []route           `json:"routes,omitempty"`
	Nameservers *nameservers      `json:"nameservers,omitempty"`
}

type route struct {
	To  string     `json:"to"`
	Via netip.Addr `json:"via"`
}

type nameservers struct {
	Addresses []netip.Addr `json:"addresses"`
}

// metaData says who a host is, and where when it has an address of its own. The interface is matched by its name, since the
// server chooses its MAC address only when the machine is made.
func metaData(id providers.Identity, s *Settings) ([]byte, error) {
	doc := metaDocument{InstanceID: id.ID(), LocalHostname: id.Host}
	if s.Address.IsValid() {
		first := ethernet{Match: map[string]string{"name": "e*"}, Addresses: []netip.Prefix{s.Address}}
		if s.Gateway.IsValid() {
			to := "0.0.0.0/0"
			if s.Gateway.Is6() {
				to = "::/0"
			}
			first.Routes = []route{{To: to, Via: s.Gateway}}
		}
		if len(s.Nameservers) > 0 {
			first.Nameservers = &nameservers{Addresses: s.Nameservers}
		}
		doc.Network = &networkVersion{Version: 2, Ethernets: map[string]ethernet{"primary": first}}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("cannot write the metadata: %w", err)
	}
	return text, nil
}
