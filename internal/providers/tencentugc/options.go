package tencentugc

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"mediaferry/internal/hashing"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// Bounds of the platform.
const (
	maxNameBytes = 40
	maxTags      = 10
	badNameChars = `\/:*?"<>`
)

// options are what a submission may ask of the platform, by the names in
// brackets. A nil flag leaves the choice to the platform.
type options struct {
	transcode  *bool    // [transcode] true or false
	screenshot *bool    // [screenshot] only with transcode
	watermark  *bool    // [watermark] only with transcode
	classID    string   // [class_id] category, a number
	tags       []string // [tags] up to ten, parted by commas
	fileType   string   // [file_type] such as mp4; by default the name's extension
}

// readOptions reads the options of the media, or says what is wrong with them
// as joined *uploads.FieldError.
func readOptions(media providers.Media) (options, error) {
	o := options{fileType: strings.ToLower(strings.TrimPrefix(path.Ext(media.Name), "."))}
	var errs []error
	bad := func(name, format string, args ...any) {
		errs = append(errs, &uploads.FieldError{Field: "options." + name, Detail: fmt.Sprintf(format, args...)})
	}
	truth := func(name, value string) *bool {
		b, err := strconv.ParseBool(value)
		if err != nil {
			bad(name, "is %q; give true or false", value)
		}
		return &b
	}
	for _, name := range slices.Sorted(maps.Keys(media.Options)) {
		value := media.Options[name]
		switch name {
		case "transcode":
			o.transcode = truth(name, value)
		case "screenshot":
			o.screenshot = truth(name, value)
		case "watermark":
			o.watermark = truth(name, value)
		case "class_id":
			if _, err := strconv.ParseUint(value, 10, 32); err != nil {
				bad(name, "is %q; give the category's number", value)
			}
			o.classID = value
		case "tags":
			o.tags = strings.Split(value, ",")
			if len(o.tags) > maxTags || slices.Contains(o.tags, "") {
				bad(name, "is %q; give 1 to %d tags, parted by commas", value, maxTags)
			}
		case "file_type":
			o.fileType = value
		default:
			bad(name, "is not known here; there are transcode, screenshot, watermark, class_id, tags and file_type")
		}
	}
	transcodes := o.transcode != nil && *o.transcode
	for _, f := range []struct {
		name string
		set  *bool
	}{{"screenshot", o.screenshot}, {"watermark", o.watermark}} {
		if f.set != nil && *f.set && !transcodes {
			bad(f.name, "needs transcode; set options.transcode to true as well")
		}
	}
	if o.fileType == "" || strings.ContainsAny(o.fileType, badNameChars+".") {
		bad("file_type", "is %q; give the type without a dot, such as mp4, or a name with an extension", o.fileType)
	}
	return o, errors.Join(errs...)
}

// CheckMedia says what of the name and the options the platform would refuse.
// Nothing is shortened or replaced silently: the name is what viewers see.
func (c *Client) CheckMedia(media providers.Media) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, &uploads.FieldError{Field: "name", Detail: fmt.Sprintf(format, args...)})
	}
	if n := len(media.Name); n > maxNameBytes {
		bad("has %d bytes; the platform takes at most %d, so submit a shorter name (a letter outside ASCII counts 2 to 4)", n, maxNameBytes)
	}
	if strings.ContainsAny(media.Name, badNameChars) {
		bad(`%q has one of \ / : * ? " < >; the platform forbids them, so submit another name`, media.Name)
	}
	_, err := readOptions(media)
	return errors.Join(append(errs, err)...)
}

// Defaults of the settings.
const (
	defaultEndpoint = "https://vod2.qcloud.com"
	defaultPath     = "/v2/index.php"
)

// style is how parameters travel: as documented (GET for calls without a
// body, "signature"), or as the vendor's SDKs send them (POST, "Signature").
type style string

const (
	styleDocumented style = "documented"
	styleSDK        style = "sdk"
)

// target is an account's settings, with defaults filled in.
type target struct {
	endpoint  string
	path      string
	style     style
	uid       string
	secretID  string
	secretKey providers.Secret
}

// readAccount reads the account's settings, or says what is wrong with them
// as joined *uploads.FieldError.
func readAccount(account providers.Account) (target, error) {
	t := target{endpoint: defaultEndpoint, path: defaultPath, style: styleDocumented, uid: account.Name}
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &uploads.FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	for _, name := range slices.Sorted(maps.Keys(account.Settings)) {
		value := account.Settings[name]
		switch name {
		case "endpoint":
			t.endpoint = strings.TrimSuffix(value, "/")
			u, err := url.Parse(t.endpoint)
			if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
				bad("settings.endpoint", "is %q; give scheme and host only, such as %s", value, defaultEndpoint)
			}
		case "path":
			t.path = value
			if !strings.HasPrefix(value, "/") || strings.ContainsAny(value, "?#") {
				bad("settings.path", "is %q; give a path such as %s", value, defaultPath)
			}
		case "param_style":
			t.style = style(value)
			if t.style != styleDocumented && t.style != styleSDK {
				bad("settings.param_style", "is %q; give %s or %s", value, styleDocumented, styleSDK)
			}
		case "uid":
			t.uid = value
		default:
			bad("settings."+name, "is not known here; there are endpoint, path, param_style and uid")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(account.Secrets)) {
		value := account.Secrets[name]
		switch name {
		case "secret_id":
			t.secretID = value.Reveal()
		case "secret_key":
			t.secretKey = value
		default:
			bad("secrets."+name, "is not known here; there are secret_id and secret_key")
		}
	}
	if t.secretID == "" {
		bad("secrets.secret_id", "is missing; give the account's SecretId")
	}
	if t.secretKey == "" {
		bad("secrets.secret_key", "is missing; give the account's SecretKey")
	}
	return t, errors.Join(errs...)
}

// CheckAccount says what is wrong with the settings and secrets of an account.
func (c *Client) CheckAccount(account providers.Account) error {
	_, err := readAccount(account)
	return err
}

// objectSHA returns the whole-object SHA-1 that the platform knows media by.
func objectSHA(media providers.Media) (string, error) {
	d := media.Digest(hashing.SHA1)
	if d.IsZero() {
		return "", errors.New("the SHA-1 of the object is not known")
	}
	return d.Sum, nil
}
