package wire

import "time"

// BatchSubmission asks for one staging object, or each one below a prefix, or
// several of both, to be brought to several accounts: an upload for each.
type BatchSubmission struct {
	Accounts       []string                     `json:"accounts" doc:"names of configured accounts; each gets uploads of its own"`
	Source         BatchSource                  `json:"source,omitzero" doc:"one object, or those below one prefix. Either it or sources is given"`
	Sources        []BatchSource                `json:"sources,omitempty" doc:"up to 10,000 objects and prefixes. What an account cannot take of them is listed as rejected, and the rest is accepted"`
	Name           string                       `json:"name,omitempty" doc:"file name at the platforms; the key's last element if empty. Not with a prefix or sources"`
	ContentType    string                       `json:"content_type,omitempty"`
	Options        map[string]string            `json:"options,omitempty" doc:"options for the providers of all accounts"`
	AccountOptions map[string]map[string]string `json:"account_options,omitempty" doc:"options for the provider of one account, by its name; they go before options"`
	Labels         map[string]string            `json:"labels,omitempty" doc:"kept and returned, for your reports"`
	Priority       int                          `json:"priority,omitempty" doc:"higher goes first, -100 to 100"`
	NotBefore      time.Time                    `json:"not_before,omitzero" doc:"nothing is sent before this time"`
	IdempotencyKey string                       `json:"idempotency_key,omitempty" doc:"unique per tenant among batches: the same key and content is the same batch"`
	Digests        []string                     `json:"digests,omitempty" doc:"what is known of the bytes, as kind:hex. Not with a prefix or sources"`
}

// BatchSource names one object by its key, or those below a prefix.
type BatchSource struct {
	Bucket  string  `json:"bucket" doc:"staging bucket"`
	Key     string  `json:"key,omitempty" doc:"key in the bucket; either it or prefix is given"`
	Prefix  *string `json:"prefix,omitempty" doc:"what the keys begin with; empty for the whole bucket"`
	Match   string  `json:"match,omitempty" doc:"with a prefix: only keys that this pattern selects, in which * is any text without a slash, ? one character, [a-z] one of these"`
	Version string  `json:"version,omitempty" doc:"version id of the one object; the latest if empty"`
	ETag    string  `json:"etag,omitempty" doc:"refuse the submission if the one object has another one by now"`

	Name        string `json:"name,omitempty" doc:"in sources: file name of the one object at the platforms; the key's last element if empty"`
	ContentType string `json:"content_type,omitempty" doc:"in sources: before that of the batch"`
}

// Batch is uploads that were submitted together.
type Batch struct {
	ID             string       `json:"id"`
	Tenant         string       `json:"tenant"`
	IdempotencyKey string       `json:"idempotency_key,omitempty"`
	Source         *BatchSource `json:"source,omitempty" doc:"missing where several were named, or lines or a prefix were submitted for one account"`
	Accounts       []string     `json:"accounts" doc:"that have uploads of the batch"`
	Uploads        int          `json:"uploads" doc:"as submitted"`
	Bytes          int64        `json:"bytes" doc:"of their objects, each counted for each account"`
	SubmittedAt    time.Time    `json:"submitted_at"`
	Rejected       int          `json:"rejected" doc:"objects that were not taken, each counted for each account"`
	FirstRejected  []Rejected   `json:"first_rejected,omitempty" doc:"up to a hundred of them"`

	States     map[string]BatchPart `json:"states,omitempty" doc:"how its uploads stand, by state; not in lists"`
	AckedBytes int64                `json:"acked_bytes" doc:"of bytes, what the platforms have acknowledged; 0 in lists"`
	Open       int                  `json:"open" doc:"uploads that have not come to rest; 0 in lists"`
}

// BatchPart is those uploads of a batch that are in one state.
type BatchPart struct {
	Uploads int   `json:"uploads"`
	Bytes   int64 `json:"bytes"`
}

// BatchList is a page of batches, newest first.
type BatchList struct {
	Batches []Batch `json:"batches"`
	Next    string  `json:"next,omitempty" doc:"give it as after for the next page; missing on the last"`
}
