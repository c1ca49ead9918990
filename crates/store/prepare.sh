#!/bin/sh
# Renews .sqlx: what Postgres says about every statement of this crate. Run it after changing a
# statement or a migration, and commit the result.
#
#   crates/store/prepare.sh           renew
#   crates/store/prepare.sh --check   fail where .sqlx is not what it would be
#
# It starts a Postgres of its own in a temporary folder, as an unprivileged user, and removes it.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)}
[ -x "$bin/initdb" ] || { echo "no initdb found; set PG_BIN to Postgres' folder of programs" >&2; exit 2; }

work=$(mktemp -d)
as_user=
if [ "$(id -u)" = 0 ]; then
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    as_user="setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups"
    chown "$user" "$work"
fi
chmod 755 "$work"
stop() {
    (cd "$work" && $as_user "$bin/pg_ctl" -D "$work/data" -m immediate -s stop) >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap stop EXIT INT TERM

cd "$work"
$as_user "$bin/initdb" -D "$work/data" -U trainyard -A trust --no-sync >/dev/null
$as_user "$bin/pg_ctl" -D "$work/data" -s -w -l "$work/log" \
    -o "-c listen_addresses= -c unix_socket_directories=$work -c fsync=off" start
export PGHOST="$work" PGUSER=trainyard PGDATABASE=postgres
for migration in "$root"/migrations/*.sql; do
    "$bin/psql" -q -v ON_ERROR_STOP=1 -f "$migration"
done

mkdir "$work/sqlx"
cd "$root"
touch crates/store/src/lib.rs
SQLX_OFFLINE_DIR="$work/sqlx" DATABASE_URL="postgres://trainyard@localhost/postgres?host=$work" \
    cargo check --quiet -p trainyard-store
touch crates/store/src/lib.rs

if [ "${1-}" = --check ]; then
    diff -r "$root/.sqlx" "$work/sqlx" || { echo ".sqlx is out of date: run crates/store/prepare.sh" >&2; exit 1; }
else
    mkdir -p "$root/.sqlx"
    rm -f "$root"/.sqlx/query-*.json
    cp "$work"/sqlx/query-*.json "$root/.sqlx/"
fi
