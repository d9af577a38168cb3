//go:build !linux

package dir

import (
	"context"
	"errors"
	"os/exec"
)

func dieWithParent(*exec.Cmd) {}

func keepThread() func() { return func() {} }

func reapOthers(context.Context, int) {}

func endOthers(context.Context, string) error {
	return errors.New("cannot end this host's processes: musterd knows how on Linux alone")
}

func newBoot(string) error { return nil }
