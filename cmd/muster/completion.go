package main

import (
	"github.com/spf13/cobra"
)

const completionLong = `completion prints a script that lets a shell complete muster's verbs, flags, hosts and units:

  source <(muster completion bash)
  source <(muster completion zsh)
  muster completion fish | source
  muster completion powershell | Out-String | Invoke-Expression`

var shells = []string{"bash", "zsh", "fish", "powershell"}

func (c *cli) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "print a completion script for a shell",
		Long:      completionLong,
		Args:      takes(1, 1, "the name of a shell"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(c.out, true)
			case "zsh":
				return root.GenZshCompletion(c.out)
			case "fish":
				return root.GenFishCompletion(c.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(c.out)
			default:
				return usage("choose bash, zsh, fish or powershell", "no completion for the shell `%s`", args[0])
			}
		},
	}
}
