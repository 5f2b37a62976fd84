package main

import (
	"github.com/spf13/cobra"

	"mediaferry/internal/config"
	"mediaferry/internal/service"
)

func (a *app) settingsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "settings",
		Short: "Print the reference of the settings of dispatcher and worker, Markdown",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return config.Reference(a.stdout, service.AccountRules(service.Providers()))
		},
	}
}
