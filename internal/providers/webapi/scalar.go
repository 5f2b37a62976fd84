package webapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Text is a JSON string that is an id, an address or the like, or the text of a
// number or a boolean: documents and clients do not agree on which they are.
// With a control character in it, it is none of these, and no answer.
type Text string

// UnmarshalJSON reads any scalar; null leaves the text as it is.
func (t *Text) UnmarshalJSON(raw []byte) error {
	switch {
	case bytes.Equal(raw, []byte("null")):
	case raw[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("text: %w", err)
		}
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errors.New("text has a control character in it") // what it says may be secret
		}
		*t = Text(s)
	case raw[0] == '{' || raw[0] == '[':
		return errors.New("a JSON scalar was expected") // its content may be secret
	default:
		*t = Text(raw)
	}
	return nil
}

// Int is a whole JSON number that some answers give as a string.
type Int int

// UnmarshalJSON takes both forms; null leaves the number as it is.
func (n *Int) UnmarshalJSON(raw []byte) error {
	var text Text
	if err := text.UnmarshalJSON(raw); err != nil || text == "" && string(raw) == "null" {
		return err
	}
	v, err := strconv.Atoi(string(text))
	if err != nil {
		return errors.New("a whole number was expected")
	}
	*n = Int(v)
	return nil
}
