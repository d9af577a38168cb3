package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cmd/muster/output"
)

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print muster's version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return output.Write(c.out, c.format, v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "muster %s (%s, %s)\n", v.Version, v.Go, v.Platform)
				return err
			})
		},
	}
}
