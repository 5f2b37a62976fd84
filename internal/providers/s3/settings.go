package s3

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/settings"
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
	// Unconfirmed accepts a bucket that answers without a checksum. Then only we
	// have looked at the digest of the bytes.
	Unconfirmed bool `json:"unconfirmed,omitempty"`

	prefix string
}

// readAccount reads the account's settings, or says what is wrong with them
// as joined *uploads.FieldError.
func readAccount(account providers.Account) (place, error) {
	p := place{Region: defaultRegion}
	var r settings.Reader
	for _, name := range slices.Sorted(maps.Keys(account.Settings)) {
		value := account.Settings[name]
		switch name {
		case "endpoint":
			if err := p.setEndpoint(value); err != nil {
				r.Bad("settings.endpoint", "%v", err)
			}
		case "region":
			p.Region = value
		case "bucket":
			p.Bucket = value
		case "prefix":
			p.prefix = value
		case "path_style":
			p.PathStyle = new(r.Bool("settings.path_style", value))
		case "require_checksum":
			p.Unconfirmed = !r.Bool("settings.require_checksum", value)
		default:
			r.Unknown("settings."+name, "endpoint", "region", "bucket", "prefix", "path_style", "require_checksum")
		}
	}
	for _, needed := range []struct{ field, value, words string }{
		{"endpoint", account.Settings["endpoint"], "host:port or a URL"},
		{"region", p.Region, "a region such as " + defaultRegion + ", or leave it out"},
		{"bucket", p.Bucket, "the bucket's name"},
	} {
		if needed.value == "" {
			r.Bad("settings."+needed.field, "is missing; give %s", needed.words)
		}
	}
	secrets := r.Secrets(account.Secrets,
		settings.Secret{Name: "access_key", Words: "the access key's id"},
		settings.Secret{Name: "secret_key", Words: "the access key's secret"})
	p.AccessKey, p.SecretKey = secrets[0].Reveal(), secrets[1].Reveal()
	return p, r.Err()
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
	var r settings.Reader
	for _, name := range slices.Sorted(maps.Keys(media.Options)) {
		if name != "key" {
			r.Unknown("options."+name, "key")
		}
	}
	if key, ok := media.Options["key"]; ok && (key == "" || len(key) > uploads.MaxKeyLength) {
		r.Bad("options.key", "has %d bytes; give 1 to %d", len(key), uploads.MaxKeyLength)
	}
	return r.Err()
}

// keyOf returns the key that the media gets.
func (p place) keyOf(media providers.Media) string {
	if key := media.Options["key"]; key != "" {
		return p.prefix + key
	}
	return p.prefix + media.Name
}
