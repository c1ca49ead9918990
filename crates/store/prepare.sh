#!/usr/bin/env bash
# Renews .sqlx: what Postgres says about every statement of this crate. Run it after changing a
# statement or a migration, and commit the result.
#
#   crates/store/prepare.sh           renew
#   crates/store/prepare.sh --check   fail where .sqlx is not what it would be
#
# It starts a Postgres of its own, which ends with this script.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
coproc POSTGRES { exec "$root/tests/cluster/cluster.sh"; }
read -r work <&"${POSTGRES[0]}"
sqlx=$(mktemp -d)
trap 'rm -rf "$sqlx"' EXIT
export PGHOST="$work" PGUSER=trainyard PGDATABASE=trainyard
for migration in "$root"/migrations/*.sql; do
    "$work/bin/psql" -Xq -v ON_ERROR_STOP=1 -f "$migration"
done

cd "$root"
touch crates/store/src/lib.rs
SQLX_OFFLINE_DIR="$sqlx" DATABASE_URL="postgres://trainyard@localhost/trainyard?host=$work" \
    cargo check --quiet -p trainyard-store
touch crates/store/src/lib.rs

if [ "${1-}" = --check ]; then
    diff -r "$root/.sqlx" "$sqlx" || { echo ".sqlx is out of date: run crates/store/prepare.sh" >&2; exit 1; }
else
    mkdir -p "$root/.sqlx"
    rm -f "$root"/.sqlx/query-*.json
    cp "$sqlx"/query-*.json "$root/.sqlx/"
fi
