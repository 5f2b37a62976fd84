#!/bin/sh
# Installs the programs that the benchmark compares with into bench/.peers, at
# the versions named below. A peer that does not build is reported and left
# out; the benchmark says so in its table.
set -u

cd "$(dirname "$0")" || exit 1
bin="$PWD/.peers"
mkdir -p "$bin"
missing=0

# Each peer is built from a module of its own: s5cmd does not build by
# `go install path@version`, and no peer shall meet our versions of anything.
build() { # name package version
	name=$1 package=$2 version=$3
	stamp="$bin/.$name-$version"
	if [ -x "$bin/$name" ] && [ -e "$stamp" ]; then
		echo "$name $version: already there"
		return
	fi
	work=$(mktemp -d)
	if (
		cd "$work" || exit 1
		{ go mod init peer && go get "$package@$version"; } >log 2>&1 || { cat log >&2; exit 1; }
		CGO_ENABLED=0 nice -n 19 go build -trimpath -o "$bin/$name" "$package"
	); then
		rm -f "$bin/.$name-"*
		: >"$stamp"
		echo "$name $version: built"
	else
		echo "$name $version: does not build here, left out" >&2
		missing=$((missing + 1))
	fi
	rm -rf "$work"
}

build rclone github.com/rclone/rclone v1.75.1
build mc github.com/minio/mc v0.0.0-20250313080218-cf909e1063a9
build s5cmd github.com/peak/s5cmd/v2 v2.3.0

[ "$missing" -eq 0 ] || echo "$missing peer(s) missing" >&2
