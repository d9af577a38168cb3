package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/release/repository"
	"github.com/musterhq/muster/cmd/muster/output"
)

// releaseEntry is a release as `muster release list` shows it.
type releaseEntry struct {
	Version  string   `json:"version"`
	Engine   string   `json:"engine"`
	Arch     string   `json:"arch"`
	Channels []string `json:"channels"`
	MinFrom  string   `json:"min_from"`
	Notes    string   `json:"notes"`
	Bytes    int64    `json:"bytes"`
	Files    []string `json:"files"`
}

func (c *cli) releaseListCommand(o *releaseFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list DIR",
		Short: "the releases that there are, the oldest first",
		Args:  takes(1, 1, "a directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			catalog, err := c.repository(args[0], o).Catalog()
			if err != nil {
				return releaseFailure(err)
			}
			list := []releaseEntry{}
			for _, r := range catalog.Releases {
				e := releaseEntry{
					Version: r.Version, Engine: r.Engine, Arch: r.Arch, Channels: r.Channels, MinFrom: r.MinFrom, Notes: r.Notes, Files: r.Files,
				}
				for _, f := range r.Contents {
					e.Bytes += f.Size
				}
				list = append(list, e)
			}
			return output.Write(c.out, c.format, list, func(w io.Writer) error {
				g := output.Grid{Columns: []string{"VERSION", "ENGINE", "ARCH", "CHANNELS", "SIZE", "FILES"}}
				for _, e := range list {
					g.Add(e.Version, e.Engine, e.Arch, strings.Join(e.Channels, ","), sizeText(e.Bytes), fmt.Sprint(len(e.Files)))
				}
				return g.Write(w)
			})
		},
	}
}

// releaseStatus is a repository as `muster release status` shows it.
type releaseStatus struct {
	Root    string            `json:"root"` // the file that hosts are given
	Roles   []repository.Role `json:"roles"`
	Minimum map[string]string `json:"minimum"`
	Revoked map[string]string `json:"revoked"`
}

func (c *cli) releaseStatusCommand(o *releaseFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "status DIR",
		Short: "how the repository stands: who signs, and until when hosts believe it",
		Long: `status shows what signs the repository and when that expires, the minimum version and what was revoked. The exit status is 1 when
something has expired.`,
		Args: takes(1, 1, "a directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			r := c.repository(args[0], o)
			roles, err := r.Roles()
			if err != nil {
				return releaseFailure(err)
			}
			catalog, err := r.Catalog()
			if err != nil {
				return releaseFailure(err)
			}
			root, err := r.RootFile()
			if err != nil {
				return releaseFailure(err)
			}
			s := releaseStatus{Root: root, Roles: roles, Minimum: catalog.Minimum, Revoked: catalog.Revoked}
			if err := output.Write(c.out, c.format, s, s.write); err != nil {
				return err
			}
			for _, role := range roles {
				if c.now().After(role.Expires) {
					return failed("`muster release refresh`, or `rotate` for the root, renews it", "the %s has expired: hosts refuse it", role.Name)
				}
			}
			return nil
		},
	}
}

func (s releaseStatus) write(w io.Writer) error {
	g := output.Grid{Columns: []string{"ROLE", "VERSION", "KEYS", "EXPIRES"}}
	for _, r := range s.Roles {
		g.Add(r.Name, fmt.Sprint(r.Version), fmt.Sprintf("%d of %d", r.Threshold, len(r.Keys)), r.Expires.UTC().Format(time.RFC3339))
	}
	if err := g.Write(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nHosts are given %s\n", s.Root)
	for _, engine := range slices.Sorted(maps.Keys(s.Minimum)) {
		fmt.Fprintf(w, "Minimum of %s: %s\n", engine, s.Minimum[engine])
	}
	for _, which := range slices.Sorted(maps.Keys(s.Revoked)) {
		fmt.Fprintf(w, "Revoked %s: %s\n", which, s.Revoked[which])
	}
	return nil
}

func (c *cli) releaseServeCommand(o *releaseFlags) *cobra.Command {
	listen, cert, key := "", "", ""
	flatcar := &omahaFlags{}
	cmd := &cobra.Command{
		Use:   "serve DIR",
		Short: "host a repository over HTTP, or HTTPS with --cert and --key, until it is interrupted",
		Long: `serve hosts the metadata and the files of DIR, read only and with ranges, so that downloads go on where they were cut off. It needs
no keys, and plain HTTP does no harm: hosts believe signatures alone. Any other web server does as well.

  muster release serve releases/ --listen 10.0.0.1:8080

With --omaha it also answers update_engine of Flatcar's hosts, whether or not they are of a cluster, whose /etc/flatcar/update.conf
says SERVER=http://10.0.0.1:8080/v1/update/ and GROUP=stable, beta or alpha. They are offered releases of the engine flatcar, of
one file each. It remembers them in DIR.machines.json, beside DIR; ` + "`muster release machines DIR`" + ` shows them. Whoever reaches the server
is believed to be the machine that he says he is. update_engine verifies what it installs by Flatcar's own key.

  muster release add releases/ 4081.2.0 --engine flatcar --arch amd64 flatcar_production_update.gz
  muster release serve releases/ --listen 10.0.0.1:8080 --omaha --canary group=beta --soak 24h --per-hour 10`,
		Args: takes(1, 1, "a directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (cert == "") != (key == "") {
				return usage("give both, or neither for plain HTTP", "--cert and --key go together")
			}
			if err := flatcar.check(cmd); err != nil {
				return err
			}
			r := c.repository(args[0], o)
			if _, err := r.RootFile(); err != nil {
				return releaseFailure(err)
			}
			serve := func(ctx context.Context, l net.Listener) error {
				return c.serveReleases(ctx, l, r.Handler(), cert, key)
			}
			if flatcar.on {
				s, err := c.omahaServer(r, flatcar)
				if err != nil {
					return err
				}
				serve = func(ctx context.Context, l net.Listener) error {
					return c.serveOmaha(ctx, s, machinesFile(r), r.Handler(), func(ctx context.Context, h http.Handler) error {
						return c.serveReleases(ctx, l, h, cert, key)
					})
				}
			}
			l, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return failed("choose another address with --listen", "cannot host releases: %w", err)
			}
			fmt.Fprintf(c.out, "%s is hosted on %s\n", r.Dir, l.Addr())
			return serve(cmd.Context(), l)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "`ADDRESS` and port")
	cmd.Flags().StringVar(&cert, "cert", "", "`FILE` of a certificate and its chain, for HTTPS")
	cmd.Flags().StringVar(&key, "key", "", "`FILE` of its key")
	flatcar.register(cmd)
	return cmd
}

// shutdownTime is how long downloads that are under way get when serve is interrupted.
const shutdownTime = 5 * time.Second

// serveReleases serves until ctx ends, which is no failure.
func (c *cli) serveReleases(ctx context.Context, l net.Listener, h http.Handler, cert, key string) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(c.log().Handler(), slog.LevelDebug),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		var err error
		if cert == "" {
			err = srv.Serve(l)
		} else {
			err = srv.ServeTLS(l, cert, key)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return failed("`--cert` and `--key` are PEM files", "cannot host releases: %w", err)
	})
	g.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			return srv.Close()
		}
		return nil
	})
	return g.Wait()
}
