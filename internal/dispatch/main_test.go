package dispatch_test

import (
	"testing"

	"mediaferry/internal/devstack/devtest"
)

func TestMain(m *testing.M) { devtest.Main(m) }
