#!/bin/sh
# The Postgres of all tests. Prints its folder once it answers, and is gone once its standard input is closed, so it
# ends however its caller does.
#
# usage: cluster.sh [--template] [FOLDER]
#
# The folder, a temporary one by default, has the socket, `data`, `log`, `control` (what initdb and pg_ctl printed),
# and `bin` (a link to Postgres' programs). There are a superuser `trainyard` and a database `trainyard`.
#
# Without a folder it is for databases of many tests, and nothing is made durable. `deploy/test.sh` starts one with
# `--template` and names it in TRAINYARD_TEST_POSTGRES. The folder has `template` then, too: a copy of the data as they
# were before the first start, from which a cluster of a test's own is made in a tenth of the time of initdb.
#
# With a folder it has Postgres' own defaults, and is not started. Each line of standard input is arguments for
# `pg_ctl`, answered with `ok` or `failed`; the reason is in `control`.
set -eu
template=
[ "${1-}" != --template ] || { template=yes; shift; }
bin=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)}
[ -x "$bin/initdb" ] || { echo "no initdb found: \`make setup\` installs it, or PG_BIN is its folder" >&2; exit 2; }
work=${1:-$(mktemp -d)}
as_user=
if [ "$(id -u)" = 0 ]; then
    # Postgres refuses to run as root.
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    as_user="setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups"
    chown "$user" "$work"
fi
chmod 755 "$work"
cd "$work"
control() {
    $as_user "$bin/pg_ctl" -D "$work/data" -w -l "$work/log" "$@" >>"$work/control" 2>&1 </dev/null
}
stop() {
    control -m immediate stop || true
    cd /
    [ -n "${1-}" ] || rm -rf "$work"
}
trap 'stop "${1-}"' EXIT
trap 'exit 1' INT TERM
ln -s "$bin" bin

if [ -n "${TRAINYARD_TEST_POSTGRES-}" ] && [ -d "$TRAINYARD_TEST_POSTGRES/template" ]; then
    cp -a "$TRAINYARD_TEST_POSTGRES/template" data
else
    $as_user "$bin/initdb" -D data -U trainyard -A trust -E UTF8 --no-sync >>control 2>&1
    echo 'create database trainyard' | $as_user "$bin/postgres" --single -D data postgres >>control 2>&1
fi
if [ -n "${1-}" ]; then
    echo "$work"
    while read -r line; do
        if eval "control $line"; then echo ok; else echo failed; fi
    done
else
    [ -z "$template" ] || cp -a data template
    control -o "-c listen_addresses= -c unix_socket_directories=$work -c max_connections=500 -c shared_buffers=64MB \
        -c fsync=off -c full_page_writes=off" start || { cat control log >&2; exit 1; }
    echo "$work"
    cat >/dev/null
fi
