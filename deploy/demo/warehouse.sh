# Sourced by the demo: the retrain project's data warehouse, a Postgres cluster of its own.
#
# It listens on the address of Docker's bridge only, where containers reach it and the network outside does
# not, and lets in one user with a password, who owns one database and is not a superuser.
# shellcheck shell=bash

# postgres_bin PROGRAM: its path, of the newest version installed.
postgres_bin() {
    local found
    found=$(compgen -G "/usr/lib/postgresql/*/bin/$1" | sort --version-sort | tail -n 1) || true
    found=${found:-$(command -v "$1" || true)}
    [ -n "$found" ] || fail demo "no $1 here; run deploy/setup/install.sh"
    echo "$found"
}

# start_warehouse: makes the cluster, starts it, and sets WAREHOUSE_DSN.
start_warehouse() {
    local folder=$STATE/warehouse address port password
    # Read in a container: `docker network inspect` does not have it on a newly started Docker engine.
    address=$(docker run --rm alpine:3 ip -4 route | awk '$1 == "default" { print $3 }')
    [ -n "$address" ] || fail demo "containers have no network: no default route in Docker's bridge network"
    port=$(free_port "$address" 15432)
    password=$(openssl rand -hex 16)

    mkdir -p "$folder"
    chown "$PG_USER" "$folder"
    (
        cd "$folder"
        as_pg_user "$(postgres_bin initdb)" --pgdata=data --encoding=UTF8 --locale=C.UTF-8 --no-sync \
            --auth-local=peer --auth-host=scram-sha-256 >initdb.log
        as_pg_user tee -a data/postgresql.conf >/dev/null <<-CONFIG
			listen_addresses = '$address'
			port = $port
			unix_socket_directories = ''
			max_connections = 20
			fsync = off   # the demo creates it again each time
		CONFIG
        # Only this machine and Docker's own address ranges.
        as_pg_user tee data/pg_hba.conf >/dev/null <<-HBA
			host  warehouse  warehouse  samehost        scram-sha-256
			host  warehouse  warehouse  172.16.0.0/12   scram-sha-256
			host  warehouse  warehouse  192.168.0.0/16  scram-sha-256
		HBA
        # Without a running server, so that the password travels over no connection.
        as_pg_user "$(postgres_bin postgres)" --single -D data postgres >single.log 2>&1 <<-SQL
			CREATE ROLE warehouse LOGIN PASSWORD '$password'
			CREATE DATABASE warehouse OWNER warehouse
		SQL
        as_pg_user "$(postgres_bin pg_ctl)" start --pgdata=data --wait --timeout=60 --log=postgres.log --silent </dev/null
    ) || {
        tail -n 20 "$folder"/*.log >&2
        fail demo "the warehouse did not start; its logs are above"
    }
    WAREHOUSE_DSN=postgresql://warehouse:$password@$address:$port/warehouse
    say demo "warehouse: Postgres at $address:$port, in $folder"
}

# ask_warehouse SQL
ask_warehouse() {
    "$(postgres_bin psql)" "$WAREHOUSE_DSN" --no-psqlrc --command "$1"
}

stop_warehouse() {
    local data=$STATE/warehouse/data
    process_of "$data/postmaster.pid" "$(basename "$data")" >/dev/null || return 0
    (cd "$STATE/warehouse" && as_pg_user "$(postgres_bin pg_ctl)" stop --pgdata=data --mode=fast --wait --timeout=30 --silent)
    say demo "warehouse stopped"
}
