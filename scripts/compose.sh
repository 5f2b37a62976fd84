#!/bin/sh
# Runs Docker Compose v2:
#
#   scripts/compose.sh ARGUMENT…
#
# That is `docker compose` where it is installed, else bin/docker-compose, which is
# built from the Go module proxy when it is not there (about two minutes).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

if docker compose version >/dev/null 2>&1; then
    exec docker compose "$@"
fi
program=$root/bin/docker-compose
version=$(awk '{ for (i = 1; i < NF; i++) if ($i == "github.com/docker/compose/v2") print $(i + 1) }' "$root/scripts/compose/go.mod")
if ! [ -x "$program" ] || ! go version -m "$program" | grep -q "github.com/docker/compose/v2[[:space:]]$version"; then
    echo "building Docker Compose $version" >&2
    mkdir -p "$root/bin"
    (
        cd "$root/scripts/compose"
        CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$version" \
            -o "$program" github.com/docker/compose/v2/cmd
    ) >&2
fi
exec "$program" "$@"
