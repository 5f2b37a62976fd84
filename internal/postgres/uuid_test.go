package postgres_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// Ids go to the database and come back as they are, in every shape that
// statements have them in.
func TestUUIDs(t *testing.T) {
	t.Parallel()
	pool := setup(t).Pool()
	want := []uuid.UUID{uuid.Must(uuid.NewV7()), uuid.Nil, uuid.New()}
	var (
		one         uuid.UUID
		some, none  *uuid.UUID
		many, empty []uuid.UUID
		texts       []string
	)
	err := pool.QueryRow(t.Context(),
		`SELECT $1::uuid, $2::uuid, $3::uuid, $4::uuid[], $5::uuid[], $4::uuid[]::text[]`,
		want[0], &want[0], (*uuid.UUID)(nil), want, []uuid.UUID{}).Scan(&one, &some, &none, &many, &empty, &texts)
	if err != nil {
		t.Fatal(err)
	}
	if one != want[0] || some == nil || *some != want[0] || none != nil || len(empty) != 0 {
		t.Errorf("got %v, %v, %v and %v, want %[5]v, %[5]v, null and none", one, some, none, empty, want[0])
	}
	if diff := cmp.Diff(want, many); diff != "" {
		t.Errorf("array (-want +got):\n%s", diff)
	}
	for i, text := range texts {
		if text != want[i].String() {
			t.Errorf("the database has %s for %s", text, want[i])
		}
	}
	// It must be by their bytes, not their text.
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	types := conn.Conn().TypeMap()
	for what, plan := range map[string]any{
		"send":    types.PlanEncode(pgtype.UUIDOID, pgtype.BinaryFormatCode, want[0]),
		"receive": types.PlanScan(pgtype.UUIDOID, pgtype.BinaryFormatCode, &one),
	} {
		if got := fmt.Sprintf("%T", plan); got != "postgres.uuidPlan" {
			t.Errorf("to %s an id it takes a %s", what, got)
		}
	}
}
