package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// trim gives back the memory that only the start needed: the heap's, and the pages of files that are mapped for reading,
// above all of the binary, of which the start touches nearly everything and an idle agent a third. What is needed again
// the kernel maps again from its cache.
func trim(log *slog.Logger) {
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		log.Debug("cannot see what is mapped", "err", err)
		return
	}
	defer func() { _ = f.Close() }()
	for _, m := range pristine(f) {
		// By number, since these are the kernel's addresses and not Go's: nothing that the collector knows is there.
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED)
		if errno != 0 {
			log.Debug("cannot give back mapped pages", "file", m.file, "err", errno)
		}
	}
}

// mapping is a range of addresses at which a file is mapped.
type mapping struct {
	start, end uintptr
	file       string
}

// pristine reads from smaps (proc_pid_smaps(5)) the mappings of files that cannot be written and of which no page is this
// process's own copy (Anonymous): the file has everything, and giving the pages back loses nothing.
func pristine(smaps io.Reader) []mapping {
	var found []mapping
	var m mapping
	candidate := false
	settle := func() {
		if candidate {
			found = append(found, m)
		}
		candidate = false
	}
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if !strings.HasSuffix(fields[0], ":") {
			settle()
			m, candidate = parseMapping(fields)
			continue
		}
		if fields[0] == "Anonymous:" || fields[0] == "Locked:" {
			candidate = candidate && len(fields) > 1 && fields[1] == "0"
		}
	}
	settle()
	return found
}

// parseMapping reads "address perms offset dev inode pathname".
func parseMapping(fields []string) (m mapping, readable bool) {
	if len(fields) < 6 || strings.Contains(fields[1], "w") || !strings.HasPrefix(fields[5], "/") {
		return m, false
	}
	if _, err := fmt.Sscanf(fields[0], "%x-%x", &m.start, &m.end); err != nil || m.end <= m.start {
		return m, false
	}
	m.file = fields[5]
	return m, true
}
