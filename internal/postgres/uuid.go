package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// registerUUID has a connection take and give uuid.UUID as the 16 bytes that it
// is. Without it every id goes through its text, since the type has methods for
// database/sql, and statements here carry an id for each of many rows.
func registerUUID(_ context.Context, conn *pgx.Conn) error {
	types := conn.TypeMap()
	element := &pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}}
	types.RegisterType(element)
	types.RegisterType(&pgtype.Type{Name: "_uuid", OID: pgtype.UUIDArrayOID, Codec: &pgtype.ArrayCodec{ElementType: element}})
	return nil
}

// uuidCodec is pgx's, with a short way for uuid.UUID.
type uuidCodec struct{ pgtype.UUIDCodec }

// PlanEncode chooses how a value is sent.
func (c uuidCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return uuidPlan{}
	}
	return c.UUIDCodec.PlanEncode(m, oid, format, value)
}

// PlanScan chooses how a value is received.
func (c uuidCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return uuidPlan{}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, target)
}

type uuidPlan struct{}

// Encode appends the bytes of a uuid.UUID.
func (uuidPlan) Encode(value any, buf []byte) ([]byte, error) {
	id, ok := value.(uuid.UUID)
	if !ok {
		return nil, fmt.Errorf("%T is no uuid.UUID", value)
	}
	return append(buf, id[:]...), nil
}

// Scan sets a *uuid.UUID; NULL is the zero one, as database/sql has it.
func (uuidPlan) Scan(src []byte, target any) error {
	id, ok := target.(*uuid.UUID)
	switch {
	case !ok:
		return fmt.Errorf("%T is no *uuid.UUID", target)
	case src == nil:
		*id = uuid.Nil
	case len(src) != len(id):
		return fmt.Errorf("a uuid of %d bytes", len(src))
	default:
		copy(id[:], src)
	}
	return nil
}
