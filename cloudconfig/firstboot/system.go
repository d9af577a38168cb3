package firstboot

import (
	"context"
	"io"
	"os/exec"
)

// System is the running machine that a root directory belongs to.
type System interface {
	// Run runs a program from "/" and waits for its end. What it prints goes to output.
	Run(ctx context.Context, output io.Writer, name string, args ...string) error
	// SetHostname tells the kernel.
	SetHostname(name string) error
}

// machine is the one that this program runs on.
type machine struct{}

func (machine) Run(ctx context.Context, output io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", output, output
	return cmd.Run()
}
