package apitest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"mediaferry/internal/access"
)

// Tokens keeps tokens in memory, as the record does.
type Tokens struct {
	mu    sync.Mutex
	all   []access.Token
	byKey map[string]uuid.UUID
	looks int
	err   error
}

// Make adds a token and returns the text that its holder has.
func (k *Tokens) Make(t *testing.T, tenant string, scopes ...access.Scope) (access.Token, string) {
	t.Helper()
	token, text, hash, err := access.New(access.Token{Name: t.Name()[:min(len(t.Name()), 100)], Tenant: tenant, Scopes: scopes}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.AddToken(t.Context(), token, hash); err != nil {
		t.Fatal(err)
	}
	return token, text
}

// Looks returns how often a token was looked up.
func (k *Tokens) Looks() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.looks
}

// Fail makes every call fail with err until it is given nil.
func (k *Tokens) Fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// AddToken keeps a token.
func (k *Tokens) AddToken(_ context.Context, t access.Token, hash []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byKey == nil {
		k.byKey = map[string]uuid.UUID{}
	}
	k.all, k.byKey[string(hash)] = append(k.all, t), t.ID
	return k.err
}

// TokenByHash finds a token.
func (k *Tokens) TokenByHash(_ context.Context, hash []byte) (access.Token, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looks++
	if k.err != nil {
		return access.Token{}, k.err
	}
	id, ok := k.byKey[string(hash)]
	if !ok {
		return access.Token{}, access.ErrUnknown
	}
	return k.all[slices.IndexFunc(k.all, func(t access.Token) bool { return t.ID == id })], nil
}

// Tokens lists tokens.
func (k *Tokens) Tokens(_ context.Context, tenant string) ([]access.Token, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []access.Token
	for _, t := range k.all {
		if tenant == "" || t.Tenant == tenant {
			list = append(list, t)
		}
	}
	return list, k.err
}

// RevokeToken ends a token.
func (k *Tokens) RevokeToken(_ context.Context, tenant string, id uuid.UUID) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, t := range k.all {
		if t.ID == id && (tenant == "" || t.Tenant == tenant) {
			k.all[i].RevokedAt = time.Now()
			return k.err
		}
	}
	return access.ErrUnknown
}
