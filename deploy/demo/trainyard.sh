# Sourced by the demo: its daemon, and how the demo talks to it.
#
# All that depends on the words of the command line and on the shape of its JSON is here.
# shellcheck shell=bash

# start_daemon: starts `trainyard dev` in the background and waits until it is ready. It outlives the script.
start_daemon() {
    local port
    port=$(free_port 127.0.0.1 8410)
    URL=http://127.0.0.1:$port
    setsid "$TRAINYARD" dev --data-dir "$STATE/data" --listen "127.0.0.1:$port" \
        </dev/null >"$STATE/daemon.log" 2>&1 &
    echo $! >"$STATE/daemon.pid"
    wait_until 120 "the daemon to be ready at $URL" daemon_is_ready
    TOKEN_FILE=$STATE/data/token
    cat >"$STATE/env" <<-ENV
		# Sourced by a shell that wants to talk to the demo's daemon.
		export TRAINYARD_URL='$URL'
		export TRAINYARD_TOKEN="\$(cat '$TOKEN_FILE')"
		export PATH='$(dirname "$TRAINYARD")':"\$PATH"
	ENV
    . "$STATE/env"
    say demo "daemon: $URL, log in $STATE/daemon.log"
}

daemon_is_ready() {
    kill -0 "$(cat "$STATE/daemon.pid")" 2>/dev/null || stop_with "the daemon ended"
    curl --silent --fail --max-time 5 --output /dev/null "$URL/readyz"
}

# revive_daemon: starts a daemon that was killed once more. It may have left containers and its Postgres
# running, and the next daemon finds both.
revive_daemon() {
    [ -s "$STATE/daemon.pid" ] && [ -x "$TRAINYARD" ] || return 0
    ! process_of "$STATE/daemon.pid" "$STATE/data" >/dev/null || return 0
    say demo "the daemon was killed; starting it once more, to stop what it left"
    (start_daemon) || say demo "it does not start; going on without"
}

stop_daemon() {
    local pid deadline=$((SECONDS + 30))
    if ! pid=$(process_of "$STATE/daemon.pid" "$STATE/data"); then
        rm -f "$STATE/daemon.pid"
        return 0
    fi
    kill -TERM "$pid"
    while process_of "$STATE/daemon.pid" "$STATE/data" >/dev/null; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            say demo "the daemon did not end within 30 s; killing it"
            kill -KILL "$pid"
            break
        fi
        sleep 0.2
    done
    rm -f "$STATE/daemon.pid"
    say demo "daemon stopped"
}

# cancel_runs: cancels whatever has not ended, so that no container outlives the daemon that knows it.
cancel_runs() {
    local id
    process_of "$STATE/daemon.pid" "$STATE/data" >/dev/null && [ -s "$STATE/env" ] || return 0
    . "$STATE/env"
    for id in $(active_runs); do
        trainyard run cancel "$id" >/dev/null || true
    done
    wait_until 60 "the runs to be cancelled" no_run_is_active
}

active_runs() {
    runs '.[] | select(.finished_at == null) | .id'
}

no_run_is_active() {
    [ -z "$(active_runs)" ]
}

# follow_repo NAME URL SECRET: has the daemon follow a repository, with the secret that signs its webhooks,
# and take stock of it: what is there before the first look was not pushed.
follow_repo() {
    printf '$ trainyard repo add %s %s --webhook-secret -\n' "$1" "$2"
    printf %s "$3" | trainyard repo add "$1" "$2" --webhook-secret -
    show trainyard repo sync "$1"
}

# webhook_url REPO
webhook_url() {
    echo "$URL/hooks/github/$1"
}

# set_secret REPO NAME VALUE
set_secret() {
    printf %s "$3" | trainyard secret set "$2" --repo "$1"
}

# runs FILTER: what the jq filter gives over the array of runs, newest first, as plain text.
runs() {
    trainyard run list --limit 50 --output json |
        jq --raw-output "(if type == \"array\" then . else .items end) | $1"
}

# find_run CAUSE COMMIT: sets RUN to the id of the newest run of that cause and commit.
find_run() {
    RUN=$(runs "map(select(.commit == \"$2\" and .cause.kind == \"$1\")) | .[0].id // empty")
    [ -n "$RUN" ]
}

# run_has_ended ID
run_has_ended() {
    ! active_runs | grep -qx "$1"
}

# expect_run SECONDS CAUSE COMMIT STATE: waits for the run, follows it to its end, and holds its state
# against the one that is due. Sets RUN.
expect_run() {
    wait_until "$1" "a run of ${3:0:12} started by $2" find_run "$2" "$3"
    printf '$ trainyard run watch %s\n' "$RUN"
    # It answers 1 where the run failed, which one of these is meant to.
    timeout 900 trainyard run watch "$RUN" || true
    wait_until 30 "run $RUN to end" run_has_ended "$RUN"
    echo
    show trainyard run show "$RUN"
    local state
    state=$(runs ".[] | select(.id == $RUN) | .state")
    [ "$state" = "$4" ] || stop_with "run $RUN is $state, and should be $4"
}
