#!/bin/sh
# Starts the Postgres of the locally built image as the public one starts:
# on an empty volume it makes POSTGRES_USER and POSTGRES_DB first.
set -eu

bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
data=/var/lib/postgresql/data

if [ "$(id -u)" = 0 ]; then
	mkdir -p "$data"
	chown postgres:postgres "$data"
	chmod 700 "$data"
	exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ ! -s "$data/PG_VERSION" ]; then
	password=$(mktemp)
	printf %s "$POSTGRES_PASSWORD" >"$password"
	"$bin/initdb" --pgdata="$data" --username="$POSTGRES_USER" --pwfile="$password" \
		--auth-host=scram-sha-256 --auth-local=peer --encoding=UTF8 --locale=C --no-instructions
	rm -f "$password"
	echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
	# Single-user mode: nobody can connect before the database is there.
	echo "CREATE DATABASE \"$POSTGRES_DB\"" | "$bin/postgres" --single -D "$data" postgres >/dev/null
fi

exec "$bin/postgres" -D "$data" -c listen_addresses='*' "$@"
