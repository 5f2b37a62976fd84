// Package access is who may do what: tokens of the API, the scopes that they
// carry and the tenant that they are bound to. It is pure; tokens are kept in
// the record as digests.
package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"mediaferry/internal/uploads"
)

// Scope is a kind of thing that a token allows.
type Scope string

// The scopes. Admin includes the others.
const (
	Submit  Scope = "submit"  // hand in uploads
	Read    Scope = "read"    // look at uploads, accounts and workers
	Operate Scope = "operate" // cancel, retry and the like
	Admin   Scope = "admin"   // make and revoke tokens
)

// Scopes lists all scopes.
func Scopes() []Scope { return []Scope{Submit, Read, Operate, Admin} }

// Token is what is known of a token; the token itself is known to its holder alone.
type Token struct {
	ID         uuid.UUID
	Name       string
	Prefix     string // how it begins
	Tenant     string // "" for every tenant
	Scopes     []Scope
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero for never
	RevokedAt  time.Time // zero while it holds
	LastUsedAt time.Time // to ten minutes; zero if never
}

// Has reports whether the token has the scope.
func (t Token) Has(s Scope) bool {
	return slices.Contains(t.Scopes, s) || slices.Contains(t.Scopes, Admin)
}

// Live reports whether the token is neither revoked nor expired.
func (t Token) Live(now time.Time) bool {
	return t.RevokedAt.IsZero() && (t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt))
}

// Allows reports whether the token is good for the tenant.
func (t Token) Allows(tenant string) bool { return t.Tenant == "" || t.Tenant == tenant }

// Anyone is what a request is taken for where no tokens are asked for.
func Anyone() Token { return Token{Name: "anyone", Scopes: []Scope{Admin}} }

// ErrUnknown says that there is no such token.
var ErrUnknown = errors.New("there is no such token")

const (
	textPrefix = "mf_"
	secretSize = 32 // bytes
	shownSize  = 6  // characters of the secret that tell tokens apart
	maxName    = 100
)

// New makes a token as the request asks, from now on. text is what its holder
// is told, once; hash is what the record keeps. The error joins
// *uploads.FieldError.
func New(want Token, now time.Time) (t Token, text string, hash []byte, err error) {
	if err := want.check(now); err != nil {
		return Token{}, "", nil, err
	}
	id, err := uploads.NewID()
	if err != nil {
		return Token{}, "", nil, err
	}
	secret := make([]byte, secretSize)
	_, _ = rand.Read(secret) // never fails
	text = textPrefix + base64.RawURLEncoding.EncodeToString(secret)
	t = Token{
		ID: id, Name: want.Name, Prefix: text[:len(textPrefix)+shownSize], Tenant: want.Tenant,
		Scopes: want.Scopes, CreatedAt: now, ExpiresAt: want.ExpiresAt,
	}
	return t, text, Hash(text), nil
}

// Hash returns the digest that a token is looked up by. A look-up by digest
// tells nothing of the token by the time that it takes.
func Hash(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

func (t Token) check(now time.Time) error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &uploads.FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	if t.Name == "" || len(t.Name) > maxName || strings.ContainsFunc(t.Name, func(r rune) bool { return r < ' ' }) {
		bad("name", "is %.40q; give 1 to %d characters that say whose token it is", t.Name, maxName)
	}
	if t.Tenant != "" {
		if err := uploads.CheckIdent(t.Tenant); err != nil {
			bad("tenant", "%v", err)
		}
	}
	if len(t.Scopes) == 0 {
		bad("scopes", "is empty; give some of submit, read, operate and admin")
	}
	for _, s := range t.Scopes {
		if !slices.Contains(Scopes(), s) {
			bad("scopes", "has %.40q; there are submit, read, operate and admin", s)
		}
	}
	if !t.ExpiresAt.IsZero() && !t.ExpiresAt.After(now) {
		bad("expires_at", "is in the past; give a later time, or none")
	}
	return errors.Join(errs...)
}

type contextKey struct{}

// WithToken returns a context that carries the token of a request.
func WithToken(ctx context.Context, t Token) context.Context {
	return context.WithValue(ctx, contextKey{}, t)
}

// FromContext returns the token of a request; without one it allows nothing.
func FromContext(ctx context.Context) Token {
	t, _ := ctx.Value(contextKey{}).(Token)
	return t
}
