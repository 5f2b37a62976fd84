// Package vodapi is what Tencent VOD's uploads have in common. The two part
// uploads, InitUploadEx · UploadPartEx · FinishUploadEx and InitUpload ·
// UploadPart · FinishUpload, are one protocol with the same parameters, answers
// and codes; Client makes the calls of both. A Dialect says where they differ:
// the names of the calls, what they pass on of a submission, and what authorises
// them. ApplyUpload and CommitUpload use the same signatures and codes, those of
// version 2 of the platform's API.
//
// The platform identifies an upload by the account and the SHA-1 of the file, and
// gives out no id of its own. So the first call does three things: it opens an
// upload, finds an unfinished one with its parts, or answers with the media if
// the bytes are there already. Probe makes the same call.
package vodapi
