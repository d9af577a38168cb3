package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

const kvLong = `kv is the keys that programs on all hosts share: a tree of small values, in which they find each other.

On every host, programs reach them at http://127.0.0.1:4001 and http://127.0.0.1:2379, as etcd's API of every version:

  curl http://127.0.0.1:4001/v1/keys/database
  curl http://127.0.0.1:4001/v2/keys/services?recursive=true
  ETCDCTL_API=3 etcdctl get --prefix /services

Units find that URL as $MUSTER_KEYS; hosts of the provider local have an address of their own in the place of 127.0.0.1.
A key is a path, /services/web; what lies below it makes it a directory.`

func (c *cli) kvCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "kv", Short: "the keys that programs on all hosts share: get, put, rm, ls, watch", Long: kvLong,
		Args: cobra.ArbitraryArgs, RunE: group,
	}
	cmd.AddCommand(c.kvGetCommand(), c.kvPutCommand(), c.kvRmCommand(), c.kvLsCommand(), c.kvWatchCommand())
	return cmd
}

// keyEntry is a key as `-o json` prints it.
type keyEntry struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Dir   bool   `json:"dir,omitempty"`
	TTL   int64  `json:"ttl,omitempty"` // seconds
	Index int64  `json:"index"`         // of its last change
}

func entryOf(n api.KeyNode) keyEntry {
	return keyEntry{Key: n.Key, Value: n.Value, Dir: n.Dir, TTL: n.TTL, Index: n.Modified}
}

// keyName is a key as it is written, with its first slash or without.
func keyName(arg string) string { return path.Clean("/" + arg) }

// missing adds to an error what to do about a key that is not there.
func missing(err error, key string) error {
	if err == nil || !strings.Contains(err.Error(), "Key not found") {
		return err
	}
	return failed("`muster kv ls "+path.Dir(key)+"` lists what is beside it", "%w", err)
}

// recursiveFlag adds a flag with the names that etcdctl 2 and 3 have for it.
func recursiveFlag(cmd *cobra.Command, what string) *bool {
	recursive := cmd.Flags().BoolP("recursive", "r", false, what)
	cmd.Flags().BoolVar(recursive, "prefix", false, "the same as --recursive")
	return recursive
}

func (c *cli) kvGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get KEY", Short: "print a value", Args: takes(1, 1, "a key"), ValidArgsFunction: c.completeKeys,
	}
	recursive := recursiveFlag(cmd, "print every key at and below it, and its value")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := c.connect(cmd.Context())
		if err != nil {
			return err
		}
		key := keyName(args[0])
		e, err := f.Key(cmd.Context(), key, *recursive)
		if err != nil {
			return missing(err, key)
		}
		if *recursive {
			files := leaves(e.Node)
			return output.Write(c.out, c.format, files, func(w io.Writer) error {
				for _, f := range files {
					fmt.Fprintf(w, "%s\t%s\n", f.Key, f.Value)
				}
				return nil
			})
		}
		if e.Node.Dir {
			return failed("`muster kv ls "+e.Node.Key+"` lists it, --recursive prints all below it", "%s is a directory", e.Node.Key)
		}
		return output.Write(c.out, c.format, entryOf(e.Node), func(w io.Writer) error {
			_, err := fmt.Fprintln(w, e.Node.Value)
			return err
		})
	}
	return cmd
}

// leaves are the files at and below a node.
func leaves(n api.KeyNode) []keyEntry {
	if !n.Dir {
		return []keyEntry{entryOf(n)}
	}
	files := []keyEntry{}
	for _, below := range n.Nodes {
		files = append(files, leaves(below)...)
	}
	return files
}

