package tencentcos

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// Bounds of the platform, in bytes.
const (
	maxSourceContext  = 250
	maxSessionContext = 1000
)

// coverOption is the option whose value is the key of a cover image.
const coverOption = "cover"

// options are what a submission may ask of the platform, by the names in
// brackets.
type options struct {
	fileType       string // [file_type] such as mp4; by default the name's extension
	procedure      string // [procedure] task flow to start once the media is there
	classID        string // [class_id] category, a number
	sourceContext  string // [source_context] handed back in the platform's notification
	sessionContext string // [session_context] handed back in those of task flows; API 3.0
	expireTime     string // [expire_time] when the media is deleted, RFC 3339; API 3.0
	coverType      string // extension of the [cover]'s key; "" without a cover
}

// readOptions reads the options of the media, or says what is wrong with them
// as joined *uploads.FieldError.
func readOptions(media providers.Media) (options, error) {
	o := options{fileType: extension(media.Name)}
	var errs []error
	bad := func(name, format string, args ...any) {
		errs = append(errs, &uploads.FieldError{Field: "options." + name, Detail: fmt.Sprintf(format, args...)})
	}
	for _, name := range slices.Sorted(maps.Keys(media.Options)) {
		value := media.Options[name]
		switch name {
		case "file_type":
			o.fileType = value
		case "procedure":
			o.procedure = value
		case "class_id":
			if _, err := strconv.ParseUint(value, 10, 32); err != nil {
				bad(name, "is %q; give the category's number", value)
			}
			o.classID = value
		case "source_context":
			if len(value) > maxSourceContext {
				bad(name, "has %d bytes; the platform takes at most %d", len(value), maxSourceContext)
			}
			o.sourceContext = value
		case "session_context":
			if len(value) > maxSessionContext {
				bad(name, "has %d bytes; the platform takes at most %d", len(value), maxSessionContext)
			}
			o.sessionContext = value
		case "expire_time":
			if _, err := time.Parse(time.RFC3339, value); err != nil {
				bad(name, "is %q; give a time such as 2030-01-31T12:00:00Z", value)
			}
			o.expireTime = value
		case coverOption:
			o.coverType = extension(value)
			if !plain(o.coverType) {
				bad(name, "is %q; give the key of an image with an extension, such as cover.jpg", value)
			}
		default:
			bad(name, "is not known here; there are file_type, procedure, class_id, source_context, session_context, expire_time and cover")
		}
	}
	if !plain(o.fileType) {
		bad("file_type", "is %q; give the type without a dot, such as mp4, or a name with an extension", o.fileType)
	}
	return o, errors.Join(errs...)
}

// extension returns that of a name, without the dot and in lower case.
func extension(name string) string { return strings.ToLower(strings.TrimPrefix(path.Ext(name), ".")) }

// plain reports whether a type can be an extension.
func plain(kind string) bool { return kind != "" && !strings.ContainsAny(kind, `./\`) }

// CheckMedia says what of the options the platform would refuse.
func (c *Client) CheckMedia(media providers.Media) error {
	_, err := readOptions(media)
	return err
}

// api is the generation of the platform's API.
type api string

const (
	apiV2 api = "v2"
	apiV3 api = "3.0"
)

// Defaults of the settings.
const (
	defaultV2Endpoint = "https://vod.api.qcloud.com"
	defaultV3Endpoint = "https://vod.tencentcloudapi.com"
	defaultV2Region   = "gz"
	defaultV3Region   = "ap-guangzhou"
	defaultCOSSuffix  = "myqcloud.com"
)

// target is an account's settings, with defaults filled in.
type target struct {
	service

	cosEndpoint  string // scheme and host to connect to; "" for the bucket's own
	cosSuffix    string
	appID        string // for answers of API v2 that name none
	cosRegion    string // likewise
	storagePath  string // folder; "" leaves the place to the platform
	repeatCommit bool
	renew        bool
}

// service is where and as whom the platform's API is called.
type service struct {
	API       api    `json:"api"`
	Endpoint  string `json:"endpoint"` // scheme and host
	Region    string `json:"region"`
	SubAppID  string `json:"sub_app_id,omitempty"`
	SecretID  string `json:"secret_id"`
	SecretKey string `json:"secret_key"`
}

// readAccount reads the account's settings, or says what is wrong with them
// as joined *uploads.FieldError.
func readAccount(account providers.Account) (target, error) {
	t := target{service: service{API: apiV3}, cosSuffix: defaultCOSSuffix, repeatCommit: true, renew: true}
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
		case "api":
			t.API = api(value)
			if t.API != apiV2 && t.API != apiV3 {
				bad("settings.api", "is %q; give %s or %s", value, apiV2, apiV3)
			}
		case "endpoint":
			t.Endpoint = strings.TrimSuffix(value, "/")
			if !isOrigin(t.Endpoint) {
				bad("settings.endpoint", "is %q; give scheme and host only, such as %s", value, defaultV3Endpoint)
			}
		case "region":
			t.Region = value
		case "sub_app_id":
			t.SubAppID = value
			if _, err := strconv.ParseUint(value, 10, 64); err != nil {
				bad("settings.sub_app_id", "is %q; give the application's number", value)
			}
		case "cos_endpoint":
			t.cosEndpoint = strings.TrimSuffix(value, "/")
			if !isOrigin(t.cosEndpoint) {
				bad("settings.cos_endpoint", "is %q; give scheme and host only", value)
			}
		case "cos_suffix":
			t.cosSuffix = value
			if value == "" || strings.ContainsAny(value, "/:") {
				bad("settings.cos_suffix", "is %q; give a domain such as %s", value, defaultCOSSuffix)
			}
		case "cos_app_id":
			t.appID = value
		case "cos_region":
			t.cosRegion = value
		case "storage_path":
			t.storagePath = strings.Trim(value, "/")
			if t.storagePath == "" {
				bad("settings.storage_path", "is %q; give a folder such as media, or leave it out", value)
			}
		case "repeat_commit":
			t.repeatCommit = truth(name, value)
		case "renew":
			t.renew = truth(name, value)
		default:
			bad("settings."+name, "is not known here; there are api, endpoint, region, sub_app_id, cos_endpoint, "+
				"cos_suffix, cos_app_id, cos_region, storage_path, repeat_commit and renew")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(account.Secrets)) {
		value := account.Secrets[name]
		switch name {
		case "secret_id":
			t.SecretID = value.Reveal()
		case "secret_key":
			t.SecretKey = value.Reveal()
		default:
			bad("secrets."+name, "is not known here; there are secret_id and secret_key")
		}
	}
	if t.SecretID == "" {
		bad("secrets.secret_id", "is missing; give the account's SecretId")
	}
	if t.SecretKey == "" {
		bad("secrets.secret_key", "is missing; give the account's SecretKey")
	}
	endpoint, region := defaultV3Endpoint, defaultV3Region
	if t.API == apiV2 {
		endpoint, region = defaultV2Endpoint, defaultV2Region
	}
	if t.Endpoint == "" {
		t.Endpoint = endpoint
	}
	if t.Region == "" {
		t.Region = region
	}
	return t, errors.Join(errs...)
}

// isOrigin reports whether text is scheme and host and nothing else.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.Path == "" && u.RawQuery == "" && u.User == nil
}

// CheckAccount says what is wrong with the settings and secrets of an account.
func (c *Client) CheckAccount(account providers.Account) error {
	_, err := readAccount(account)
	return err
}
