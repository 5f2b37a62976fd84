package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"mediaferry/client"
	"mediaferry/internal/access"
	"mediaferry/internal/postgres"
)

func (a *app) tokensCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tokens",
		Short: "Make, list and revoke tokens of the API",
		Long: `Make, list and revoke tokens of the API.

With a token of the scope admin these go through the API. The first token is
made with --dsn, straight in the database, as is one after the last is lost.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var dsn string
	cmd.PersistentFlags().StringVar(&dsn, "dsn", "",
		"work on this database in place of the API: its address, or where that is, such as env:MEDIAFERRY_POSTGRES_DSN")
	cmd.AddCommand(a.createTokenCommand(&dsn), a.listTokensCommand(&dsn), a.revokeTokenCommand(&dsn))
	return cmd
}

func (a *app) createTokenCommand(dsn *string) *cobra.Command {
	var (
		name       string
		allTenants bool
		scopes     []string
		life       time.Duration
	)
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print it, this once",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if allTenants && cmd.Flags().Changed("tenant") {
				return usagef("--tenant and --all-tenants exclude each other; give one of the two")
			}
			if life < 0 {
				return usagef("--expires %s is in the past; give how long the token is to last, such as 720h", life)
			}
			want := client.TokenRequest{Name: name, AllTenants: allTenants, Scopes: scopes}
			if !allTenants {
				want.Tenant = cmp.Or(a.tenant, "default")
			}
			if life > 0 {
				want.ExpiresAt = a.now().Add(life)
			}
			var made client.NewToken
			var err error
			if *dsn != "" {
				made, err = a.createTokenIn(cmd.Context(), *dsn, want)
			} else {
				err = a.callAPI(func(api *client.Client) (err error) {
					made, err = api.CreateToken(cmd.Context(), want)
					return err
				})
			}
			if err != nil {
				return err
			}
			return printOne(a, newTokenColumns(), made, func(d *details) { d.text(made.Secret) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "whose token it is")
	f.StringSliceVar(&scopes, "scope", nil, "what it allows, with commas: submit, read, operate, admin")
	f.BoolVar(&allTenants, "all-tenants", false, "good for every tenant, in place of the one of --tenant")
	f.DurationVar(&life, "expires", 0, "how long it lasts, such as 720h (default: until it is revoked)")
	return cmd
}

func (a *app) listTokensCommand(dsn *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List tokens by how they begin",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			var list []client.Token
			if *dsn != "" {
				err = a.withStore(cmd.Context(), *dsn, func(store *postgres.Store) error {
					all, err := store.Tokens(cmd.Context(), "")
					for _, t := range all {
						list = append(list, tokenView(t))
					}
					return err
				})
			} else {
				err = a.callAPI(func(api *client.Client) (err error) {
					list, err = api.Tokens(cmd.Context())
					return err
				})
			}
			if err != nil {
				return err
			}
			return printAll(a, tokenColumns(), list)
		},
	}
}

func (a *app) revokeTokenCommand(dsn *string) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID...",
		Short: "End tokens; every dispatcher takes note within seconds",
		Args:  usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			revoke := func(one func(id string) error) error {
				var errs []error
				for _, id := range args {
					errs = append(errs, one(id))
				}
				return errors.Join(errs...)
			}
			if *dsn != "" {
				return a.withStore(cmd.Context(), *dsn, func(store *postgres.Store) error {
					return revoke(func(text string) error {
						id, err := uuid.Parse(text)
						if err != nil {
							return usagef("%q is not an id; mediaferry tokens list shows them", text)
						}
						if err := store.RevokeToken(cmd.Context(), "", id); err != nil {
							return fmt.Errorf("revoke token %s: %w", id, err)
						}
						return nil
					})
				})
			}
			return a.callAPI(func(api *client.Client) error {
				return revoke(func(id string) error { return api.RevokeToken(cmd.Context(), id) })
			})
		},
	}
}

func (a *app) callAPI(call func(*client.Client) error) error {
	api, err := a.connect()
	if err != nil {
		return err
	}
	defer api.Close()
	return call(api)
}

// createTokenIn makes a token without asking the API.
func (a *app) createTokenIn(ctx context.Context, dsn string, want client.TokenRequest) (client.NewToken, error) {
	request := access.Token{Name: want.Name, Tenant: want.Tenant, ExpiresAt: want.ExpiresAt}
	for _, scope := range want.Scopes {
		request.Scopes = append(request.Scopes, access.Scope(scope))
	}
	token, secret, hash, err := access.New(request, a.now())
	if err != nil {
		return client.NewToken{}, &usageError{err}
	}
	return client.NewToken{Token: tokenView(token), Secret: secret},
		a.withStore(ctx, dsn, func(store *postgres.Store) error { return store.AddToken(ctx, token, hash) })
}

func tokenView(t access.Token) client.Token {
	return client.Token{
		ID: t.ID.String(), Name: t.Name, Prefix: t.Prefix, Tenant: t.Tenant, Scopes: scopeTexts(t.Scopes),
		CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt, LastUsedAt: t.LastUsedAt,
	}
}

// databasePatience bounds the wait for a database that a person named.
const databasePatience = 15 * time.Second

func (a *app) withStore(ctx context.Context, dsn string, do func(*postgres.Store) error) error {
	address, err := a.secret(dsn)
	if err != nil {
		return usagef("--dsn: %w", err)
	}
	openCtx, cancel := context.WithTimeoutCause(ctx, databasePatience, errors.New("it does not answer"))
	defer cancel()
	store, err := postgres.Open(openCtx, address, 1, zap.NewNop())
	if err != nil {
		return err
	}
	defer store.Close()
	return do(store)
}

func scopeTexts(scopes []access.Scope) []string {
	texts := make([]string, len(scopes))
	for i, s := range scopes {
		texts[i] = string(s)
	}
	return texts
}
