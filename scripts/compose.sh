#!/bin/sh
# Prints the command of Docker Compose v2: `docker compose` where that is
# installed, else bin/docker-compose, which is built from the Go module proxy when
# it is not there (about two minutes).
set -eu
cd "$(dirname "$0")/.."

if docker compose version >/dev/null 2>&1; then
    echo docker compose
    exit
fi
version=$(awk '$1 == "github.com/docker/compose/v2" { print $2 }' scripts/compose/go.mod)
if ! [ -x bin/docker-compose ] || ! go version -m bin/docker-compose | grep -q "github.com/docker/compose/v2[[:space:]]$version"; then
    echo "building Docker Compose $version" >&2
    mkdir -p bin
    (
        cd scripts/compose
        CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$version" \
            -o ../../bin/docker-compose github.com/docker/compose/v2/cmd
    ) >&2
fi
echo "$(pwd)/bin/docker-compose"
