package tencentugc

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/settings"
	"mediaferry/internal/providers/vodapi"
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
	var r settings.Reader
	bad := func(name, format string, args ...any) { r.Bad("options."+name, format, args...) }
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
			if len(o.tags) > maxTags || slices.Contains(o.tags, "") {
				bad(name, "is %q; give 1 to %d tags, parted by commas", value, maxTags)
			}
		case "file_type":
			o.fileType = value
		default:
			r.Unknown("options."+name, "transcode", "screenshot", "watermark", "class_id", "tags", "file_type")
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
	return o, r.Err()
}

// CheckMedia says what of the name and the options the platform would refuse.
// Nothing is shortened or replaced silently: the name is what viewers see.
func (c *Client) CheckMedia(media providers.Media) error {
	var r settings.Reader
	if n := len(media.Name); n > maxNameBytes {
		r.Bad("name", "has %d bytes; the platform takes at most %d, so submit a shorter name (a letter outside ASCII counts 2 to 4)", n, maxNameBytes)
	}
	if strings.ContainsAny(media.Name, badNameChars) {
		r.Bad("name", `%q has one of \ / : * ? " < >; the platform forbids them, so submit another name`, media.Name)
	}
	_, err := readOptions(media)
	return errors.Join(r.Err(), err)
}

// target is an account's settings, with defaults filled in.
type target struct {
	vodapi.Target

	uid       string
	secretID  string
	secretKey providers.Secret
}

// readAccount reads the account's settings, or says what is wrong with them
// as joined *uploads.FieldError.
func readAccount(account providers.Account) (target, error) {
	t := target{uid: account.Name}
	var r settings.Reader
	t.Target = vodapi.ReadTarget(&r, account.Settings)
	for _, name := range slices.Sorted(maps.Keys(account.Settings)) {
		switch value := account.Settings[name]; name {
		case vodapi.SettingEndpoint, vodapi.SettingPath, vodapi.SettingStyle:
		case "uid":
			t.uid = value
		default:
			r.Unknown("settings."+name, vodapi.SettingEndpoint, vodapi.SettingPath, vodapi.SettingStyle, "uid")
		}
	}
	t.secretID, t.secretKey = vodapi.ReadKey(&r, account.Secrets)
	return t, r.Err()
}

// CheckAccount says what is wrong with the settings and secrets of an account.
func (c *Client) CheckAccount(account providers.Account) error {
	_, err := readAccount(account)
	return err
}
