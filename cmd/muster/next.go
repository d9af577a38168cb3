package main

import (
	"fmt"
	"os"
	"strings"
)

// next is a command that the operator may want to type now.
type next struct{ command, purpose string }

// printNext suggests commands, in two columns.
func (c *cli) printNext(list ...next) error {
	width := 0
	for _, n := range list {
		width = max(width, len(n.command))
	}
	for _, n := range list {
		if _, err := fmt.Fprintf(c.out, "  %-*s  # %s\n", width, n.command, n.purpose); err != nil {
			return err
		}
	}
	return nil
}

// fileFlag is what has to be added to a suggested command so that it means the same cluster: nothing when it would be
// found anyway.
func (c *cli) fileFlag() string {
	if c.file == defaultFile || c.file == os.Getenv("MUSTER_FILE") {
		return ""
	}
	if strings.ContainsAny(c.file, " \t'\"$&|;<>()*?[]#~`\\") {
		return " -f '" + strings.ReplaceAll(c.file, "'", `'\''`) + "'"
	}
	return " -f " + c.file
}

// longFlag is fileFlag for `logs`, whose -f follows.
func (c *cli) longFlag() string { return strings.Replace(c.fileFlag(), " -f ", " --file ", 1) }
