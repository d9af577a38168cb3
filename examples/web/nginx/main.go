// Command example-nginx runs nginx in front of the servers that announce themselves in the keys: it writes nginx's
// configuration, and has nginx read it anew whenever the servers change, without a request lost.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/examples/web/registry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "example-nginx:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("example-nginx", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8000", "address and port that nginx listens on")
	keys := flags.String("keys", os.Getenv("MUSTER_KEYS"), "where the keys are: URLs with commas between them, of which one is asked")
	key := flags.String("dir", "/services/api", "directory of the keys in which the servers announce themselves")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "example-nginx-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers may be another user
		return err
	}
	n := &nginx{dir: dir, listen: *listen, out: out, log: slog.New(slog.NewTextHandler(out, nil))}
	if err := n.write(nil); err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(n.wait)
	g.Go(func() error {
		registry.Directory{Keys: *keys, Key: *key}.Follow(ctx, n.log, n.use)
		return nil
	})
	return g.Wait()
}

// nginx is one that runs, and its configuration.
type nginx struct {
	dir, listen string
	out         io.Writer
	log         *slog.Logger
	cmd         *exec.Cmd
	ending      context.Context // ends before nginx shall
	servers     []string
}

// grace is how long requests that are under way get when nginx is to end.
const grace = 5 * time.Second

// start begins nginx, which ends with ctx.
func (n *nginx) start(ctx context.Context) error {
	n.cmd, n.ending = exec.CommandContext(ctx, "nginx", "-p", n.dir, "-c", n.config(), "-e", "stderr"), ctx
	n.cmd.Stdout, n.cmd.Stderr = n.out, n.out
	n.cmd.Cancel = func() error { return n.cmd.Process.Signal(syscall.SIGQUIT) }
	n.cmd.WaitDelay = grace
	if err := n.cmd.Start(); err != nil {
		return fmt.Errorf("cannot start nginx; Debian has it in the package nginx-light: %w", err)
	}
	return nil
}

func (n *nginx) wait() error {
	err := n.cmd.Wait()
	if n.ending.Err() != nil {
		return nil
	}
	return fmt.Errorf("nginx has ended: %w", errors.Join(err, errors.New("its unit starts it again")))
}

func (n *nginx) config() string { return filepath.Join(n.dir, "nginx.conf") }

// use has nginx turn to other servers. Requests that are under way end as they began.
func (n *nginx) use(servers []string) {
	if slices.Equal(servers, n.servers) {
		return
	}
	err := n.write(servers)
	if err == nil {
		err = n.cmd.Process.Signal(syscall.SIGHUP)
	}
	if err != nil {
		n.log.Error("cannot change the servers", "err", err)
		return
	}
	n.servers = servers
	n.log.Info("servers changed", "servers", servers)
}

// write puts the configuration in the place of what was there.
func (n *nginx) write(servers []string) error {
	next := n.config() + ".next"
	if err := os.WriteFile(next, configuration(n.dir, n.listen, servers), 0o644); err != nil {
		return err
	}
	return os.Rename(next, n.config())
}
