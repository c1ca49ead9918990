#!/bin/sh
# A throwaway Postgres for tests: prints the folder of its socket once it answers, and lasts until its
# standard input is closed, so it ends however its caller does. Durability is off.
#
# Each test process starts one of its own; where many are to come, `deploy/test.sh` starts one for all,
# `--with-template`, and names it in TRAINYARD_TEST_POSTGRES. Next to its socket lies `template` then, the
# data folder of a cluster with the database `trainyard`: a test that needs a cluster of its own copies it,
# which takes a tenth of the time of initdb.
set -eu
bin=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)}
work=$(mktemp -d)
as_user=
if [ "$(id -u)" = 0 ]; then
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    as_user="setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups"
    chown "$user" "$work"
fi
chmod 755 "$work"
cd "$work"
$as_user "$bin/initdb" -D "$work/data" -U trainyard -A trust -E UTF8 --no-sync >"$work/log" 2>&1
if [ "${1-}" = --with-template ]; then
    echo 'create database trainyard' | $as_user "$bin/postgres" --single -D "$work/data" postgres >>"$work/log" 2>&1
    $as_user cp -a "$work/data" "$work/template"
fi
$as_user "$bin/postgres" -D "$work/data" -c listen_addresses= -c unix_socket_directories="$work" \
    -c fsync=off -c full_page_writes=off -c max_connections=500 -c shared_buffers=64MB >>"$work/log" 2>&1 </dev/null &
postgres=$!
tries=0
until "$bin/pg_isready" -q -h "$work" -U trainyard; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { cat "$work/log" >&2; exit 1; }
    sleep 0.05
done
echo "$work"
cat >/dev/null
kill -QUIT "$postgres" 2>/dev/null || true
wait "$postgres" || true
rm -rf "$work"
