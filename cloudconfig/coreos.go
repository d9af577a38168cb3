package cloudconfig

import (
	"maps"
	"path"
	"slices"
	"strings"
)

// What the options of coreos.update become.
const updateConf = "/etc/coreos/update.conf"

// optionsDropIn is the drop-in that holds a daemon's options, as coreos-cloudinit called it.
const optionsDropIn = "20-cloudinit.conf"

// daemon is one of the programs of 2014 with options of its own.
type daemon struct {
	key     string   // below coreos
	unit    string   // that gets the options
	prefix  string   // of the environment variables
	options Options  // as given
	known   []string // names of options
}

// daemons are the programs that a document gives options to, in the order of its keys. The names of their options are
// those of coreos-cloudinit's Documentation and of the flags of etcd 0.4, etcd 2, fleet 0.11, locksmith and flannel.
func (c CoreOS) daemons() []daemon {
	return []daemon{
		{"etcd", "etcd.service", "ETCD_", c.Etcd, etcdOptions},
		{"etcd2", "etcd2.service", "ETCD_", c.Etcd2, etcd2Options},
		{"fleet", "fleet.service", "FLEET_", c.Fleet, fleetOptions},
		{"locksmith", "locksmithd.service", "LOCKSMITHD_", c.Locksmith, locksmithOptions},
		{"flannel", "flanneld.service", "FLANNELD_", c.Flannel, flannelOptions},
	}
}

var (
	etcdOptions = strings.Fields(`addr bind_addr ca_file cert_file cluster_active_size cluster_remove_delay
		cluster_sync_interval cors cpu_profile_file data_dir discovery graphite_host http_read_timeout http_write_timeout
		key_file max_result_buffer max_retry_attempts name peer_addr peer_bind_addr peer_ca_file peer_cert_file
		peer_election_timeout peer_heartbeat_interval peer_key_file peers peers_file retry_interval snapshot snapshot_count
		trace verbose very_verbose very_very_verbose`)
	etcd2Options = strings.Fields(`advertise_client_urls ca_file cert_file client_cert_auth cors data_dir debug discovery
		discovery_fallback discovery_proxy discovery_srv election_timeout enable_pprof force_new_cluster heartbeat_interval
		initial_advertise_peer_urls initial_cluster initial_cluster_state initial_cluster_token key_file listen_client_urls
		listen_peer_urls log_package_levels max_snapshots max_wals name peer_ca_file peer_cert_file peer_client_cert_auth
		peer_key_file peer_trusted_ca_file proxy proxy_dial_timeout proxy_failure_wait proxy_read_timeout
		proxy_refresh_interval proxy_write_timeout snapshot_count strict_reconfig_check trusted_ca_file wal_dir`)
	fleetOptions = strings.Fields(`agent_ttl authorized_keys_file disable_engine disable_watches engine_reconcile_interval
		etcd_cafile etcd_certfile etcd_key_prefix etcd_keyfile etcd_password etcd_request_timeout etcd_servers etcd_username
		metadata public_ip token_limit verbosity`)
	locksmithOptions = strings.Fields(`endpoint etcd_cafile etcd_certfile etcd_keyfile etcd_password etcd_username group
		reboot_window_length reboot_window_start window_length window_start`)
	flannelOptions = strings.Fields(`etcd_cafile etcd_certfile etcd_endpoints etcd_keyfile etcd_password etcd_prefix
		etcd_username iface interface ip_masq listen public_ip remote remote_cafile remote_certfile remote_keyfile
		subnet_dir subnet_file`)
)

func (o Options) names() []string { return slices.Sorted(maps.Keys(o)) }

func (c CoreOS) clone() CoreOS {
	c.Etcd, c.Etcd2, c.Fleet = maps.Clone(c.Etcd), maps.Clone(c.Etcd2), maps.Clone(c.Fleet)
	c.Locksmith, c.Flannel = maps.Clone(c.Locksmith), maps.Clone(c.Flannel)
	c.Units = slices.Clone(c.Units)
	for i := range c.Units {
		c.Units[i].DropIns = slices.Clone(c.Units[i].DropIns)
	}
	return c
}

// Files are the files that the options of the daemons and of updates become: a drop-in for each daemon's unit and
// /etc/coreos/update.conf.
func (c CoreOS) Files() []File {
	var files []File
	if c.Update != (Update{}) {
		var b strings.Builder
		for _, line := range [][2]string{{"GROUP", c.Update.Group}, {"REBOOT_STRATEGY", c.Update.RebootStrategy}, {"SERVER", c.Update.Server}} {
			if line[1] != "" {
				b.WriteString(line[0] + "=" + line[1] + "\n")
			}
		}
		files = append(files, File{Path: updateConf, Permissions: "0644", Content: b.String()})
	}
	for _, d := range c.daemons() {
		if len(d.options) > 0 {
			files = append(files, d.file())
		}
	}
	return files
}

// file is the drop-in of a daemon's options. Passwords make it readable by root alone.
func (d daemon) file() File {
	f := File{Path: "/etc/systemd/system/" + d.unit + ".d/" + optionsDropIn, Permissions: "0644"}
	var b strings.Builder
	b.WriteString("[Service]\n")
	for _, name := range d.options.names() {
		if isPassword(name) {
			f.Permissions = "0600"
		}
		b.WriteString("Environment=\"" + d.prefix + strings.ToUpper(name) + "=" + escapeUnit.Replace(d.options[name]) + "\"\n")
	}
	f.Content = b.String()
	return f
}

// escapeUnit writes a text inside of double quotes of a unit file (systemd.syntax(7)).
var escapeUnit = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, "\n", `\n`)

// Dir is the directory that the unit's file belongs in: networkd's for its own kinds, else systemd's.
func (u Unit) Dir() string {
	base := "/etc"
	if u.Runtime {
		base = "/run"
	}
	if u.Network() {
		return base + "/systemd/network"
	}
	return base + "/systemd/system"
}

// Path is where the unit's file belongs.
func (u Unit) Path() string { return u.Dir() + "/" + u.Name }

// Network reports whether the unit is for systemd-networkd, which is neither enabled nor started.
func (u Unit) Network() bool {
	switch path.Ext(u.Name) {
	case ".network", ".netdev", ".link":
		return true
	}
	return false
}

// Files are the unit's file, if the document has its content, and its drop-ins.
func (u Unit) Files() []File {
	var files []File
	if u.Content != "" {
		files = append(files, File{Path: u.Path(), Permissions: "0644", Content: u.Content})
	}
	for _, d := range u.DropIns {
		files = append(files, File{Path: u.Path() + ".d/" + d.Name, Permissions: "0644", Content: d.Content})
	}
	return files
}

// mergeOptions lays the options of over above those of base.
func mergeOptions(base, over Options) Options {
	if len(over) == 0 {
		return base
	}
	merged := Options{}
	maps.Copy(merged, base)
	maps.Copy(merged, over)
	return merged
}
