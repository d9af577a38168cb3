package datasource

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Bounds on what sources reply.
const (
	maxUserData = 16 << 20
	maxMetaData = 1 << 20
)

// Machine is what sources look at. The zero Machine is the one that the program runs on.
type Machine struct {
	Root   string       // directory that /proc, /sys, /dev and /var are in; "" is "/"
	Client *http.Client // nil: without proxies
	// Timeout is how long a source that the machine names may take to answer, while the network comes up. 0 is 2 minutes.
	Timeout time.Duration
	// Command runs a program and returns what it prints. Nil is exec.
	Command func(ctx context.Context, name string, args ...string) ([]byte, error)
	// Mount mounts a file system for reading. Nil is mount(2), of root.
	Mount func(device, kind string) (dir string, unmount func() error, err error)
}

// timeout for sources that answer over the network.
const defaultTimeout = 2 * time.Minute

func (m Machine) path(elem ...string) string {
	root := m.Root
	if root == "" {
		root = "/"
	}
	return filepath.Join(append([]string{root}, elem...)...)
}

func (m Machine) timeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if m.Timeout > 0 {
		return context.WithTimeout(ctx, m.Timeout)
	}
	return context.WithTimeout(ctx, defaultTimeout)
}

// client is for servers beside the machine: no proxy is between, and what does not connect is tried again soon.
func (m Machine) client() *http.Client {
	if m.Client != nil {
		return m.Client
	}
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: 10 * time.Second,
			DisableKeepAlives:     true,
		},
	}
}

func (m Machine) command(ctx context.Context, name string, args ...string) ([]byte, error) {
	if m.Command != nil {
		return m.Command(ctx, name, args...)
	}
	return exec.CommandContext(ctx, name, args...).Output()
}

func (m Machine) mount(device, kind string) (string, func() error, error) {
	if m.Mount != nil {
		return m.Mount(device, kind)
	}
	return mount(m.path("run"), device, kind)
}

// read reads a file below the machine's root.
func (m Machine) read(limit int64, elem ...string) ([]byte, error) {
	return readFile(m.path(elem...), limit)
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, limit)
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("it has more than %d bytes", limit)
	}
	return data, err
}

// dmi is a field of the machine's SMBIOS table, "" when there is none.
func (m Machine) dmi(field string) string {
	data, _ := m.read(4096, "sys/class/dmi/id", field)
	return strings.TrimSpace(string(data))
}

// arguments are the words of the kernel command line. Quotes keep blanks together.
func (m Machine) arguments() []string {
	data, _ := m.read(64<<10, "proc/cmdline")
	return splitArguments(string(data))
}

func splitArguments(line string) []string {
	quoted := false
	words := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n')
	})
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], `"`, "")
	}
	return words
}

// argument is the value of the last NAME=value among the kernel's arguments.
func (m Machine) argument(name string) (string, bool) {
	words := m.arguments()
	for i := len(words) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(words[i], name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// InstanceID is an identity for machines whose data source gives none: the UUID of the firmware, else systemd's machine
// ID. It stays when the machine's disk is made anew.
func (m Machine) InstanceID() (string, error) {
	if id := strings.ToLower(m.dmi("product_uuid")); id != "" {
		return id, nil
	}
	data, err := m.read(4096, "etc/machine-id")
	if id := strings.TrimSpace(string(data)); err == nil && id != "" && id != "uninitialized" {
		return id, nil
	}
	return "", fmt.Errorf("the machine has no identity: neither its firmware nor /etc/machine-id gives one")
}
