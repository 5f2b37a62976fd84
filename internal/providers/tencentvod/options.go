package tencentvod

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

// Bounds of the platform's fileName, which goes without the extension.
const (
	maxNameBytes = 40
	badNameChars = `\/:*?"<>`
)

// options are what a submission may ask of the platform, by the names in
// brackets. A nil flag leaves the choice to the platform.
type options struct {
	transcode  *bool    // [transcode] true or false
	screenshot *bool    // [screenshot] true or false
	watermark  *bool    // [watermark] true or false; one must be configured at the platform
	classID    string   // [class_id] category, a number
	tags       []string // [tags] parted by commas
	fileType   string   // [file_type] such as mp4; by default the name's extension
	fileName   string   // the media's name without its extension, where that is the file type
}

// readOptions reads the name and the options of the media, or says what the
// platform would refuse of them as joined *uploads.FieldError. Nothing is
// shortened or replaced silently: the name is what viewers see.
func readOptions(media providers.Media) (options, error) {
	ext := path.Ext(media.Name)
	o := options{fileType: strings.ToLower(strings.TrimPrefix(ext, "."))}
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &uploads.FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	truth := func(name, value string) *bool {
		b, err := strconv.ParseBool(value)
		if err != nil {
			bad("options."+name, "is %q; give true or false", value)
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
				bad("options.class_id", "is %q; give the category's number", value)
			}
			o.classID = value
		case "tags":
			o.tags = strings.Split(value, ",")
			if slices.Contains(o.tags, "") {
				bad("options.tags", "is %q; give tags parted by commas, none of them empty", value)
			}
		case "file_type":
			o.fileType = value
		default:
			bad("options."+name, "is not known here; there are transcode, screenshot, watermark, class_id, tags and file_type")
		}
	}
	if o.fileType == "" || strings.ContainsAny(o.fileType, badNameChars+".") {
		bad("options.file_type", "is %q; give the type without a dot, such as mp4, or a name with an extension", o.fileType)
	}
	o.fileName = media.Name
	if strings.EqualFold(ext, "."+o.fileType) {
		o.fileName = strings.TrimSuffix(media.Name, ext)
	}
	switch n := len(o.fileName); {
	case n == 0:
		bad("name", "is %q, nothing before the extension; submit a longer name", media.Name)
	case n > maxNameBytes:
		bad("name", "has %d bytes without its extension; the platform takes at most %d, so submit a shorter name (a letter outside ASCII counts 2 to 4)", n, maxNameBytes)
	}
	if strings.ContainsAny(o.fileName, badNameChars) {
		bad("name", `is %q and has one of \ / : * ? " < >; the platform forbids them, so submit another name`, media.Name)
	}
	return o, errors.Join(errs...)
}

// params adds the options to those of an InitUpload.
func (o options) params(s style) params {
	p := params{"fileName": o.fileName, "fileType": o.fileType}
	for name, set := range map[string]*bool{"isTranscode": o.transcode, "isScreenshot": o.screenshot, "isWatermark": o.watermark} {
		if set != nil {
			p[name] = flag(*set)
		}
	}
	if o.classID != "" {
		p["classId"] = o.classID
	}
	spelling := "tags."
	if s == styleSDK {
		spelling = "tag."
	}
	for i, tag := range o.tags {
		p[spelling+strconv.Itoa(i+1)] = tag
	}
	return p
}

func flag(set bool) string {
	if set {
		return "1"
	}
	return "0"
}

// CheckMedia says what of the name and the options the platform would refuse.
func (c *Client) CheckMedia(media providers.Media) error {
	_, err := readOptions(media)
	return err
}

// Defaults of the settings.
const (
	defaultEndpoint = "https://vod2.qcloud.com"
	defaultPath     = "/v2/index.php"
	defaultRegion   = "gz"
)

// style is how parameters travel: as documented (GET for calls without a body,
// tags.n), or as the vendor's clients send them (POST, tag.n).
type style string

const (
	styleDocumented style = "documented"
	styleSDK        style = "sdk"
)

// target is where an account's calls go and what signs them. It is part of the
// session, since every call is signed by itself.
type target struct {
	Endpoint  string    `json:"endpoint"` // scheme and host
	Path      string    `json:"path"`
	Style     style     `json:"style"`
	Region    string    `json:"region"`
	Algorithm algorithm `json:"algorithm"`
	SecretID  string    `json:"secret_id"`
	SecretKey string    `json:"secret_key"`
}

// readAccount reads the account's settings, or says what is wrong with them
// as joined *uploads.FieldError.
func readAccount(account providers.Account) (target, error) {
	t := target{Endpoint: defaultEndpoint, Path: defaultPath, Style: styleDocumented, Region: defaultRegion, Algorithm: hmacSHA1}
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &uploads.FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	for _, name := range slices.Sorted(maps.Keys(account.Settings)) {
		value := account.Settings[name]
		switch name {
		case "endpoint":
			t.Endpoint = strings.TrimSuffix(value, "/")
			u, err := url.Parse(t.Endpoint)
			if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
				bad("settings.endpoint", "is %q; give scheme and host only, such as %s", value, defaultEndpoint)
			}
		case "path":
			t.Path = value
			if !strings.HasPrefix(value, "/") || strings.ContainsAny(value, "?#%") {
				bad("settings.path", "is %q; give a path such as %s", value, defaultPath)
			}
		case "param_style":
			t.Style = style(value)
			if t.Style != styleDocumented && t.Style != styleSDK {
				bad("settings.param_style", "is %q; give %s or %s", value, styleDocumented, styleSDK)
			}
		case "region":
			t.Region = value
			if value == "" {
				bad("settings.region", "is empty; give a region such as %s, or leave it out", defaultRegion)
			}
		case "signature_method":
			t.Algorithm = algorithm(value)
			if t.Algorithm != hmacSHA1 && t.Algorithm != hmacSHA256 {
				bad("settings.signature_method", "is %q; give %s or %s", value, hmacSHA1, hmacSHA256)
			}
		default:
			bad("settings."+name, "is not known here; there are endpoint, path, param_style, region and signature_method")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(account.Secrets)) {
		value := account.Secrets[name].Reveal()
		switch name {
		case "secret_id":
			t.SecretID = value
		case "secret_key":
			t.SecretKey = value
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
