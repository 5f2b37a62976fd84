package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mediaferry/client"
)

// The columns of each kind of record.

func uploadColumns() []column[client.Upload] {
	return []column[client.Upload]{
		{"ID", "id", nil},
		{"STATE", "state", stateText},
		{"ACCOUNT", "account", nil},
		{"", "provider", nil},
		{"", "batch", nil},
		{"SENT", "acked_bytes", func(u client.Upload) string { return bytesText(u.AckedBytes) }},
		{"SIZE", "source.size", func(u client.Upload) string { return bytesText(u.Source.Size) }},
		{"NAME", "name", nil},
		{"", "source.bucket", nil},
		{"", "source.key", nil},
		{"", "priority", nil},
		{"", "labels", nil},
		{"", "paused", nil},
		{"", "epoch", nil},
		{"", "part_count", nil},
		{"", "acked_parts", nil},
		{"", "asset.id", nil},
		{"", "asset.url", nil},
		{"", "failure.cause", nil},
		{"", "failure.message", nil},
		{"SUBMITTED", "submitted_at", func(u client.Upload) string { return u.SubmittedAt.Format(time.RFC3339) }},
		{"", "finished_at", nil},
	}
}

func changedColumns() []column[client.Changed] {
	return []column[client.Changed]{{field: "dry_run"}, {field: "matched"}, {field: "changed"}, {field: "first"}}
}

func accountColumns(now func() time.Time) []column[client.Account] {
	size := func(of func(client.Account) int64) func(client.Account) string {
		return func(a client.Account) string { return bytesText(of(a)) }
	}
	return []column[client.Account]{
		{"ACCOUNT", "name", nil},
		{"PROVIDER", "provider", nil},
		{"POOL", "pool", nil},
		{"ACTIVE", "active", nil},
		{"IN FLIGHT", "in_flight", size(func(a client.Account) int64 { return a.InFlight })},
		{"WINDOW", "window", size(func(a client.Account) int64 { return a.Window })},
		{"OF", "max_window", size(func(a client.Account) int64 { return a.MaxWindow })},
		{"PER SECOND", "goodput", size(func(a client.Account) int64 { return a.Goodput })},
		{"HELD", "held", func(a client.Account) string { return heldText(a.Held, now()) }},
		{"PAUSED", "paused", func(a client.Account) string { return scopes(a.Pauses) }},
	}
}

func checkColumns() []column[client.AccountCheck] {
	return []column[client.AccountCheck]{
		{"ACCOUNT", "account", nil},
		{"PROVIDER", "provider", nil},
		{"CREDENTIALS", "result", nil},
		{"TOOK", "took_seconds", func(c client.AccountCheck) string { return fmt.Sprintf("%.2f s", c.TookSeconds) }},
		{"DETAIL", "detail", nil},
		{"", "at", nil},
	}
}

func tenantColumns() []column[client.Tenant] {
	return []column[client.Tenant]{{field: "name"}, {field: "paused"}, {field: "accounts"}}
}

func explanationColumns() []column[client.Explanation] {
	return []column[client.Explanation]{
		{field: "upload"}, {field: "state"}, {field: "cause"}, {field: "summary"}, {field: "waits_for"}, {field: "next"}, {field: "next_at"}, {field: "facts"},
	}
}

func linkColumns() []column[client.DigestLink] {
	return []column[client.DigestLink]{
		{"EPOCH", "epoch", nil},
		{"STAGE", "stage", nil},
		{"WHAT", "part", func(l client.DigestLink) string {
			if l.Part > 0 {
				return fmt.Sprintf("part %d", l.Part)
			}
			return "object"
		}},
		{"KIND", "kind", func(l client.DigestLink) string { return l.Kind }},
		{"RESULT", "matched", resultText},
		{"", "compared", nil},
		{"EXPECTED", "expected", func(l client.DigestLink) string { return saidBy(l.Expected, l.ExpectedFrom) }},
		{"", "expected_from", nil},
		{"GOT", "got", func(l client.DigestLink) string { return saidBy(l.Got, l.GotFrom) }},
		{"", "got_from", nil},
		{"NOTE", "note", func(l client.DigestLink) string { return l.Note }},
		{"", "at", nil},
	}
}

