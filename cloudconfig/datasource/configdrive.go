package datasource

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"

	"github.com/musterhq/muster/cloudconfig"
)

// ConfigDrive is a disk with the label config-2, as OpenStack gives it to its machines
// (https://docs.openstack.org/nova/latest/user/metadata.html).
type ConfigDrive struct{ Machine }

// Name implements Source.
func (ConfigDrive) Name() string { return "configdrive" }

// Fetch implements Source.
func (s ConfigDrive) Fetch(context.Context) (Data, error) {
	var data Data
	err := s.volume("config-2", func(read readFunc) (err error) {
		data, err = s.configDrive(read)
		return err
	})
	return data, err
}

func (m Machine) configDrive(read readFunc) (Data, error) {
	const dir = "openstack/latest/"
	optional := func(name string, limit int64) ([]byte, error) {
		text, err := read(dir+name, limit)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return text, err
	}
	meta, err := read(dir+"meta_data.json", maxMetaData)
	if err != nil {
		return Data{}, err
	}
	data, err := parseOpenStack(meta)
	if err != nil {
		return Data{}, err
	}
	network, err := optional("network_data.json", maxMetaData)
	if err != nil {
		return Data{}, err
	}
	if len(network) > 0 {
		if data.Addresses, err = parseNetworkData(network); err != nil {
			return Data{}, err
		}
	}
	if data.UserData, err = optional("user_data", maxUserData); err != nil {
		return Data{}, err
	}
	if data.InstanceID == "" {
		data.InstanceID, err = m.InstanceID()
	}
	return data, err
}

func parseOpenStack(text []byte) (Data, error) {
	var meta struct {
		UUID       string            `json:"uuid"`
		Hostname   string            `json:"hostname"`
		Name       string            `json:"name"`
		PublicKeys map[string]string `json:"public_keys"`
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		return Data{}, errors.New("meta_data.json is not JSON of the form that is known")
	}
	data := Data{InstanceID: meta.UUID, Hostname: meta.Hostname}
	if data.Hostname == "" {
		data.Hostname = meta.Name
	}
	for _, text := range valuesOf(meta.PublicKeys) {
		data.SSHKeys = append(data.SSHKeys, keyLines(text)...)
	}
	return data, nil
}

// parseNetworkData finds the machine's addresses among its networks. OnMetal's machines have them nowhere else.
func parseNetworkData(text []byte) (cloudconfig.Addresses, error) {
	var network struct {
		Networks []struct {
			IPAddress string `json:"ip_address"`
		} `json:"networks"`
	}
	if err := json.Unmarshal(text, &network); err != nil {
		return cloudconfig.Addresses{}, errors.New("network_data.json is not JSON of the form that is known")
	}
	var all []netip.Addr
	for _, n := range network.Networks {
		if prefix, err := netip.ParsePrefix(n.IPAddress); err == nil {
			all = append(all, prefix.Addr())
		} else if addr, err := netip.ParseAddr(n.IPAddress); err == nil {
			all = append(all, addr)
		}
	}
	return Classify(all), nil
}

// Classify takes the first address of each kind: private ones are those of RFC 1918 and RFC 4193, and the shared ones of
// RFC 6598; public ones all others that are of use beyond a link.
func Classify(all []netip.Addr) cloudconfig.Addresses {
	var found cloudconfig.Addresses
	shared := netip.MustParsePrefix("100.64.0.0/10")
	for _, addr := range all {
		addr = addr.Unmap().WithZone("")
		if !addr.IsGlobalUnicast() {
			continue
		}
		private := addr.IsPrivate() || shared.Contains(addr)
		slot := map[[2]bool]*netip.Addr{
			{true, true}: &found.PrivateIPv4, {true, false}: &found.PublicIPv4,
			{false, true}: &found.PrivateIPv6, {false, false}: &found.PublicIPv6,
		}[[2]bool{addr.Is4(), private}]
		if !slot.IsValid() {
			*slot = addr
		}
	}
	return found
}
