package upstreams

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
)

// cosRefusal is an error of the storage's XML API.
type cosRefusal struct {
	XMLName   xml.Name `xml:"Error"`
	status    int
	Code      string `xml:"Code"`
	Message   string `xml:"Message"`
	Resource  string `xml:"Resource"`
	RequestID string `xml:"RequestId"`
	TraceID   string `xml:"TraceId"`
}

func cosRefuse(code, format string, args ...any) *cosRefusal {
	return &cosRefusal{status: cosStatus(code), Code: code, Message: fmt.Sprintf(format, args...)}
}

// cosStatus returns the HTTP status that goes with a code.
func cosStatus(code string) int {
	switch code {
	case "AccessDenied", "InvalidAccessKeyId", "RequestTimeTooSkewed", "SignatureDoesNotMatch":
		return http.StatusForbidden
	case "NoSuchBucket", "NoSuchKey", "NoSuchUpload":
		return http.StatusNotFound
	case "MethodNotAllowed":
		return http.StatusMethodNotAllowed
	case "PathConflict", "UploadConflict":
		return http.StatusConflict
	case "MissingContentLength":
		return http.StatusLengthRequired
	case "InternalError":
		return http.StatusInternalServerError
	case "ServiceUnavailable", "SlowDown":
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadRequest
	}
}

type cosInitiated struct {
	XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
	Bucket   string
	Key      string
	UploadID string `xml:"UploadId"`
}

type cosCompleted struct {
	XMLName  xml.Name `xml:"http://www.qcloud.com/document/product/436/7751 CompleteMultipartUploadResult"`
	Location string
	Bucket   string
	Key      string
	ETag     string
}

type cosPerson struct {
	ID          string
	DisplayName string
}

type cosListedParts struct {
	XMLName              xml.Name `xml:"ListPartsResult"`
	Bucket               string
	EncodingType         string `xml:"Encoding-type,omitempty"`
	Key                  string
	UploadID             string `xml:"UploadId"`
	Initiator            cosPerson
	Owner                cosPerson
	PartNumberMarker     int
	Parts                []cosListedPart `xml:"Part"`
	NextPartNumberMarker int             `xml:",omitempty"`
	StorageClass         string
	MaxParts             int
	IsTruncated          bool
}

type cosListedPart struct {
	PartNumber   int
	LastModified string
	ETag         string
	Size         int64
}

type cosListedUploads struct {
	XMLName            xml.Name `xml:"ListMultipartUploadsResult"`
	Bucket             string
	EncodingType       string `xml:"Encoding-Type,omitempty"`
	KeyMarker          string
	UploadIDMarker     string `xml:"UploadIdMarker"`
	NextKeyMarker      string `xml:",omitempty"`
	NextUploadIDMarker string `xml:"NextUploadIdMarker,omitempty"`
	MaxUploads         int
	Prefix             string
	Delimiter          string
	IsTruncated        bool
	Uploads            []cosListedUpload `xml:"Upload"`
}

type cosListedUpload struct {
	Key          string
	UploadID     string `xml:"UploadId"`
	Initiator    cosPerson
	Owner        cosPerson
	StorageClass string
	Initiated    string
}

// cosComplete is the body of a completion; its elements come in either order.
type cosComplete struct {
	XMLName xml.Name          `xml:"CompleteMultipartUpload"`
	Parts   []cosCompletePart `xml:"Part"`
}

type cosCompletePart struct {
	PartNumber int
	ETag       string
}

// parseCOSComplete reads the list of parts to be put together.
func parseCOSComplete(body []byte) ([]cosCompletePart, error) {
	var c cosComplete
	if err := xml.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("part list: %w", err)
	}
	if len(c.Parts) == 0 {
		return nil, errors.New("part list: no part is named")
	}
	return c.Parts, nil
}
