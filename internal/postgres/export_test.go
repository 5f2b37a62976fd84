package postgres

import "github.com/jackc/pgx/v5/pgxpool"

// Pool is the connections that statements run on.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }
