#!/bin/sh
# Runs a command where a Docker daemon answers:
#
#   scripts/with-docker.sh COMMAND…
#
# Where none does and we are root, dockerd is started for the time of the
# command, and ended with all of its containers afterwards; its images stay. Exits
# with 69 if there is no daemon and none can be started.
set -eu

unavailable() {
    echo "no Docker: $1" >&2
    exit 69
}

command -v docker >/dev/null || unavailable "the program docker is missing; on Debian: apt-get install docker.io"
if docker version >/dev/null 2>&1; then
    exec "$@"
fi
[ -z "${DOCKER_HOST:-}" ] || unavailable "nothing answers at DOCKER_HOST=$DOCKER_HOST"
[ "$(id -u)" = 0 ] || unavailable "no daemon answers, and only root can start one"
command -v dockerd >/dev/null || unavailable "no daemon answers, and dockerd is missing; on Debian: apt-get install docker.io"

log=$(mktemp)
# A session of its own: Ctrl-C is for the command, which takes its containers down.
setsid dockerd >"$log" 2>&1 &
daemon=$!
finish() {
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" || true
    rm -f "$log"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for _ in $(seq 60); do
    if docker version >/dev/null 2>&1; then
        "$@" # not exec: the daemon is to be ended
        exit
    fi
    if ! kill -0 "$daemon" 2>/dev/null; then
        tail -n 3 "$log" >&2
        unavailable "dockerd ended at its start"
    fi
    sleep 0.5
done
tail -n 3 "$log" >&2
unavailable "dockerd does not answer after 30 s"
