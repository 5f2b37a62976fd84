package main

import (
	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) workersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "List workers",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List the workers whose heartbeats arrive",
		Args:  usageArgs(cobra.NoArgs),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, _ []string) error {
			list, err := api.Workers(cmd.Context())
			if err != nil {
				return err
			}
			return printAll(a, workerColumns(a.now), list)
		}),
	})
	return cmd
}
