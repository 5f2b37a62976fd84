package s3

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// defaultRegion is what servers that know no regions sign with.
const defaultRegion = "us-east-1"

// place is where an account's objects go and what authorises it: the settings
// endpoint, region, bucket, prefix, path_style and require_checksum, and the
// secrets access_key and secret_key.
type place struct {
	Endpoint  string `json:"endpoint"` // host, and port if it is not the scheme's
	Insecure  bool   `json:"insecure,omitempty"`
	Region    string `json:"region"`
	Bucket    string `json:"bucket"`
	PathStyle *bool  `json:"path_style,omitempty"` // nil leaves it to the endpoint's name
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
	// Unconfirmed takes parts from a bucket that answers no checksum. Then no
	// one but us has looked at the digest of the bytes.
	Unconfirmed bool `json:"unconfirmed,omitempty"`

	prefix string
}

// readAccount reads the account's settings, or says what is wrong with them
// as joined *uploads.FieldError.
func readAccount(account providers.Account) (place, error) {
	p := place{Region: defaultRegion}
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &uploads.FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	truth := func(name, value string) bool {
		b, err := strconv.ParseBool(value)
		if err != nil {
			bad("settings."+name, "is %q; give true or false", value)
		}
		return b
	}
	for _, name := range slices.Sorted(maps.Keys(account.Settings)) {
		value := account.Settings[name]
		switch name {
		case "endpoint":
			if err := p.setEndpoint(value); err != nil {
				bad("settings.endpoint", "%v", err)
			}
		case "region":
			p.Region = value
		case "bucket":
			p.Bucket = value
		case "prefix":
			p.prefix = value
		case "path_style":
			style := truth(name, value)
			p.PathStyle = &style
		case "require_checksum":
			p.Unconfirmed = !truth(name, value)
		default:
			bad("settings."+name, "is not known here; there are endpoint, region, bucket, prefix, path_style and require_checksum")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(account.Secrets)) {
		value := account.Secrets[name].Reveal()
		switch name {
		case "access_key":
			p.AccessKey = value
		case "secret_key":
			p.SecretKey = value
		default:
			bad("secrets."+name, "is not known here; there are access_key and secret_key")
		}
	}
	for _, needed := range []struct{ field, value string }{
		{"settings.endpoint", account.Settings["endpoint"]},
		{"settings.region", p.Region},
		{"settings.bucket", p.Bucket},
		{"secrets.access_key", p.AccessKey},
		{"secrets.secret_key", p.SecretKey},
	} {
		if needed.value == "" {
			bad(needed.field, "is missing")
		}
	}
	return p, errors.Join(errs...)
}

// setEndpoint reads host:port, which means https, or an http or https URL.
func (p *place) setEndpoint(value string) error {
	text := value
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("is %q; give host:port or a URL with scheme and host only", value)
	}
	p.Endpoint, p.Insecure = u.Host, u.Scheme == "http"
	return nil
}

// url returns the address of an object; reading it may need credentials.
func (p place) url(key string) string {
	u := url.URL{Scheme: "https", Host: p.Endpoint, Path: "/" + p.Bucket + "/" + key}
	if p.Insecure {
		u.Scheme = "http"
	}
	return u.String()
}

// CheckAccount says what is wrong with the settings and secrets of an account.
func (c *Client) CheckAccount(account providers.Account) error {
	_, err := readAccount(account)
	return err
}

// CheckMedia says what is wrong with the options. There is one: key, the
// object's key below the account's prefix in place of the name.
func (c *Client) CheckMedia(media providers.Media) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(media.Options)) {
		if name != "key" {
			errs = append(errs, &uploads.FieldError{Field: "options." + name, Detail: "is not known here; there is key"})
		}
	}
	if key, ok := media.Options["key"]; ok && (key == "" || len(key) > uploads.MaxKeyLength) {
		errs = append(errs, &uploads.FieldError{Field: "options.key", Detail: fmt.Sprintf("has %d bytes; give 1 to %d", len(key), uploads.MaxKeyLength)})
	}
	return errors.Join(errs...)
}

// keyOf returns the key that the media gets.
func (p place) keyOf(media providers.Media) string {
	if key := media.Options["key"]; key != "" {
		return p.prefix + key
	}
	return p.prefix + media.Name
}
