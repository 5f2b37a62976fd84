package wire

import "time"

// Presign asks for a URL by which a file is put into staging.
type Presign struct {
	Name           string `json:"name" doc:"the file's name, without a path; the key is made here"`
	Size           int64  `json:"size" doc:"bytes, exactly; at most 5 GiB"`
	ContentType    string `json:"content_type,omitempty"`
	SHA256         string `json:"sha256,omitempty" doc:"of the bytes, 64 hex digits; staging refuses others then"`
	ExpiresSeconds int64  `json:"expires_seconds,omitempty" doc:"how long the URL is good for, up to 604800 (7 days); an hour if left out"`
}

// Presigned is a request that stores the file. Whoever has the URL can make it.
type Presigned struct {
	Method    string            `json:"method" enum:"PUT"`
	URL       string            `json:"url"`
	Headers   map[string]string `json:"headers" doc:"go with the request as they are"`
	ExpiresAt time.Time         `json:"expires_at" doc:"the request must begin before"`
	Source    Source            `json:"source" doc:"where the file will be: the source of a submission"`
}
