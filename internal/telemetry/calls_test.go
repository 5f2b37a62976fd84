package telemetry

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"mediaferry/internal/hashing"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
)

type renewer struct{}

func (renewer) Renew(context.Context, providers.Account, providers.Media, providers.Session) (providers.Session, error) {
	return providers.Session{Data: []byte("fresh")}, nil
}

type locator struct{}

func (locator) Locate(providers.Session) string { return "a key" }

type rules struct{}

func (rules) CheckAccount(providers.Account) error { return context.Canceled }
func (rules) CheckMedia(providers.Media) error     { return context.Canceled }
func (rules) NeededDigests(providers.Account, providers.Media) []hashing.Kind {
	return []hashing.Kind{hashing.CRC64NVME}
}

// A provider that is measured has the capabilities that it had, and no others.
func TestCapabilitiesStay(t *testing.T) {
	t.Parallel()
	fake := providertest.NewFake(providers.Limits{ObjectDigests: []hashing.Kind{"sha1"}})
	watched := newCalls(prometheus.NewRegistry(), nil).watch(map[string]providers.Provider{
		"plain": fake,
		"renews": struct {
			providers.Provider
			renewer
		}{fake, renewer{}},
		"locates": struct {
			providers.Provider
			locator
		}{fake, locator{}},
		"all": struct {
			providers.Provider
			renewer
			locator
			rules
		}{fake, renewer{}, locator{}, rules{}},
	})
	for name, p := range watched {
		r, renews := p.(providers.Renewer)
		l, locates := p.(providers.Locator)
		if renews != (name == "renews" || name == "all") || locates != (name == "locates" || name == "all") {
			t.Errorf("%s: renews %t, locates %t", name, renews, locates)
		}
		if renews {
			if s, err := r.Renew(t.Context(), providers.Account{}, providers.Media{}, providers.Session{}); err != nil || string(s.Data) != "fresh" {
				t.Errorf("%s: renewed %q, %v", name, s.Data, err)
			}
		}
		if locates && l.Locate(providers.Session{}) != "a key" {
			t.Errorf("%s: located elsewhere", name)
		}
		has := name == "all"
		account := p.(providers.AccountChecker).CheckAccount(providers.Account{})
		media := p.(providers.MediaChecker).CheckMedia(providers.Media{})
		if (account != nil) != has || (media != nil) != has {
			t.Errorf("%s: checks say %v, %v", name, account, media)
		}
		want := []hashing.Kind{"sha1"}
		if has {
			want = []hashing.Kind{hashing.CRC64NVME}
		}
		got := p.(providers.DigestChooser).NeededDigests(providers.Account{}, providers.Media{})
		if !slices.Equal(got, want) {
			t.Errorf("%s: needs %v, want %v", name, got, want)
		}
	}
}

// A capability that is new in the contract would be hidden by what measures it.
func TestEveryCapabilityIsHandedOn(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(top, "internal/providers/providers.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if _, ok := spec.Type.(*ast.InterfaceType); ok {
				declared = append(declared, spec.Name.Name)
			}
		}
		return true
	})
	handedOn := []string{"Provider", "AccountChecker", "CredentialChecker", "MediaChecker", "Renewer", "Locator", "DigestChooser", "Body"}
	slices.Sort(declared)
	slices.Sort(handedOn)
	if diff := cmp.Diff(handedOn, declared); diff != "" {
		t.Errorf("calls.go hands on (-want +declared):\n%s", diff)
	}
}
