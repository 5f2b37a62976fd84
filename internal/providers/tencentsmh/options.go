package tencentsmh

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mediaferry/internal/hashing"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/settings"
	"mediaferry/internal/uploads"
)

// Bounds of the platform, in bytes.
const (
	maxDirectoryName = 255
	maxCategory      = 16
	minInstant       = 1 << 20 // smaller files are never identified by their hashes
)

// badNameChars may be in no name of a file or directory.
const badNameChars = `\/:*?"<>|`

// conflict is what happens if a name is taken.
type conflict string

const (
	conflictAsk       conflict = "ask"       // the upload is refused
	conflictRename    conflict = "rename"    // the new file gets another name
	conflictOverwrite conflict = "overwrite" // the new file replaces the old one
)

// options are what a submission may ask of the platform, by the names in brackets.
type options struct {
	conflict  conflict // [conflict] ask unless given
	directory []string // [directory] where the file goes, such as films/2026; it must exist
	labels    []string // [labels] parted by commas
	category  string   // [category] at most 16 bytes
}

// readOptions reads the options of the media, or says what is wrong with them
// as joined *uploads.FieldError.
func readOptions(media providers.Media) (options, error) {
	o := options{conflict: conflictAsk}
	var r settings.Reader
	bad := func(name, format string, args ...any) { r.Bad("options."+name, format, args...) }
	for _, name := range slices.Sorted(maps.Keys(media.Options)) {
		value := media.Options[name]
		switch name {
		case "conflict":
			o.conflict = conflict(value)
			if o.conflict != conflictAsk && o.conflict != conflictRename && o.conflict != conflictOverwrite {
				bad(name, "is %q; give %s, %s or %s", value, conflictAsk, conflictRename, conflictOverwrite)
			}
		case "directory":
			if trimmed := strings.Trim(value, "/"); trimmed != "" {
				o.directory = strings.Split(trimmed, "/")
			}
			if slices.ContainsFunc(o.directory, badDirectory) {
				bad(name, `is %q; give names of 1 to %d bytes, parted by slashes, without \ : * ? " < > |`, value, maxDirectoryName)
			}
		case "labels":
			o.labels = strings.Split(value, ",")
			if slices.Contains(o.labels, "") {
				bad(name, "is %q; give labels, parted by commas", value)
			}
		case "category":
			o.category = value
			if value == "" || len(value) > maxCategory {
				bad(name, "is %q; give 1 to %d bytes", value, maxCategory)
			}
		default:
			r.Unknown("options."+name, "conflict", "directory", "labels", "category")
		}
	}
	return o, r.Err()
}

func badDirectory(name string) bool {
	return name == "" || name == "." || name == ".." || len(name) > maxDirectoryName || strings.ContainsAny(name, badNameChars)
}

// checkName checks the file's name; nothing is replaced silently.
func checkName(name string) error {
	if strings.ContainsAny(name, badNameChars) {
		return &uploads.FieldError{
			Field:  "name",
			Detail: fmt.Sprintf(`%q has one of \ / : * ? " < > |; the platform forbids them, so submit another name`, name),
		}
	}
	return nil
}

// CheckMedia says what of the name and the options the platform would refuse.
func (c *Client) CheckMedia(media providers.Media) error {
	_, err := readOptions(media)
	return errors.Join(checkName(media.Name), err)
}

const defaultEndpoint = "https://api.tencentsmh.cn"

// target is an account's settings, with defaults filled in.
type target struct {
	endpoint string
	library  string
	space    string // "-" in a library of one tenant
	user     string // acts for this user; "" for none
	grant    string // what tokens may do; "" for what an upload needs
	instant  bool   // ask for files that are there already by their hashes
	secret   providers.Secret
}

// readAccount reads the account's settings, or says what is wrong with them
// as joined *uploads.FieldError.
func readAccount(account providers.Account) (target, error) {
	t := target{endpoint: defaultEndpoint, space: "-", instant: true}
	var r settings.Reader
	for _, name := range slices.Sorted(maps.Keys(account.Settings)) {
		value := account.Settings[name]
		switch name {
		case "endpoint":
			t.endpoint = r.Origin("settings.endpoint", value, defaultEndpoint)
		case "library_id":
			t.library = value
		case "space_id":
			t.space = value
			if value == "" {
				r.Bad("settings.space_id", "is empty; give the space's id, or leave it out where the library has no spaces")
			}
		case "user_id":
			t.user = value
		case "grant":
			t.grant = value
		case "instant_upload":
			t.instant = r.Bool("settings.instant_upload", value)
		default:
			r.Unknown("settings."+name, "endpoint", "library_id", "space_id", "user_id", "grant", "instant_upload")
		}
	}
	if t.library == "" {
		r.Bad("settings.library_id", "is missing; give the media library's id")
	}
	t.secret = r.Secrets(account.Secrets, settings.Secret{Name: "library_secret", Words: "the media library's secret"})[0]
	return t, r.Err()
}

// CheckAccount says what is wrong with the settings and secrets of an account.
func (c *Client) CheckAccount(account providers.Account) error {
	_, err := readAccount(account)
	return err
}

// grants returns what a token is to allow. The documents do not say outright
// that replacing a file needs the forcing grant, but its name does; an account
// may name grants of its own.
func (t target) grants(o options) string {
	switch {
	case t.grant != "":
		return t.grant
	case o.conflict == conflictOverwrite:
		return "upload_file,upload_file_force"
	default:
		return "upload_file"
	}
}

// asksInstant reports whether Begin asks for the file by its hashes. It does not
// under rename: a lost answer would leave behind a file whose name nobody knows,
// and the next try would make another.
func (t target) asksInstant(o options, size int64) bool {
	return t.instant && size >= minInstant && o.conflict != conflictRename
}

// NeededDigests returns the hashes by which Begin asks, or none if the account's
// instant_upload is off, the file is too small, or a taken name is to be changed.
func (c *Client) NeededDigests(account providers.Account, media providers.Media) []hashing.Kind {
	t, terr := readAccount(account)
	o, oerr := readOptions(media)
	if terr != nil || oerr != nil || !t.asksInstant(o, media.Size) {
		return nil // Begin says what is wrong
	}
	return c.Limits().ObjectDigests
}
