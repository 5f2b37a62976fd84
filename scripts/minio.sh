#!/bin/sh
# Builds bin/minio, a MinIO server, from the Go module proxy where it is not there:
# its image is published no more, and the server is still common in the field.
# Takes about four minutes.
set -eu
cd "$(dirname "$0")/.."

version=v0.0.0-20260212201848-7aac2a2c5b7c

if [ -x bin/minio ] && go version -m bin/minio | grep -q "github.com/minio/minio[[:space:]]$version"; then
    exit 0
fi
echo "building MinIO $version" >&2
mkdir -p bin
CGO_ENABLED=0 GOBIN="$(pwd)/bin" go install -trimpath "github.com/minio/minio@$version"
