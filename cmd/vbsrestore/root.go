package main

import (
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `vbsrestore gets disks back: it restores volumes from VBS and Cinder backups,
one or a hundred thousand, each at most once.

A worker records what is asked for in a result store, restores, and watches the
cloud until a restore is done. Requests reach it through Redis.`

const rootExample = `  vbsrestore simulate --clouds-file clouds.yaml --pairs-file pairs.csv &
  vbsrestore worker &
  vbsrestore enqueue --file pairs.csv --cloud simulator --yes 20
  vbsrestore restore list`

// newRoot makes the tree of commands.
func newRoot(e env) *cobra.Command {
	root := &cobra.Command{
		Use: "vbsrestore", Short: "restore volumes from backups, each at most once", Long: rootLong, Example: rootExample,
		Args: noSuchCommand, SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(e.Stdin)
	root.SetOut(e.Stdout)
	root.SetErr(e.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return hint(&usageError{err}, "%s --help", cmd.CommandPath())
	})
	root.SetUsageTemplate(root.UsageTemplate() + "\n" + exitCodesShort + "\n")
	g := &globals{}
	g.addFlags(root.PersistentFlags())
	root.AddGroup(&cobra.Group{ID: "do", Title: "Restore:"}, &cobra.Group{ID: "run", Title: "Run:"}, &cobra.Group{ID: "about", Title: "About:"})
	add(root, "do", newEnqueue(g, e), newRestore(g, e), newCloud(g, e))
	add(root, "run", newWorker(g, e), newSimulate(g, e))
	add(root, "about", newConfig(g, e), newVersion(e))
	root.AddCommand(newReadmeTables(e), &cobra.Command{Use: "exit-codes", Short: "what the exit codes mean", Long: exitCodesHelp})
	root.SetHelpCommandGroupID("about")
	root.SetCompletionCommandGroupID("about")
	return root
}

func add(to *cobra.Command, group string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		c.GroupID = group
	}
	to.AddCommand(cmds...)
}

// newGroup makes a command that only has commands below it.
func newGroup(name, short string, cmds ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: name, Short: short, Args: noSuchCommand, RunE: func(cmd *cobra.Command, _ []string) error {
		return hint(usagef("%s needs a command", cmd.CommandPath()), "%s --help", cmd.CommandPath())
	}}
	g.AddCommand(cmds...)
	return g
}

// noSuchCommand refuses what stands where a command should, with a suggestion.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	text := cmd.CommandPath() + " --help"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text = "did you mean: " + cmd.CommandPath() + " " + strings.Join(near, " or ")
	}
	return hint(usagef("there is no command %q in %s", args[0], cmd.CommandPath()), "%s", text)
}

// takes checks the number of arguments. A name that ends in … stands for one or more.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		many := len(names) > 0 && strings.HasSuffix(names[len(names)-1], "…")
		if len(args) == len(names) || many && len(args) > len(names) {
			return nil
		}
		return hint(usagef("%s needs %s, got %d", cmd.CommandPath(), counted(names), len(args)), "%s", cmd.UseLine())
	}
}

func counted(names []string) string {
	if len(names) == 0 {
		return "no arguments"
	}
	return strings.Join(names, " and ")
}
