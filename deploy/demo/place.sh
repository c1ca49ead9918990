# Sourced by the demo's scripts: where things are, and how to print and to wait.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$ROOT/deploy/setup/say.sh"

# The unprivileged user for Postgres, which refuses to run as root.
PG_USER=$(id -un)
if [ "$(id -u)" -eq 0 ]; then
    PG_USER=postgres
fi

# as_pg_user COMMAND...
as_pg_user() {
    if [ "$(id -un)" = "$PG_USER" ]; then
        "$@"
    else
        setpriv --reuid "$PG_USER" --regid "$(id -g "$PG_USER")" --init-groups --reset-env "$@"
    fi
}

# choose_state: sets STATE, the folder with all that the demo makes. It lies in the checkout unless that is
# closed to the user who runs Postgres, as a checkout below /root is.
choose_state() {
    STATE=${TRAINYARD_DEMO_DIR:-$ROOT/.trainyard/demo}
    mkdir -p "$STATE"
    if [ -z "${TRAINYARD_DEMO_DIR:-}" ] && ! as_pg_user test -x "$STATE"; then
        STATE=/var/lib/trainyard-demo-$(printf %s "$ROOT" | cksum | cut -d ' ' -f 1)
        mkdir -p "$STATE"
    fi
}

# chapter TEXT: a heading, with the time since the demo began.
chapter() {
    printf '\n== %s (%d:%02d)\n\n' "$1" $((SECONDS / 60)) $((SECONDS % 60))
}

# show COMMAND...: prints a command as one would type it, and runs it.
show() {
    printf '$ %s\n' "$*"
    "$@"
    echo
}

# stop_with TEXT: ends the demo, with the end of the daemon's log.
stop_with() {
    if [ -s "$STATE/daemon.log" ]; then
        printf '\nThe end of %s:\n' "$STATE/daemon.log" >&2
        tail -n 40 "$STATE/daemon.log" >&2
    fi
    printf '\n' >&2
    fail demo "$1"
}

# wait_until SECONDS WHAT COMMAND...: runs the command again and again until it succeeds; stops the demo
# where that takes longer, or where the daemon ends meanwhile.
wait_until() {
    local deadline=$((SECONDS + $1)) bound=$1 what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || stop_with "waited $bound s for $what, which did not happen"
        sleep 0.25
    done
}

# free_port ADDRESS FIRST: the first port from FIRST on without a listener.
free_port() {
    local port
    for ((port = $2; port < $2 + 100; port++)); do
        if ! (: <>"/dev/tcp/$1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    fail demo "no free port between $2 and $port on $1"
}

# process_of PID_FILE WORD: the process that the file names, if it is alive and has WORD in its command line.
process_of() {
    local pid
    pid=$(head -n 1 "$1" 2>/dev/null) && [ -n "$pid" ] || return 1
    { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qF -- "$2" || return 1
    echo "$pid"
}
