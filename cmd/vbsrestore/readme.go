package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/worker"
)

func newReadmeTables(e env) *cobra.Command {
	return &cobra.Command{
		Use: "readme-tables", Short: "print the tables of the README from their sources", Hidden: true, Args: takes(),
		RunE: func(*cobra.Command, []string) error {
			_, err := e.Stdout.Write([]byte(retryTable() + "\n" + stateDiagram()))
			return err
		},
	}
}

// retryTable is what is done after each answer to a restore POST, in Markdown.
func retryTable() string {
	var b bytes.Buffer
	b.WriteString("| Answer to the restore POST | Verdict | What happens |\n|---|---|---|\n")
	for _, r := range worker.Rules() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", inCell(r.Answer), r.Act, inCell(r.Then))
	}
	return b.String()
}

func inCell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// stateDiagram draws the state machine for Mermaid. Dashed words mark what needs a person.
func stateDiagram() string {
	var b bytes.Buffer
	b.WriteString("```mermaid\nstateDiagram-v2\n    [*] --> waiting\n")
	for _, from := range results.States {
		always, person := results.Arrows(from)
		for _, to := range always {
			fmt.Fprintf(&b, "    %s --> %s\n", from, to)
		}
		for _, to := range person {
			fmt.Fprintf(&b, "    %s --> %s: a person\n", from, to)
		}
	}
	for _, s := range results.States {
		if s.Final() {
			fmt.Fprintf(&b, "    %s --> [*]\n", s)
		}
	}
	b.WriteString("```\n")
	return b.String()
}
