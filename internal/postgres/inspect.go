package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// ServerState is what a Postgres server says of itself.
type ServerState struct {
	Version int       // major
	Text    string    // the whole of it, such as 16.4
	Now     time.Time // by its clock
	Durable bool      // a commit is on disk when it returns
}

// Inspect asks the server how it stands, and changes nothing.
func (s *Store) Inspect(ctx context.Context) (ServerState, error) {
	var state ServerState
	err := s.inTx(ctx, "inspect the server", func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT current_setting('server_version_num')::int / 10000, current_setting('server_version'),
			clock_timestamp(), current_setting('fsync')::bool AND current_setting('synchronous_commit') <> 'off'`).
			Scan(&state.Version, &state.Text, &state.Now, &state.Durable)
	})
	return state, err
}
