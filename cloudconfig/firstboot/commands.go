package firstboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/musterhq/muster/cloudconfig"
)

// bootID identifies the running boot of the machine, "" where none runs.
func (b *boot) bootID() string {
	if b.System == nil {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(b.root.Dir(), "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// bootCommands runs bootcmd.
func (b *boot) bootCommands(ctx context.Context) error {
	if len(b.content.doc.BootCmd) == 0 {
		return nil
	}
	return b.script(ctx, "bootcmd", cloudconfig.Script(b.content.doc.BootCmd))
}

// commandsOnce runs runcmd and the scripts, unless they have been started for this instance before.
func (b *boot) commandsOnce(ctx context.Context) error {
	runcmd := b.content.doc.RunCmd
	if len(runcmd) == 0 && len(b.content.scripts) == 0 {
		return nil
	}
	if b.record.Commands {
		b.Log.Warn("the commands of the first boot were started before, and are not repeated")
		return nil
	}
	if b.System == nil {
		b.Log.Warn("left the commands alone: this is not the machine's root", "commands", len(runcmd), "scripts", len(b.content.scripts))
		return nil
	}
	if err := b.awaitNetwork(ctx); err != nil {
		return err
	}
	b.record.Commands = true
	interrupted := b.record
	interrupted.Failed = append(interrupted.Failed[:len(interrupted.Failed):len(interrupted.Failed)], "interrupted")
	if err := interrupted.Write(b.root, b.recordPath); err != nil {
		return err
	}
	var failures []error
	if len(runcmd) > 0 {
		failures = append(failures, b.script(ctx, "runcmd", cloudconfig.Script(runcmd)))
	}
	for i, script := range b.content.scripts {
		failures = append(failures, b.script(ctx, fmt.Sprintf("script-%d", i+1), script))
	}
	return errors.Join(failures...)
}

// script runs a script from a file that root alone can read: arguments of processes are public.
func (b *boot) script(ctx context.Context, name string, text []byte) (err error) {
	if b.System == nil {
		return nil
	}
	path := stateDir + "/" + name
	if _, err := b.root.Write(path, text, 0o700, nil); err != nil {
		return fmt.Errorf("cannot run %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, b.root.Remove(path)) }()
	program, args := filepath.Join(b.root.Dir(), path), []string(nil)
	if strings.HasPrefix(string(text), "#!/bin/sh\n") { // also where /var is mounted noexec
		program, args = "/bin/sh", []string{program}
	}
	if err := b.do(ctx, program, args...); err != nil {
		return fmt.Errorf("%s failed: %w; what it printed is in %s", name, err, outputPath)
	}
	b.Log.Info("ran commands", "of", name)
	return nil
}

// do runs a program. What it prints is kept from everyone but root.
func (b *boot) do(ctx context.Context, program string, args ...string) error {
	output, err := b.output()
	if err != nil {
		return err
	}
	return errors.Join(b.System.Run(ctx, output, program, args...), output.Close())
}

func (b *boot) output() (io.WriteCloser, error) {
	if err := b.root.EnsureDir(stateDir); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(b.root.Dir(), outputPath), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}