func (c *cli) kvPutCommand() *cobra.Command {
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "put KEY VALUE", Short: "set a value; - reads it from standard input", Args: takes(2, 2, "a key and a value"),
		ValidArgsFunction: c.completeKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			if ttl < 0 || ttl > 0 && ttl < time.Second {
				return usage("a second is the least, and 0 is for good", "cannot keep a key for %v", ttl)
			}
			value := args[1]
			if value == "-" {
				data, err := io.ReadAll(c.in)
				if err != nil {
					return failed("", "cannot read the value: %w", err)
				}
				value = string(bytes.TrimSuffix(data, []byte("\n")))
			}
			f, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			e, err := f.PutKey(cmd.Context(), keyName(args[0]), value, ttl)
			if err != nil {
				return err
			}
			return output.Write(c.out, c.format, entryOf(e.Node), func(io.Writer) error { return nil })
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "remove it after so long, unless it is set again")
	return cmd
}

func (c *cli) kvRmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rm KEY", Short: "remove a key", Args: takes(1, 1, "a key"), ValidArgsFunction: c.completeKeys,
	}
	recursive := recursiveFlag(cmd, "remove a directory with everything in it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key := keyName(args[0])
		if key == "/" {
			return usage("name a directory below it", "cannot remove all keys at once")
		}
		f, err := c.connect(cmd.Context())
		if err != nil {
			return err
		}
		e, err := f.DeleteKey(cmd.Context(), key, *recursive)
		if err != nil && !*recursive && strings.Contains(err.Error(), "Not a file") {
			return failed("--recursive removes it with everything in it", "%s is a directory", key)
		}
		if err != nil {
			return missing(err, key)
		}
		return output.Write(c.out, c.format, entryOf(e.Node), func(io.Writer) error { return nil })
	}
	return cmd
}

func (c *cli) kvLsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls [KEY]", Short: "list the keys in a directory", Args: takes(0, 1, "a key"), ValidArgsFunction: c.completeKeys,
	}
	recursive := recursiveFlag(cmd, "list everything below it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := c.connect(cmd.Context())
		if err != nil {
			return err
		}
		key := keyName(strings.Join(args, ""))
		e, err := f.Key(cmd.Context(), key, *recursive)
		if err != nil {
			return missing(err, key)
		}
		list := listing(e.Node)
		return output.Write(c.out, c.format, list, func(w io.Writer) error {
			for _, entry := range list {
				fmt.Fprintln(w, entry.Key+map[bool]string{true: "/"}[entry.Dir])
			}
			return nil
		})
	}
	return cmd
}

// listing is what is below a node as far as it was asked for, directories before what is in them; of a file, the file.
func listing(n api.KeyNode) []keyEntry {
	if !n.Dir {
		return []keyEntry{entryOf(n)}
	}
	list := []keyEntry{}
	for _, below := range n.Nodes {
		if list = append(list, entryOf(below)); below.Dir {
			list = append(list, listing(below)...)
		}
	}
	return list
}

// keyChange is a change as `-o json` prints it, one a line.
type keyChange struct {
	Action string `json:"action"`
	keyEntry
	Previous string `json:"previous,omitempty"`
}

func (c *cli) kvWatchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "watch KEY", Short: "print every change of a key from now on, with -o json one object a line",
		Args: takes(1, 1, "a key"), ValidArgsFunction: c.completeKeys,
	}
	recursive := recursiveFlag(cmd, "watch everything below it too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		f, err := c.connect(ctx)
		if err != nil {
			return err
		}
		var printing error
		err = f.WatchKey(ctx, keyName(args[0]), *recursive, func(e api.KeyEvent) bool {
			printing = c.printChange(e)
			return printing == nil
		})
		switch {
		case printing != nil:
			return printing
		case ctx.Err() != nil:
			return nil // ^C is how watching ends
		}
		return err
	}
	return cmd
}

func (c *cli) printChange(e api.KeyEvent) error {
	change := keyChange{Action: e.Action, keyEntry: entryOf(e.Node)}
	if e.PrevNode != nil {
		change.Previous = e.PrevNode.Value
	}
	if c.format == output.JSON {
		return json.NewEncoder(c.out).Encode(change)
	}
	return output.Write(c.out, c.format, change, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s\t%s\t%s\n", change.Action, change.Key, change.Value)
		return err
	})
}
