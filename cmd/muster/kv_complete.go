package main

import (
	"context"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completeKeys offers what is in the directory that has been written so far.
func (c *cli) completeKeys(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	f, err := c.connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	dir := path.Dir(keyName(begun))
	if begun == "" || strings.HasSuffix(begun, "/") {
		dir = keyName(begun)
	}
	e, err := f.Key(ctx, dir, false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, entry := range listing(e.Node) {
		if entry.Dir {
			entry.Key += "/"
		}
		names = append(names, entry.Key)
	}
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