func findingColumns() []column[client.Finding] {
	return []column[client.Finding]{
		{"UPLOAD", "upload", nil},
		{"ACCOUNT", "account", nil},
		{"STATE", "state", nil},
		{"LEDGER", "ledger_parts", func(f client.Finding) string { return fmt.Sprintf("%d/%d", f.LedgerParts, f.PartCount) }},
		{"", "part_count", nil},
		{"PLATFORM", "holding", func(f client.Finding) string {
			if f.Listed {
				return fmt.Sprintf("%s, %d parts", f.Holding, f.PlatformParts)
			}
			return f.Holding
		}},
		{"", "platform_parts", nil},
		{"ACTION", "action", nil},
		{"EVIDENCE", "evidence", func(f client.Finding) string { return f.Evidence }},
	}
}

func setAsideColumns() []column[client.SetAside] {
	return []column[client.SetAside]{
		{"NUMBER", "number", nil},
		{"AT", "at", func(m client.SetAside) string { return m.At.Format(time.RFC3339) }},
		{"STREAM", "stream", nil},
		{"SUBJECT", "subject", nil},
		{"BYTES", "size", nil},
		{"REASON", "reason", nil},
		{"", "worker", nil},
	}
}

func tokenColumns() []column[client.Token] {
	return []column[client.Token]{
		{"ID", "id", nil},
		{"BEGINS", "prefix", nil},
		{"NAME", "name", nil},
		{"TENANT", "tenant", func(t client.Token) string { return cmp.Or(t.Tenant, "(all)") }},
		{"SCOPES", "scopes", nil},
		{"EXPIRES", "expires_at", func(t client.Token) string { return timeText(t.ExpiresAt, "never") }},
		{"LAST USED", "last_used_at", func(t client.Token) string { return timeText(t.LastUsedAt, "never") }},
		{"REVOKED", "revoked_at", func(t client.Token) string { return timeText(t.RevokedAt, "") }},
	}
}

func newTokenColumns() []column[client.NewToken] {
	return []column[client.NewToken]{{field: "token.id"}, {field: "token.name"}, {field: "secret"}}
}

func webhookColumns() []column[client.Webhook] {
	return []column[client.Webhook]{
		{"NAME", "name", nil},
		{"EVENTS", "types", func(e client.Webhook) string { return cmp.Or(strings.Join(e.Types, ","), "all") }},
		{"STATE", "", func(e client.Webhook) string {
			switch {
			case !e.DisabledAt.IsZero():
				return "disabled " + e.DisabledAt.Format(time.RFC3339)
			case !e.FailingSince.IsZero():
				return "fails since " + e.FailingSince.Format(time.RFC3339)
			default:
				return "works"
			}
		}},
		{"", "disabled_at", nil},
		{"", "failing_since", nil},
		{"PENDING", "pending", nil},
		{"GIVEN UP", "given_up", nil},
		{"LAST ERROR", "last_error", func(e client.Webhook) string { return e.LastError }},
	}
}

func reportColumns() []column[client.Report] {
	return []column[client.Report]{{"NAME", "name", nil}, {"QUESTION", "question", nil}, {"", "sql", nil}}
}

// rowColumns are the columns of a report's answer.
func rowColumns(names []string) []column[object] {
	columns := make([]column[object], len(names))
	for i, name := range names {
		columns[i] = column[object]{head: strings.ToUpper(name), field: name}
	}
	return columns
}

func workerColumns(now func() time.Time) []column[client.Worker] {
	return []column[client.Worker]{
		{"WORKER", "id", nil},
		{"POOL", "pool", nil},
		{"BUSY", "busy", func(w client.Worker) string { return strconv.Itoa(w.Busy) + " of " + strconv.Itoa(w.Slots) }},
		{"", "slots", nil},
		{"MOVED", "bytes_moved", func(w client.Worker) string { return bytesText(w.BytesMoved) }},
		{"VERSION", "version", nil},
		{"SEEN", "seen_at", func(w client.Worker) string { return now().Sub(w.SeenAt).Round(time.Second).String() + " ago" }},
	}
}
