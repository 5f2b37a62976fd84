package tencentcos

import (
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/settings"
	"mediaferry/internal/providers/vodapi"
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
	var r settings.Reader
	bad := func(name, format string, args ...any) { r.Bad("options."+name, format, args...) }
	for _, name := range slices.Sorted(maps.Keys(media.Options)) {
		value := media.Options[name]
		switch name {
		case "file_type":
			o.fileType = value
		case "procedure":
			o.procedure = value
		case "class_id":
			o.classID = r.Number("options.class_id", value, 32, "the category's number")
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
			r.Unknown("options."+name, "file_type", "procedure", "class_id", "source_context", "session_context", "expire_time", "cover")
		}
	}
	if !plain(o.fileType) {
		bad("file_type", "is %q; give the type without a dot, such as mp4, or a name with an extension", o.fileType)
	}
	return o, r.Err()
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
	var r settings.Reader
	for _, name := range slices.Sorted(maps.Keys(account.Settings)) {
		value := account.Settings[name]
		switch name {
		case "api":
			t.API = settings.OneOf(&r, "settings.api", value, apiV2, apiV3)
		case "endpoint":
			t.Endpoint = r.Origin("settings.endpoint", value, defaultV3Endpoint)
		case "region":
			t.Region = value
		case "sub_app_id":
			t.SubAppID = r.Number("settings.sub_app_id", value, 64, "the application's number")
		case "cos_endpoint":
			t.cosEndpoint = r.Origin("settings.cos_endpoint", value, "")
		case "cos_suffix":
			t.cosSuffix = value
			if value == "" || strings.ContainsAny(value, "/:") {
				r.Bad("settings.cos_suffix", "is %q; give a domain such as %s", value, defaultCOSSuffix)
			}
		case "cos_app_id":
			t.appID = value
		case "cos_region":
			t.cosRegion = value
		case "storage_path":
			t.storagePath = strings.Trim(value, "/")
			if t.storagePath == "" {
				r.Bad("settings.storage_path", "is %q; give a folder such as media, or leave it out", value)
			}
		case "repeat_commit":
			t.repeatCommit = r.Bool("settings."+name, value)
		case "renew":
			t.renew = r.Bool("settings."+name, value)
		default:
			r.Unknown("settings."+name, "api", "endpoint", "region", "sub_app_id", "cos_endpoint", "cos_suffix", "cos_app_id", "cos_region", "storage_path", "repeat_commit", "renew")
		}
	}
	id, key := vodapi.ReadKey(&r, account.Secrets)
	t.SecretID, t.SecretKey = id, key.Reveal()
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
	return t, r.Err()
}

// CheckAccount says what is wrong with the settings and secrets of an account.
func (c *Client) CheckAccount(account providers.Account) error {
	_, err := readAccount(account)
	return err
}
