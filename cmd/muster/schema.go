package main

import (
	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cluster/spec"
)

func (c *cli) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "print the cluster file's JSON Schema, for editors",
		Long: `schema prints the JSON Schema of the cluster file, with the settings of every driver. Editors complete and check
with it what they edit:

  muster schema > cluster.schema.json`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			schema, err := spec.Schema(c.drivers)
			if err != nil {
				return failed("", "cannot make the schema: %w", err)
			}
			_, err = c.out.Write(append(schema, '\n'))
			return err
		},
	}
}
