package cdnetworks

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// defaultTokenLife is taken for a token that does not tell its own.
const defaultTokenLife = time.Hour

// lastDeadline is the end of the year 9999, beyond which times have no text form.
const lastDeadline = 253402300799999

// number is a JSON number that some answers give as a string.
type number string

// UnmarshalJSON takes both forms, and null as none.
func (n *number) UnmarshalJSON(text []byte) error {
	s := strings.Trim(string(text), `"`)
	if s == "null" || s == "" {
		*n = ""
		return nil
	}
	if _, err := strconv.ParseInt(s, 10, 64); err != nil {
		return fmt.Errorf("%q is not a whole number", s)
	}
	*n = number(s)
	return nil
}

// value returns the number, 0 where there is none.
func (n number) value() int64 {
	v, err := strconv.ParseInt(string(n), 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// policy is what an upload token grants, as far as it concerns us.
type policy struct {
	Scope     string `json:"scope"`    // bucket:key
	Deadline  number `json:"deadline"` // milliseconds since 1970
	Overwrite number `json:"overwrite"`
	ReturnURL string `json:"returnUrl"`
}

// readPolicy reads the third field of a token. No error of it quotes the token.
func readPolicy(token string) (policy, error) {
	fields := strings.Split(token, ":")
	if len(fields) != 3 {
		return policy{}, fmt.Errorf("the token has %d fields, not 3", len(fields))
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(fields[2], "="))
	if err != nil {
		return policy{}, errors.New("the token's policy is not Base64")
	}
	var p policy
	if err := json.Unmarshal(raw, &p); err != nil {
		return policy{}, errors.New("the token's policy is not the JSON of one")
	}
	return p, nil
}

// expires returns when the token lapses.
func (p policy) expires(now time.Time) time.Time {
	ms := p.Deadline.value()
	if ms <= 0 || ms > lastDeadline {
		return now.Add(defaultTokenLife)
	}
	return time.UnixMilli(ms).UTC()
}

// replaces reports whether a form upload under the token may be repeated: it
// then replaces what an earlier one left, and is answered in place.
func (p policy) replaces() bool { return p.Overwrite == "1" && p.ReturnURL == "" }
