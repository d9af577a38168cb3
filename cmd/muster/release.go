package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/release/repository"
)

const releaseLong = `release keeps a repository of releases: a directory that any HTTP server can host, from which hosts update themselves. What it
says is signed (TUF), so that who hosts it, or stands between, can neither change it nor hold it back for long.

  muster release init releases/                     make one; its keys are in releases.keys/
  muster release add releases/ 2026.11.3 --engine ab --arch amd64 image/muster_2026.11.3.*
  muster release promote releases/ 2026.11.3 beta   from alpha to beta, and then to stable
  muster release revoke releases/ 2026.11.2 --why "it leaks"
  muster release refresh releases/                  sign it again; hosts believe it for two weeks
  muster release serve releases/                    host it from here

Keep root-*.key of releases.keys/ offline: it is needed to replace the other keys (` + "`muster release rotate`" + `) and for nothing
else. The other keys are needed wherever releases are added. Back both directories up.`

// releaseFlags are what every verb of `muster release` knows a repository by.
type releaseFlags struct {
	keys string
	life time.Duration
}

func (c *cli) releaseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "release", Short: "what hosts update themselves to: a signed repository", Long: releaseLong, Args: cobra.ArbitraryArgs, RunE: group,
	}
	o := &releaseFlags{}
	cmd.PersistentFlags().StringVar(&o.keys, "keys", "", "`DIR` of the repository's keys (the repository's name with .keys)")
	cmd.PersistentFlags().DurationVar(&o.life, "valid", repository.DefaultLife, "how long hosts believe it without another refresh, as 336h")
	cmd.AddCommand(c.releaseInitCommand(o), c.releaseAddCommand(o), c.releasePromoteCommand(o), c.releaseRevokeCommand(o),
		c.releaseListCommand(o), c.releaseStatusCommand(o), c.releaseRefreshCommand(o), c.releaseRotateCommand(o),
		c.releaseServeCommand(o), c.releaseMachinesCommand(o))
	return cmd
}

func (c *cli) repository(dir string, o *releaseFlags) *repository.Repository {
	keys := o.keys
	if keys == "" {
		keys = filepath.Clean(dir) + ".keys"
	}
	return &repository.Repository{Dir: filepath.Clean(dir), Keys: keys, Life: o.life, Now: c.now}
}

// releaseFailure gives an error of the repository its exit status.
func releaseFailure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, repository.ErrNone), errors.Is(err, repository.ErrUnknown), errors.Is(err, os.ErrNotExist):
		return usage("`muster release --help` shows how it goes", "%w", err)
	}
	return failed("`muster release status DIR` shows how the repository stands", "%w", err)
}

func (c *cli) releaseInitCommand(o *releaseFlags) *cobra.Command {
	var i repository.InitOptions
	encrypt := false
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "make a repository and its keys",
		Long: `init makes an empty repository in DIR and its keys beside it. --encrypt asks for a passphrase for the root's keys and encrypts
them with age; off a terminal it is read from MUSTER_RELEASE_PASSPHRASE. With more than one root key, give each to somebody else.

  muster release init releases/
  muster release init releases/ --root-keys 3 --threshold 2 --encrypt`,
		Args: takes(1, 1, "a directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			if encrypt {
				var err error
				if i.Passphrase, err = c.newPassphrase(); err != nil {
					return err
				}
			}
			r := c.repository(args[0], o)
			if err := r.Init(i); err != nil {
				return releaseFailure(err)
			}
			root, err := r.RootFile()
			if err != nil {
				return releaseFailure(err)
			}
			fmt.Fprintf(c.out, "the repository is %s: host it; hosts are given %s\n", r.Dir, root)
			fmt.Fprintf(c.out, "its keys are in %s: keep root-*.key offline, and the others where releases are made\n", r.Keys)
			return nil
		},
	}
	cmd.Flags().IntVar(&i.RootKeys, "root-keys", 1, "how many root keys there are")
	cmd.Flags().IntVar(&i.Threshold, "threshold", 1, "how many of them sign a new root")
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "encrypt the root's keys with a passphrase")
	return cmd
}

// passphraseVariable is read where there is no terminal.
const passphraseVariable = "MUSTER_RELEASE_PASSPHRASE"

