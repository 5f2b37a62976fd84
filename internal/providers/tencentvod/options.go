package tencentvod

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/settings"
	"mediaferry/internal/providers/vodapi"
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
	var r settings.Reader
	for _, name := range slices.Sorted(maps.Keys(media.Options)) {
		value := media.Options[name]
		switch name {
		case "transcode":
			o.transcode = new(r.Bool("options."+name, value))
		case "screenshot":
			o.screenshot = new(r.Bool("options."+name, value))
		case "watermark":
			o.watermark = new(r.Bool("options."+name, value))
		case "class_id":
			o.classID = r.Number("options.class_id", value, 32, "the category's number")
		case "tags":
			o.tags = strings.Split(value, ",")
			if slices.Contains(o.tags, "") {
				r.Bad("options.tags", "is %q; give tags parted by commas, none of them empty", value)
			}
		case "file_type":
			o.fileType = value
		default:
			r.Unknown("options."+name, "transcode", "screenshot", "watermark", "class_id", "tags", "file_type")
		}
	}
	if o.fileType == "" || strings.ContainsAny(o.fileType, badNameChars+".") {
		r.Bad("options.file_type", "is %q; give the type without a dot, such as mp4, or a name with an extension", o.fileType)
	}
	o.fileName = media.Name
	if strings.EqualFold(ext, "."+o.fileType) {
		o.fileName = strings.TrimSuffix(media.Name, ext)
	}
	switch n := len(o.fileName); {
	case n == 0:
		r.Bad("name", "is %q, nothing before the extension; submit a longer name", media.Name)
	case n > maxNameBytes:
		r.Bad("name", "has %d bytes without its extension; the platform takes at most %d, so submit a shorter name (a letter outside ASCII counts 2 to 4)", n, maxNameBytes)
	}
	if strings.ContainsAny(o.fileName, badNameChars) {
		r.Bad("name", `is %q and has one of \ / : * ? " < >; the platform forbids them, so submit another name`, media.Name)
	}
	return o, r.Err()
}

// params adds the options to the parameters of an InitUpload.
func (o options) params(s vodapi.Style) vodapi.Params {
	p := vodapi.Params{"fileName": o.fileName, "fileType": o.fileType}
	for name, set := range map[string]*bool{"isTranscode": o.transcode, "isScreenshot": o.screenshot, "isWatermark": o.watermark} {
		if set != nil {
			p[name] = vodapi.Flag(*set)
		}
	}
	if o.classID != "" {
		p["classId"] = o.classID
	}
	spelling := "tags."
	if s == vodapi.StyleSDK {
		spelling = "tag."
	}
	for i, tag := range o.tags {
		p[spelling+strconv.Itoa(i+1)] = tag
	}
	return p
}

// CheckMedia says what of the name and the options the platform would refuse.
func (c *Client) CheckMedia(media providers.Media) error {
	_, err := readOptions(media)
	return err
}

// defaultRegion is what requests are signed for unless the settings say otherwise.
const defaultRegion = "gz"

// readAccount reads the account's settings into a session of no upload yet, or
// says what is wrong with them as joined *uploads.FieldError.
func readAccount(account providers.Account) (session, error) {
	s := session{Region: defaultRegion, Algorithm: vodapi.HmacSHA1}
	var r settings.Reader
	s.Target = vodapi.ReadTarget(&r, account.Settings)
	for _, name := range slices.Sorted(maps.Keys(account.Settings)) {
		switch value := account.Settings[name]; name {
		case vodapi.SettingEndpoint, vodapi.SettingPath, vodapi.SettingStyle:
		case "region":
			s.Region = value
			if value == "" {
				r.Bad("settings.region", "is empty; give a region such as %s, or leave it out", defaultRegion)
			}
		case "signature_method":
			s.Algorithm = settings.OneOf(&r, "settings.signature_method", value, vodapi.HmacSHA1, vodapi.HmacSHA256)
		default:
			r.Unknown("settings."+name, vodapi.SettingEndpoint, vodapi.SettingPath, vodapi.SettingStyle, "region", "signature_method")
		}
	}
	id, key := vodapi.ReadKey(&r, account.Secrets)
	s.SecretID, s.SecretKey = id, key.Reveal()
	return s, r.Err()
}

// CheckAccount says what is wrong with the settings and secrets of an account.
func (c *Client) CheckAccount(account providers.Account) error {
	_, err := readAccount(account)
	return err
}
