package agent

import (
	"bufio"
	"net"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"

	"github.com/musterhq/muster/cluster/roster"
)

// facts is what this host says of itself. What cannot be found out is left empty.
func (h host) facts(version string) roster.Facts {
	f := roster.Facts{
		Hostname: h.Host, OS: goruntime.GOOS, Architecture: goruntime.GOARCH, CPUs: goruntime.NumCPU(),
		MemoryBytes: memory("/proc/meminfo"), BootID: h.bootID, Version: version, Ports: h.ports,
	}
	if h.listen.IsValid() {
		f.Addresses = []string{h.listen.String()}
		return f
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			f.Addresses = append(f.Addresses, ip.IP.String())
		}
	}
	return f
}

// kernelBootID is another one after each boot of the kernel (random(4)).
func kernelBootID(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// memory is MemTotal of proc_meminfo(5), in bytes.
func memory(path string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return 0
		}
		return kib << 10
	}
	return 0
}
