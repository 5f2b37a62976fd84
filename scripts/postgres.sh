#!/bin/sh
# Makes sure that there are Postgres server programs: tests and the demo start a
# server of their own from them. Looks where internal/devstack looks; installs
# the package where that needs no password, and else says what to install.
set -eu

found() {
    [ -z "${MEDIAFERRY_TEST_POSTGRES_DSN:-}" ] || return 0
    for dir in "${MEDIAFERRY_PG_BIN:-}" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
        /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin \
        /usr/local/pgsql/bin /usr/libexec/postgresql*/bin; do
        if [ -n "$dir" ] && [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ]; then
            return 0
        fi
    done
    command -v postgres >/dev/null && command -v initdb >/dev/null
}

if found; then
    exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    as_root='sudo -n'
fi
may() { [ -z "$as_root" ] || sudo -n true 2>/dev/null; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    echo "installing Postgres: $*" >&2
    # Quiet unless it fails: what matters is whether the programs are there then.
    "$@" >"$log" 2>&1 || cat "$log" >&2
}

if command -v apt-get >/dev/null && may; then
    $as_root apt-get -qq update >/dev/null 2>&1 || true # old lists may still do
    install $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends postgresql
elif command -v dnf >/dev/null && may; then
    install $as_root dnf -q install -y postgresql-server
elif command -v apk >/dev/null && may; then
    install $as_root apk add --quiet postgresql
elif command -v brew >/dev/null; then
    install brew install --quiet postgresql@17
fi

if ! found; then
    echo "Postgres is missing: install its server package (apt-get install postgresql, dnf install postgresql-server, apk add postgresql, brew install postgresql@17), or set MEDIAFERRY_PG_BIN to the folder of postgres and initdb." >&2
    exit 1
fi
