// Package vodapi is what Tencent VOD's uploads have in common. The two part
// uploads, InitUploadEx · UploadPartEx · FinishUploadEx and InitUpload ·
// UploadPart · FinishUpload, are one protocol: the same parameters, answers and
// codes, of which Client is the caller. They differ in their names, in what of a
// submission they are told, and in what authorises a call, which a Dialect says.
// Signatures and codes of version 2 of the platform's API serve ApplyUpload and
// CommitUpload as well.
//
// The platform knows an upload by account and SHA-1 of the file, and hands out
// no id of its own. So the first call is three things at once: it opens an
// upload, finds an unfinished one with its parts, and answers with the media
// where the bytes are there already; Probe is the first call as well.
package vodapi
