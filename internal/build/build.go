// Package build says which build this program is of.
package build

import "runtime/debug"

// Version names the commit that the program was built from, as the Go tool wrote
// it down, such as v0.0.0-20261121053702-d7db6cf00000 or v1.2.0; "unknown" where it
// could not, as in tests.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "unknown"
	}
	return info.Main.Version
}

// Revision returns the commit itself, "" if it is not known.
func Revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