func (c *cli) passphrase(question string) (string, error) {
	if text := os.Getenv(passphraseVariable); text != "" {
		return text, nil
	}
	f, ok := c.in.(*os.File)
	if !ok || !isTerminal(c.in) {
		return "", usage("set "+passphraseVariable+", or run it on a terminal", "a passphrase is needed, and nobody is there to type it")
	}
	fmt.Fprint(c.err, question)
	text, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(c.err)
	if err != nil {
		return "", fmt.Errorf("cannot read the passphrase: %w", err)
	}
	return string(text), nil
}

func (c *cli) newPassphrase() (string, error) {
	text, err := c.passphrase("Passphrase for the root's keys: ")
	if err != nil {
		return "", err
	}
	again, err := c.passphrase("The same again: ")
	if err != nil {
		return "", err
	}
	if text != again || len(text) < 8 {
		return "", usage("type it again", "the passphrases differ, or have fewer than 8 bytes")
	}
	return text, nil
}

func (c *cli) releaseAddCommand(o *releaseFlags) *cobra.Command {
	var custom release.Custom
	cmd := &cobra.Command{
		Use:   "add DIR VERSION FILE...",
		Short: "add a release, for hosts of the channel alpha",
		Long: `add copies the files of a release into the repository and offers it to hosts of the channel alpha. A version is added once: it never
means other files.

  muster release add releases/ 2026.11.3 --engine ab --arch amd64 image/muster_2026.11.3.*
  muster release add releases/ 2026.11.3 --engine dir bin/musterd --min-from 2026.10.1 --notes "joins faster"`,
		Args: takes(3, -1, "a directory, a version and files"),
		RunE: func(cmd *cobra.Command, args []string) error {
			custom.Version = args[1]
			if err := c.repository(args[0], o).Add(cmd.Context(), custom, args[2:]); err != nil {
				return releaseFailure(err)
			}
			fmt.Fprintf(c.out, "release %s is in the channel alpha\n", custom.Version)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&custom.Engine, "engine", "ab", "update `ENGINE` of the hosts that it is for: ab, flatcar, dir, agent or exec")
	flags.StringVar(&custom.Arch, "arch", release.AnyArch, "`ARCHITECTURE` of these hosts as Go names it, or any")
	flags.StringVar(&custom.MinFrom, "min-from", "", "`VERSION` that hosts must run at least to take it")
	flags.StringVar(&custom.Notes, "notes", "", "what is new, for people")
	_ = cmd.RegisterFlagCompletionFunc("engine", cobra.FixedCompletions([]string{"ab", "flatcar", "dir", "agent", "exec"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("arch", cobra.FixedCompletions([]string{"amd64", "arm64", release.AnyArch}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// selectFlags narrow a change to some of a version's releases.
func selectFlags(cmd *cobra.Command, w *repository.Select) {
	cmd.Flags().StringVar(&w.Engine, "engine", "", "only the release for this update `ENGINE`")
}

func (c *cli) releasePromoteCommand(o *releaseFlags) *cobra.Command {
	var w repository.Select
	cmd := &cobra.Command{
		Use:   "promote DIR VERSION CHANNEL",
		Short: "offer a release to hosts of a more careful channel: beta or stable",
		Long: `promote offers a release to hosts of a channel, and of those that are bolder.

  muster release promote releases/ 2026.11.3 beta
  muster release promote releases/ 2026.11.3 stable`,
		Args:              takes(3, 3, "a directory, a version and a channel"),
		ValidArgsFunction: c.completeReleases(o),
		RunE: func(_ *cobra.Command, args []string) error {
			w.Version = args[1]
			if err := c.repository(args[0], o).Promote(w, args[2]); err != nil {
				return releaseFailure(err)
			}
			fmt.Fprintf(c.out, "release %s is in the channel %s\n", w.Version, args[2])
			return nil
		},
	}
	selectFlags(cmd, &w)
	cmd.Flags().StringVar(&w.Arch, "arch", "", "only the release for this `ARCHITECTURE`")
	return cmd
}

func (c *cli) releaseRevokeCommand(o *releaseFlags) *cobra.Command {
	var w repository.Select
	why, minimum := "", ""
	cmd := &cobra.Command{
		Use:   "revoke DIR VERSION",
		Short: "take a release back for ever, and what is older with it",
		Long: `revoke takes a release back: no host installs or boots it any more, and it cannot be added again. What is older is not installed
either, when there is a newer release, or from --minimum on. Hosts never go back to an older release: add a newer one.

  muster release revoke releases/ 2026.11.2 --why "it leaks"
  muster release revoke releases/ 2026.11.2 --why "it leaks" --minimum 2026.11.4`,
		Args:              takes(2, 2, "a directory and a version"),
		ValidArgsFunction: c.completeReleases(o),
		RunE: func(_ *cobra.Command, args []string) error {
			if why == "" {
				return usage(`--why "it leaks" tells operators of hosts that run it`, "say why release %s is revoked", args[1])
			}
			w.Version = args[1]
			if err := c.repository(args[0], o).Revoke(w, why, minimum); err != nil {
				return releaseFailure(err)
			}
			fmt.Fprintf(c.out, "release %s is revoked\n", w.Version)
			return nil
		},
	}
	selectFlags(cmd, &w)
	cmd.Flags().StringVar(&why, "why", "", "the reason, for people")
	cmd.Flags().StringVar(&minimum, "minimum", "", "the oldest `VERSION` that is installed from now on")
	return cmd
}

// completeReleases completes a directory, the versions in it and the channels.
func (c *cli) completeReleases(o *releaseFlags) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return nil, cobra.ShellCompDirectiveFilterDirs
		case 1:
			var versions []string
			if catalog, err := c.repository(args[0], o).Catalog(); err == nil {
				for _, r := range catalog.Releases {
					versions = append(versions, r.Version)
				}
			}
			return versions, cobra.ShellCompDirectiveNoFileComp
		case 2:
			return release.Channels, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

func (c *cli) releaseRefreshCommand(o *releaseFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "refresh DIR",
		Short: "sign the repository again before it expires, as from a timer every day",
		Long: `refresh signs what the repository says again, so that hosts go on believing it for as long as --valid says. Every other change does
so too. Run it every day where the keys are; the root's keys are not needed.

  muster release refresh releases/`,
		Args: takes(1, 1, "a directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			r := c.repository(args[0], o)
			if err := r.Refresh(); err != nil {
				return releaseFailure(err)
			}
			fmt.Fprintf(c.out, "hosts believe it until %s\n", c.now().Add(o.life).UTC().Format(time.RFC3339))
			return nil
		},
	}
}

func (c *cli) releaseRotateCommand(o *releaseFlags) *cobra.Command {
	var rootKeys []string
	encrypt := false
	cmd := &cobra.Command{
		Use:   "rotate DIR [ROLE...]",
		Short: "replace keys that may be stolen, or renew the root for another two years",
		Long: `rotate signs a new root with the root's keys, which are read from --root-key and the directory of keys. Hosts believe the new keys
of the roles that are named, root, targets, snapshot or timestamp, and the old ones no more. Without roles it renews the root.

  muster release rotate releases/ --root-key /mnt/safe/root-12ab34cd56ef7890.key
  muster release rotate releases/ timestamp targets --root-key /mnt/safe`,
		Args:      takes(1, -1, "a directory"),
		ValidArgs: releaseRoles,
		RunE: func(_ *cobra.Command, args []string) error {
			for _, role := range args[1:] {
				if !slices.Contains(releaseRoles, role) {
					return usage("choose root, targets, snapshot or timestamp", "there is no role `%s`", role)
				}
			}
			passphrase := ""
			if encrypt {
				var err error
				if passphrase, err = c.newPassphrase(); err != nil {
					return err
				}
			}
			ask := func(file string) (string, error) { return c.passphrase("Passphrase of " + file + ": ") }
			if err := c.repository(args[0], o).Rotate(rootKeys, args[1:], ask, passphrase); err != nil {
				return releaseFailure(err)
			}
			fmt.Fprintln(c.out, "the root is new; hosts follow it by themselves")
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&rootKeys, "root-key", nil, "`FILE` or directory of a root key; repeat it for more")
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "encrypt a new root key with a passphrase")
	return cmd
}

var releaseRoles = []string{"root", "targets", "snapshot", "timestamp"}
