#!/bin/sh
# Builds every image of compose.yaml on this machine, without a registry.
#
#   deploy/images.sh [ours | servers | postgres | all]
#
# "ours" are dispatcher, worker and mediaferry, from bin/linux-ARCH/, where the
# static binaries and ca-certificates.crt lie. "servers" are NATS and versitygw,
# built from the Go module proxy, and Postgres, from Debian packages; that needs
# debootstrap and root, and takes about two minutes. Run it from the root of the
# repository. ARCH defaults to this machine's, DOCKER to docker.
set -eu

arch=${ARCH:-$(go env GOARCH)}
docker=${DOCKER:-docker}
tag=${TAG:-local}
nats=github.com/nats-io/nats-server/v2@v2.15.2
versitygw=github.com/versity/versitygw/cmd/versitygw@v1.8.0
debian=${DEBIAN_MIRROR:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # not all that debootstrap runs is root

ours() {
	for name in dispatcher worker mediaferry; do
		"$docker" build --quiet --tag "mediaferry-$name:$tag" --file "deploy/Dockerfile.$name" "bin/linux-$arch"
	done
}

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
	"$docker" build --quiet --tag "mediaferry-$1:$tag" "$work"
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
		apt-get download "busybox-static:$arch"
		dpkg-deb --extract busybox-static_*.deb busybox-package
		find busybox-package -path '*bin/busybox' -exec install -m 755 {} busybox \;
		rm -rf busybox-package busybox-static_*.deb
	)
	server nats nats-server
	server s3 versitygw
	postgres
}

postgres() {
	root=$work/postgres
	debootstrap --arch="$arch" --variant=minbase --include=postgresql-15,ca-certificates bookworm "$root" ${debian:+"$debian"}
	install -m 755 deploy/postgres-entrypoint.sh "$root/usr/local/bin/entrypoint"
	ln -s "$(cd "$root" && ls -d usr/lib/postgresql/*/bin/pg_isready | sed 's|^|/|')" "$root/usr/local/bin/pg_isready"
	rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/lib/postgresql/*/main
	tar --directory "$root" --create . | "$docker" import \
		--change 'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
		--change 'ENTRYPOINT ["/usr/local/bin/entrypoint"]' - "mediaferry-postgres:$tag"
}

case ${1:-all} in
ours) ours ;;
servers) servers ;;
postgres) postgres ;;
all)
	ours
	servers
	;;
*)
	sed -n '2,12p' "$0" >&2
	exit 2
	;;
esac
