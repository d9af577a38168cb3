package datasource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// NoCloud is a disk with the label cidata, in ISO 9660 or FAT
// (https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html).
type NoCloud struct{ Machine }

// Name implements Source.
func (NoCloud) Name() string { return "nocloud" }

// Fetch implements Source.
func (s NoCloud) Fetch(context.Context) (Data, error) {
	var data Data
	err := s.volume("cidata", func(read readFunc) (err error) {
		data, err = s.noCloud(read, noCloudOptions{})
		return err
	})
	return data, err
}

// Seed is a directory with NoCloud's files, or what a provider of local hosts leaves in the root directory.
type Seed struct{ Machine }

// Name implements Source.
func (Seed) Name() string { return "seed" }

// Fetch implements Source.
func (s Seed) Fetch(context.Context) (Data, error) {
	for _, dir := range []string{"var/lib/cloud/seed/nocloud", "var/lib/cloud/seed/nocloud-net"} {
		read := func(name string, limit int64) ([]byte, error) { return s.read(limit, dir, name) }
		data, err := s.noCloud(read, noCloudOptions{})
		if !errors.Is(err, ErrNotHere) {
			return data, err
		}
	}
	return s.local()
}

// local reads /user-data and /meta-data.json.
func (s Seed) local() (Data, error) {
	text, err := s.read(maxMetaData, "meta-data.json")
	if errors.Is(err, fs.ErrNotExist) {
		return Data{}, ErrNotHere
	}
	var meta struct {
		InstanceID    string     `json:"instance_id"`
		LocalHostname string     `json:"local_hostname"`
		LocalIPv4     netip.Addr `json:"local_ipv4"`
	}
	if err == nil {
		err = json.Unmarshal(text, &meta)
	}
	if err == nil && meta.InstanceID == "" {
		err = errors.New("it has no instance_id")
	}
	if err != nil {
		return Data{}, fmt.Errorf("cannot read /meta-data.json: %w", err)
	}
	userData, err := s.read(maxUserData, "user-data")
	if err != nil {
		return Data{}, err
	}
	data := Data{InstanceID: meta.InstanceID, Hostname: meta.LocalHostname, UserData: userData}
	data.Addresses.PrivateIPv4 = meta.LocalIPv4
	return data, nil
}

// NoCloudNet is ds=nocloud;s=URL on the kernel command line or as SMBIOS serial number: the URL is that of the directory
// of NoCloud's files. An absolute path is a directory of the machine.
type NoCloudNet struct{ Machine }

// Name implements Source.
func (NoCloudNet) Name() string { return "nocloud-net" }

// Fetch implements Source.
func (s NoCloudNet) Fetch(ctx context.Context) (Data, error) {
	line, _ := s.argument("ds")
	options, ok := parseNoCloud(line)
	if !ok || options.from == "" {
		serial, _ := strings.CutPrefix(s.dmi("product_serial"), "ds=")
		options, ok = parseNoCloud(serial)
	}
	switch {
	case !ok || options.from == "":
		return Data{}, ErrNotHere
	case strings.HasPrefix(options.from, "/"):
		return s.noCloud(func(name string, limit int64) ([]byte, error) { return s.read(limit, options.from, name) }, options)
	case !isURL(options.from):
		return Data{}, fmt.Errorf("the place of the NoCloud data is no http or https URL")
	}
	ctx, cancel := s.timeout(ctx)
	defer cancel()
	return s.noCloud(func(name string, limit int64) ([]byte, error) {
		data, err := get(ctx, s.client(), http.MethodGet, options.from+name, nil, limit)
		if errors.Is(err, errNotFound) {
			return nil, fs.ErrNotExist
		}
		return data, err
	}, options)
}

// noCloudOptions are those of ds=nocloud;key=value;...
type noCloudOptions struct{ from, hostname, instanceID string }

func parseNoCloud(s string) (o noCloudOptions, ok bool) {
	words := strings.Split(s, ";")
	if words[0] != "nocloud" && words[0] != "nocloud-net" {
		return o, false
	}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "s", "seedfrom":
			o.from = value
		case "h", "local-hostname":
			o.hostname = value
		case "i", "instance-id":
			o.instanceID = value
		}
	}
	return o, true
}

// readFunc reads a file of a source, fs.ErrNotExist when there is none.
type readFunc func(name string, limit int64) ([]byte, error)

// noCloud reads NoCloud's two files. One of them may be missing.
func (m Machine) noCloud(read readFunc, options noCloudOptions) (Data, error) {
	meta, metaErr := read("meta-data", maxMetaData)
	if metaErr != nil && !errors.Is(metaErr, fs.ErrNotExist) {
		return Data{}, metaErr
	}
	userData, err := read("user-data", maxUserData)
	if errors.Is(err, fs.ErrNotExist) {
		if metaErr != nil {
			return Data{}, ErrNotHere
		}
	} else if err != nil {
		return Data{}, err
	}
	data, err := parseMetaData(meta)
	if err != nil {
		return Data{}, err
	}
	data.UserData = userData
	if options.hostname != "" {
		data.Hostname = options.hostname
	}
	if options.instanceID != "" {
		data.InstanceID = options.instanceID
	}
	if data.InstanceID == "" {
		data.InstanceID, err = m.InstanceID()
	}
	return data, err
}

// metaData is the content of meta-data, in YAML or JSON.
type metaData struct {
	InstanceID    string    `yaml:"instance-id"`
	LocalHostname string    `yaml:"local-hostname"`
	Hostname      string    `yaml:"hostname"`
	LocalIPv4     string    `yaml:"local-ipv4"`
	PublicIPv4    string    `yaml:"public-ipv4"`
	PublicKeys    yaml.Node `yaml:"public-keys"`
	KeysData      string    `yaml:"public-keys-data"` // VMware's
}

func parseMetaData(text []byte) (Data, error) {
	var meta metaData
	if err := yaml.Unmarshal(text, &meta); err != nil {
		return Data{}, errors.New("the meta-data is not YAML of the form that is known") // the cause may quote it
	}
	data := Data{InstanceID: meta.InstanceID, Hostname: meta.LocalHostname}
	if data.Hostname == "" {
		data.Hostname = meta.Hostname
	}
	data.SSHKeys = append(keyLines(meta.KeysData), keysOf(&meta.PublicKeys, 0)...)
	data.Addresses.PrivateIPv4, data.Addresses.PublicIPv4 = ipv4(meta.LocalIPv4), ipv4(meta.PublicIPv4)
	return data, nil
}

// ipv4 is an IPv4 address, or none: then the interfaces are asked.
func ipv4(text string) netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is4() {
		return netip.Addr{}
	}
	return addr
}

// keysOf collects public keys from the forms that they are given in: one text, a list, or names with either.
func keysOf(node *yaml.Node, depth int) []string {
	const deepest = 4
	if depth > deepest {
		return nil
	}
	if node.Kind == yaml.ScalarNode {
		return keyLines(node.Value)
	}
	var keys []string
	for i, child := range node.Content {
		if node.Kind == yaml.SequenceNode || i%2 == 1 {
			keys = append(keys, keysOf(child, depth+1)...)
		}
	}
	return keys
}

// keyLines are the lines of a text that are not empty.
func keyLines(text string) []string {
	var keys []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			keys = append(keys, line)
		}
	}
	return keys
}

// valuesOf are the values of a map in the order of their keys.
func valuesOf(m map[string]string) []string {
	values := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[key])
	}
	return values
}
