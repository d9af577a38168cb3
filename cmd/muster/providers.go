package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cmd/muster/output"
	"github.com/musterhq/muster/providers"
)

func (c *cli) providersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "providers",
		Short: "where hosts can be: the drivers that muster knows",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return group(cmd, args)
			}
			return c.listDrivers()
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "try the cluster file's providers: credentials, images, quota; nothing is changed",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return c.checkProviders(cmd.Context()) },
	})
	return cmd
}

// driverReport is a driver as `muster providers` shows it.
type driverReport struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
}

func (c *cli) listDrivers() error {
	list := []driverReport{}
	for _, name := range c.drivers.Names() {
		d, err := c.drivers.Lookup(name)
		if err != nil {
			return err
		}
		list = append(list, driverReport{d.Name, d.Summary})
	}
	return output.Write(c.out, c.format, list, func(w io.Writer) error {
		g := output.Grid{Columns: []string{"DRIVER", "SUMMARY"}}
		for _, d := range list {
			g.Add(d.Name, d.Summary)
		}
		return g.Write(w)
	})
}

// providerReport is what a check of a provider came to.
type providerReport struct {
	Name   string `json:"name"`
	Driver string `json:"driver"`
	OK     bool   `json:"ok"`
	Error  string `json:"error,omitempty"`
}

func (c *cli) checkProviders(ctx context.Context) error {
	s, err := c.loadSpec()
	if err != nil {
		return err
	}
	opened, err := c.openProviders(s)
	if err != nil {
		return err
	}
	reports := make([]providerReport, len(s.Providers))
	errs := make([]error, len(s.Providers))
	var g errgroup.Group
	for i, p := range s.Providers {
		g.Go(func() error {
			errs[i] = providers.Check(ctx, opened[p.Name], settingsAt(s, p.Name))
			reports[i] = providerReport{Name: p.Name, Driver: p.Driver, OK: errs[i] == nil}
			if errs[i] != nil {
				reports[i].Error = errs[i].Error()
			}
			return nil
		})
	}
	_ = g.Wait()
	err = output.Write(c.out, c.format, reports, func(w io.Writer) error {
		g := output.Grid{Columns: []string{"PROVIDER", "DRIVER", "CHECK"}, Color: c.color(c.out)}
		for _, r := range reports {
			g.Add(r.Name, r.Driver, map[bool]string{true: "ok", false: r.Error}[r.OK])
		}
		return g.Write(w)
	})
	if err != nil {
		return err
	}
	return checked(errs)
}

// checked makes one error of the providers' checks.
func checked(errs []error) error {
	bad := 0
	for _, err := range errs {
		if err != nil {
			bad++
		}
	}
	err := errors.Join(errs...)
	switch {
	case bad == 0:
		return nil
	case bad < len(errs):
		return partial(advice(err), "%d of %s cannot be used", bad, count(len(errs), "provider"))
	default:
		return failed(advice(err), "%s cannot be used", count(bad, "provider"))
	}
}

// settingsAt are the settings of the hosts to be at a provider, one of each host.
func settingsAt(s spec.Spec, provider string) []any {
	var list []any
	for _, h := range s.Hosts() {
		if h.Provider == provider {
			list = append(list, h.Settings)
		}
	}
	return list
}
