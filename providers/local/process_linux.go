package local

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// thisMachine returns the table of this machine's processes.
func thisMachine() table { return procfs("/proc") }

// procfs is the process table of proc(5).
type procfs string

func (dir procfs) all() ([]process, error) {
	root, err := os.Open(string(dir))
	if err != nil {
		return nil, err
	}
	names, err := root.Readdirnames(-1)
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, err
	}
	var list []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := dir.one(pid); ok {
			list = append(list, p)
		}
	}
	return list, nil
}

func (dir procfs) one(pid int) (process, bool) {
	at := filepath.Join(string(dir), strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(at, "stat"))
	if err != nil {
		return process{}, false
	}
	p, ok := parseStat(string(stat))
	if !ok {
		return process{}, false
	}
	// Both fail for processes of others and are empty for those that are just ending.
	args, _ := os.ReadFile(filepath.Join(at, "cmdline"))
	env, _ := os.ReadFile(filepath.Join(at, "environ"))
	p.args, p.env = split(args), split(env)
	return p, true
}

// split takes strings apart that each end with NUL.
func split(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(data, []byte{0})), "\x00")
}

// parseStat reads a line of /proc/PID/stat (proc_pid_stat(5)): pid (comm) state ppid pgrp session … starttime, the last
// being field 22, in clock ticks since boot. comm may hold spaces and parentheses.
func parseStat(line string) (process, bool) {
	front, rest, ok := cutLast(line, ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return process{}, false
	}
	pid, _, _ := strings.Cut(front, " ")
	numbers := make([]int, 3)
	for i, text := range []string{pid, fields[1], fields[3]} {
		n, err := strconv.Atoi(text)
		if err != nil {
			return process{}, false
		}
		numbers[i] = n
	}
	return process{
		pid: numbers[0], parent: numbers[1], session: numbers[2],
		started: fields[19], zombie: fields[0] == "Z" || fields[0] == "X",
	}, true
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
