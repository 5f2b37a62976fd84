package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

// Exit codes; exitCodesText tells of them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitUnreachable = 5
	exitTimedOut    = 6
)

const exitCodesText = `mediaferry ends with one of these codes:

  0  all went well
  1  something failed: an upload ended as failed or cancelled, what was asked for is not possible as
     things stand (a final upload cannot be paused), a check found a fault, or the command was
     interrupted
  2  the command or what it asks for is wrong, so that repeating it is of no use: flags, arguments,
     or a request that the API finds invalid
  3  what was named is not there: an upload, account, batch, report, message, endpoint or token
  4  refused: the token is missing, unknown, revoked or expired, or does not allow this
  5  unreachable: the dispatcher, or something that it needs, did not answer for as long as --patience;
     repeating it later is of use
  6  timed out: --timeout was over before the uploads came to rest; they go on

Where several things were asked for and fared differently, the code is 1.`

// exitCodesCommand is a page of help.
func exitCodesCommand() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodesText}
}

// errTimedOut is the cause of a wait that --timeout ended.
var errTimedOut = errors.New("timed out")

func exitCode(err error) int {
	for e := err; e != nil; e = errors.Unwrap(e) {
		switch e := e.(type) { //nolint:errorlint // walks the tree itself
		case *usageError:
			return exitUsage
		case *client.Error:
			return codeOfAnswer(e)
		case interface{ Unwrap() []error }:
			return codeOfAll(e.Unwrap())
		}
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errTimedOut):
		return exitTimedOut
	case !errors.Is(err, context.Canceled) && (isNetwork(err) || client.IsAway(err)):
		return exitUnreachable
	default:
		return exitFailed
	}
}

// codeOfAll is the code that all have in common.
func codeOfAll(errs []error) int {
	code := exitCode(errs[0])
	for _, err := range errs[1:] {
		if exitCode(err) != code {
			return exitFailed
		}
	}
	return code
}

func codeOfAnswer(e *client.Error) int {
	switch {
	case client.IsInvalid(e):
		return exitUsage
	case client.IsNotFound(e):
		return exitNotFound
	case client.IsRefused(e):
		return exitRefused
	case e.Status == http.StatusBadGateway, e.Status == http.StatusServiceUnavailable, e.Status == http.StatusGatewayTimeout:
		return exitUnreachable
	default:
		return exitFailed
	}
}

// isNetwork reports whether no answer came at all.
func isNetwork(err error) bool {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return true
	}
	_, ok := errors.AsType[net.Error](err)
	return ok
}
