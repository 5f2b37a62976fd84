#!/bin/sh
# Builds every image of compose.yaml on this machine, without a registry.
#
#   deploy/images.sh [binaries | ours | servers | postgres | missing | all]
#
# "ours" are dispatcher, worker and mediaferry. "binaries" only puts the programs
# of both architectures into bin/images, where the Dockerfiles look for them.
# "servers" are NATS and versitygw, built from the Go module proxy, and Postgres,
# from Debian packages; that needs debootstrap and root, and takes about two
# minutes. "missing" is ours, and of the servers those that are not there. Run it
# from the root of the repository. ARCH defaults to this machine's.
set -eu

arch=${ARCH:-$(go env GOARCH)}
tag=${TAG:-local}
nats=github.com/nats-io/nats-server/v2@v2.15.2
versitygw=github.com/versity/versitygw/cmd/versitygw@v1.8.0
debian=${DEBIAN_MIRROR:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # not all that debootstrap runs is root

# binaries ARCH…: our programs as static binaries, and the certificates.
binaries() {
	for cpu in "$@"; do
		CGO_ENABLED=0 GOOS=linux GOARCH="$cpu" go build -trimpath -ldflags '-s -w' \
			-o "bin/images/linux-$cpu/" ./cmd/dispatcher ./cmd/worker ./cmd/mediaferry
	done
	cp -L "${CA_CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}" bin/images/ca-certificates.crt
}

ours() {
	binaries "$arch"
	for name in dispatcher worker mediaferry; do
		docker build --quiet --platform "linux/$arch" --build-arg "TARGETARCH=$arch" \
			--tag "mediaferry-$name:$tag" --file "deploy/Dockerfile.$name" bin/images
	done
}

have() { docker image inspect "mediaferry-$1:$tag" >/dev/null 2>&1; }

# server NAME BINARY: an image of a static binary, with sh and wget for the
# health check.
server() {
	cat >"$work/Dockerfile" <<-EOF
		FROM scratch
		COPY busybox /bin/sh
		COPY busybox /bin/wget
		COPY $2 /usr/local/bin/$2
		ENV PATH=/usr/local/bin:/bin
		ENTRYPOINT ["/usr/local/bin/$2"]
	EOF
	docker build --quiet --tag "mediaferry-$1:$tag" "$work"
}

servers() {
	# Without GOBIN and with the cache as it is: go install refuses GOBIN when
	# it builds for another architecture.
	for module in "$nats" "$versitygw"; do
		CGO_ENABLED=0 GOARCH="$arch" GOPATH="$work/go" GOMODCACHE="$(go env GOMODCACHE)" \
			go install "$module"
	done
	find "$work/go/bin" -type f -exec mv {} "$work/" \;
	(
		cd "$work"
		apt-get download "busybox-static:$arch" || { apt-get -qq update && apt-get download "busybox-static:$arch"; }
		dpkg-deb --extract busybox-static_*.deb busybox-package
		find busybox-package -path '*bin/busybox' -exec install -m 755 {} busybox \;
		rm -rf busybox-package busybox-static_*.deb
	)
	server nats nats-server
	server s3 versitygw
}

postgres() {
	root=$work/postgres
	debootstrap --arch="$arch" --variant=minbase --include=postgresql-15,ca-certificates bookworm "$root" ${debian:+"$debian"}
	install -m 755 deploy/postgres-entrypoint.sh "$root/usr/local/bin/entrypoint"
	ln -s "$(cd "$root" && ls -d usr/lib/postgresql/*/bin/pg_isready | sed 's|^|/|')" "$root/usr/local/bin/pg_isready"
	rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/lib/postgresql/*/main
	tar --directory "$root" --create . | docker import \
		--change 'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
		--change 'ENTRYPOINT ["/usr/local/bin/entrypoint"]' - "mediaferry-postgres:$tag"
}

case ${1:-all} in
binaries) binaries amd64 arm64 ;;
ours) ours ;;
servers)
	servers
	postgres
	;;
postgres) postgres ;;
missing)
	ours
	{ have nats && have s3; } || servers
	have postgres || postgres
	;;
all)
	ours
	servers
	postgres
	;;
*)
	sed -n '2,12p' "$0" >&2
	exit 2
	;;
esac
