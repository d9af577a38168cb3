package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process is one process of the cluster's hosts.
type process struct {
	pid      int
	instance string // MUSTER_INSTANCE
	unit     string // MUSTER_UNIT, "" for musterd itself
	command  string
}

// processes finds every process of the cluster's hosts by the marker in its environment.
func (c *cluster) processes() []process {
	var found []process
	instances := c.instances()
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		environ, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		p := process{instance: variable(environ, "MUSTER_INSTANCE"), unit: variable(environ, "MUSTER_UNIT")}
		if !instances[p.instance] {
			continue
		}
		p.pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(path)))
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		p.command = strings.TrimSpace(string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		if p.command == "" || p.pid == os.Getpid() {
			continue // a zombie, or ourselves
		}
		found = append(found, p)
	}
	return found
}

// hostDir is the root directory of one local host.
type hostDir struct {
	path     string
	instance string
	host     string
}

// hostDirs reads every host's meta-data.
func (c *cluster) hostDirs() []hostDir {
	var dirs []hostDir
	paths, _ := filepath.Glob(filepath.Join(c.state, "providers", "*", "*", "meta-data.json"))
	for _, path := range paths {
		var meta struct {
			Instance string `json:"instance_id"`
			Host     string `json:"local_hostname"`
		}
		data, err := os.ReadFile(path)
		if err != nil || json.Unmarshal(data, &meta) != nil {
			continue
		}
		dirs = append(dirs, hostDir{path: filepath.Dir(path), instance: meta.Instance, host: meta.Host})
	}
	return dirs
}

// instances remembers every instance ID that the cluster ever had.
func (c *cluster) instances() map[string]bool {
	for _, d := range c.hostDirs() {
		c.known[d.instance] = true
	}
	return c.known
}

// dirOf is the directory of one host.
func (c *cluster) dirOf(host string) hostDir {
	c.t.Helper()
	for _, d := range c.hostDirs() {
		if d.host == host {
			return d
		}
	}
	c.t.Fatalf("host %s has no directory", host)
	return hostDir{}
}

func variable(environ []byte, name string) string {
	for _, pair := range bytes.Split(environ, []byte{0}) {
		if value, ok := strings.CutPrefix(string(pair), name+"="); ok {
			return value
		}
	}
	return ""
}

// hostProcesses are the processes of one host; musterd alone when daemonOnly.
func (c *cluster) hostProcesses(host string, daemonOnly bool) []process {
	var own []process
	instance := c.dirOf(host).instance
	for _, p := range c.processes() {
		if p.instance == instance && (!daemonOnly || p.unit == "") {
			own = append(own, p)
		}
	}
	if len(own) == 0 {
		c.t.Fatalf("host %s has no process", host)
	}
	return own
}

// signal sends a signal to processes, which must exist.
func (c *cluster) signal(sig syscall.Signal, processes []process) {
	c.t.Helper()
	for _, p := range processes {
		if err := syscall.Kill(p.pid, sig); err != nil {
			c.t.Logf("cannot send %v to %d (%s): %v", sig, p.pid, p.command, err)
		}
	}
}
