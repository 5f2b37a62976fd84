package cdnetworks

import (
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/settings"
)

// maxName bounds a file name, its extension included, in characters.
const maxName = 40

// options are what a submission may ask of the platform, by the names in brackets.
type options struct {
	domain     string     // [domain] playback domain
	workflow   string     // [workflow_id] takes the place of the four below it
	watermark  string     // [watermark] name of one
	template   string     // [transcode_template] name of one
	subtitle   string     // [subtitle_id]
	categories []category // [categories] JSON list, as the platform takes it
	overwrite  *bool      // [overwrite] true or false; nil leaves it to the platform
}

type category struct {
	Child  string `json:"childName"`
	Parent string `json:"parentName"`
}

// readOptions reads the options of the media, or says what is wrong with them
// as joined *uploads.FieldError.
func readOptions(media providers.Media) (options, error) {
	var o options
	var r settings.Reader
	bad := func(name, format string, args ...any) { r.Bad("options."+name, format, args...) }
	for _, name := range slices.Sorted(maps.Keys(media.Options)) {
		value := media.Options[name]
		if value == "" {
			bad(name, "is empty; give a value or leave it out")
			continue
		}
		switch name {
		case "domain":
			o.domain = value
			if strings.ContainsAny(value, "/:?# ") {
				bad(name, "is %q; give a domain alone, such as play.example.com", value)
			}
		case "workflow_id":
			o.workflow = value
		case "watermark":
			o.watermark = value
		case "transcode_template":
			o.template = value
		case "subtitle_id":
			o.subtitle = value
		case "categories":
			var err error
			if o.categories, err = readCategories(value); err != nil {
				bad(name, `%v; give a list such as [{"parentName":"news","childName":"local"}]`, err)
			}
		case "overwrite":
			o.overwrite = new(r.Bool("options.overwrite", value))
		default:
			r.Unknown("options."+name, "domain", "workflow_id", "watermark", "transcode_template", "subtitle_id", "categories", "overwrite")
		}
	}
	if o.workflow != "" {
		for _, f := range []struct{ name, value string }{
			{"watermark", o.watermark},
			{"transcode_template", o.template},
			{"subtitle_id", o.subtitle},
		} {
			if f.value != "" {
				bad(f.name, "is overridden by workflow_id; give one of the two")
			}
		}
	}
	return o, r.Err()
}

func readCategories(value string) ([]category, error) {
	d := json.NewDecoder(strings.NewReader(value))
	d.DisallowUnknownFields()
	var list []category
	if err := d.Decode(&list); err != nil || d.More() {
		return nil, errors.New("is not a list of categories")
	}
	if len(list) == 0 || slices.ContainsFunc(list, func(c category) bool { return c.Parent == "" && c.Child == "" }) {
		return nil, errors.New("names no category")
	}
	return list, nil
}

// form returns the options as parameters of getUploadToken.
func (o options) form() url.Values {
	form := make(url.Values)
	set := func(name, value string) {
		if value != "" {
			form.Set(name, value)
		}
	}
	set("domain", o.domain)
	set("workflowId", o.workflow)
	set("waterMarkName", o.watermark)
	set("transCodeCombineName", o.template)
	set("subtitleId", o.subtitle)
	if len(o.categories) > 0 {
		text, _ := json.Marshal(o.categories) // strings always have a JSON form
		set("categoryNames", string(text))
	}
	if o.overwrite != nil {
		set("overwrite", flag(*o.overwrite))
	}
	return form
}

func flag(set bool) string {
	if set {
		return "1"
	}
	return "0"
}

// CheckMedia says what of the name and the options the platform would refuse.
// Nothing is shortened or replaced silently: the name is what viewers see.
func (c *Client) CheckMedia(media providers.Media) error {
	var r settings.Reader
	if n := utf8.RuneCountInString(media.Name); n > maxName {
		r.Bad("name", "has %d characters; the platform takes at most %d with the extension, so submit a shorter name", n, maxName)
	}
	if ext := path.Ext(media.Name); len(ext) < 2 || ext == media.Name {
		r.Bad("name", "%q has no extension; the platform wants one, so submit a name such as film.mp4", media.Name)
	}
	_, err := readOptions(media)
	return errors.Join(r.Err(), err)
}

// Defaults of the settings.
const (
	defaultEndpoint  = "https://api.cloudv.haplat.net"
	defaultListDelay = 10 * time.Minute
)

// chunkUnit is what a chunk's size must be a multiple of, in bytes: the
// strictest rule among the vendor's clients.
const chunkUnit = 64 << 10

// keyStyle is how the header Key gives the object's key.
type keyStyle string

const (
	keyBase64 keyStyle = "base64" // as the vendor's clients send it
	keyPlain  keyStyle = "plain"
)

// target is an account's settings, with defaults filled in.
type target struct {
	endpoint  string
	scheme    scheme
	keyStyle  keyStyle
	chunk     int64         // bytes
	listDelay time.Duration // until a finished video is surely listed
	playback  string        // base address of finished media, "" if not given
	accessKey string
	secretKey providers.Secret
}

// readAccount reads the account's settings, or says what is wrong with them
// as joined *uploads.FieldError.
func readAccount(account providers.Account) (target, error) {
	t := target{endpoint: defaultEndpoint, scheme: schemeWS3, keyStyle: keyBase64, chunk: blockSize, listDelay: defaultListDelay}
	var r settings.Reader
	for _, name := range slices.Sorted(maps.Keys(account.Settings)) {
		value := account.Settings[name]
		switch name {
		case "endpoint":
			t.endpoint = r.Origin("settings.endpoint", value, defaultEndpoint)
		case "auth_scheme":
			t.scheme = settings.OneOf(&r, "settings.auth_scheme", value, schemeWS3, schemeCNC)
		case "key_header":
			t.keyStyle = settings.OneOf(&r, "settings.key_header", value, keyBase64, keyPlain)
		case "chunk_size":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < chunkUnit || n > blockSize || n%chunkUnit != 0 {
				r.Bad("settings.chunk_size", "is %q; give bytes, a multiple of %d up to %d", value, chunkUnit, blockSize)
			}
			t.chunk = n
		case "list_delay":
			d, err := time.ParseDuration(value)
			if err != nil || d < 0 {
				r.Bad("settings.list_delay", "is %q; give a duration such as %s", value, defaultListDelay)
			}
			t.listDelay = d
		case "playback_url":
			t.playback = strings.TrimSuffix(value, "/")
			u, err := url.Parse(value)
			if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.User != nil {
				r.Bad("settings.playback_url", "is %q; give the address that file keys are appended to, such as https://play.example.com", value)
			}
		default:
			r.Unknown("settings."+name, "endpoint", "auth_scheme", "key_header", "chunk_size", "list_delay", "playback_url")
		}
	}
	secrets := r.Secrets(account.Secrets,
		settings.Secret{Name: "access_key", Words: "the account's AccessKey ID"},
		settings.Secret{Name: "secret_key", Words: "the account's SecretKey"})
	t.accessKey, t.secretKey = secrets[0].Reveal(), secrets[1]
	return t, r.Err()
}

// CheckAccount says what is wrong with the settings and secrets of an account.
func (c *Client) CheckAccount(account providers.Account) error {
	_, err := readAccount(account)
	return err
}
