package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/unitfile"
)

func (c *cli) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE...",
		Short: "tell whether the cluster has units as they are in files",
		Args:  takes(1, -1, "the name of a unit file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, files, err := c.unitFiles(args)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			f, err := c.connect(ctx)
			if err != nil {
				return err
			}
			var differ []string
			for _, file := range files {
				has, err := f.Unit(ctx, file.Name)
				word := "as in the file"
				switch {
				case api.IsNotFound(err):
					word = "not submitted"
				case err != nil:
					return fmt.Errorf("cannot read %s: %w", file.Name, err)
				case !sameUnit(file, has):
					word = "differs from the file"
				}
				if fmt.Fprintf(c.out, "%s: %s\n", file.Name, word); word != "as in the file" {
					differ = append(differ, file.Name)
				}
			}
			if len(differ) > 0 {
				return failed("`muster units submit FILE` makes them the same", "%s not as in the file", few(differ))
			}
			return nil
		},
	}
}

// sameUnit tells whether two unit files say the same. Comments and empty lines say nothing.
func sameUnit(a, b api.Unit) bool {
	one, _, err1 := unitfile.Parse(a.Name, []byte(a.Content))
	other, _, err2 := unitfile.Parse(b.Name, []byte(b.Content))
	return err1 == nil && err2 == nil && one.Hash() == other.Hash()
}
