package agent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
)

// What a provider of hosts without a first boot of their own leaves in the host's root directory.
const (
	metaDataFile = "meta-data.json"
	userDataFile = "user-data"
)

// metaData is what such a provider says of the host.
type metaData struct {
	InstanceID    string       `json:"instance_id"`
	LocalHostname string       `json:"local_hostname"`
	LocalIPv4     string       `json:"local_ipv4"`
	Ports         roster.Ports `json:"ports"` // zero means standard
	BootID        string       `json:"boot_id"`
}

// host is what is known of this host before it has joined.
type host struct {
	join.Config
	root     string     // directory
	instance string     // the provider's ID of this host, the host ID where it gives none
	listen   netip.Addr // the zero Addr for all
	ports    roster.Ports
	bootID   string // another one after each boot
	quota    int64  // of the store's database, voter.Config.Quota
}

// boot finds out who this host is. Where there is no cloud-init it does its work first.
func boot(root string, log *slog.Logger) (host, error) {
	h := host{root: root, ports: roster.DefaultPorts(), bootID: kernelBootID("/proc/sys/kernel/random/boot_id")}
	meta, found, err := readMetaData(filepath.Join(root, metaDataFile))
	if err != nil {
		return host{}, err
	}
	if found {
		if h.listen, err = netip.ParseAddr(meta.LocalIPv4); err != nil {
			return host{}, fmt.Errorf("cannot use %s: local_ipv4: %w", metaDataFile, err)
		}
		h.ports, h.instance, h.bootID = meta.Ports.OrDefault(), meta.InstanceID, cmp.Or(meta.BootID, h.bootID)
		if err := firstBoot(root, meta.InstanceID, h.listen, log); err != nil {
			return host{}, err
		}
	}
	if h.Config, err = readConfig(filepath.Join(root, join.ConfigPath)); err != nil {
		return host{}, err
	}
	h.instance = cmp.Or(h.instance, h.HostID)
	return h, nil
}

func readMetaData(path string) (m metaData, found bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, fmt.Errorf("cannot read the instance's metadata: %w", err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, false, fmt.Errorf("cannot read the instance's metadata from %s: %w", path, err)
	}
	return m, true, nil
}

// firstBoot writes the files of the user-data, once for each instance. The host has one address.
func firstBoot(root, instanceID string, address netip.Addr, log *slog.Logger) error {
	data, err := os.ReadFile(filepath.Join(root, userDataFile))
	if err != nil {
		return fmt.Errorf("cannot read the user-data: %w", err)
	}
	doc, err := cloudconfig.Parse(userDataFile, data)
	if err == nil {
		doc, err = doc.ExpandAddresses(cloudconfig.Addresses{PrivateIPv4: address, PublicIPv4: address})
	}
	if err != nil {
		return fmt.Errorf("cannot use the user-data: %w", err)
	}
	result, err := cloudconfig.Apply(root, instanceID, doc)
	if err != nil {
		return err
	}
	if !result.Repeated {
		log.Info("applied the user-data", "files", len(result.Written), "ignored", result.Ignored)
	}
	return nil
}

// configVersion is the join.Config that this agent knows.
const configVersion = 1

func readConfig(path string) (join.Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return join.Config{}, fmt.Errorf("this host knows of no cluster: there is no %s; `muster up` makes hosts that have it", path)
	}
	if err != nil {
		return join.Config{}, fmt.Errorf("cannot read the host's configuration: %w", err)
	}
	var cfg join.Config
	if err := json.Unmarshal(data, &cfg); err != nil {
		return join.Config{}, fmt.Errorf("cannot read the host's configuration from %s: %w", path, err)
	}
	switch {
	case cfg.Version != configVersion:
		return join.Config{}, fmt.Errorf("cannot use %s: version %d, this musterd knows %d; update it", path, cfg.Version,
			configVersion)
	case !roster.ValidID(cfg.HostID), !roster.ValidName(cfg.Host), cfg.ClusterID == "", cfg.Lease() <= 0:
		return join.Config{}, fmt.Errorf("cannot use %s: host, host_id, cluster_id or lease_ms is missing or malformed", path)
	}
	return cfg, nil
}

// address is where the API listens.
func (h host) address() string {
	if !h.listen.IsValid() {
		return ":" + strconv.Itoa(h.ports.API)
	}
	return net.JoinHostPort(h.listen.String(), strconv.Itoa(h.ports.API))
}
