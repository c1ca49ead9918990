#!/usr/bin/env bash
# Makes sure that a Docker engine answers: uses the one that is there, else starts one.
#
# usage: docker.sh [STATE_FOLDER]     Docker's log goes there; default .trainyard in the current folder
#
# Where DOCKER_HOST names a unix socket, a Docker engine is started on that one; a remote engine is never started.
# DOCKERD_FLAGS are passed on to dockerd. Docker stays up when this script ends.
set -euo pipefail
here=$(dirname "$0")
. "$here/say.sh"

STATE=${1:-.trainyard}
HOST=${DOCKER_HOST:-unix:///var/run/docker.sock}
WAIT_SECONDS=60

engine_version() {
    timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null
}

# wait_for_engine: until Docker answers; fails when `dockerd_pid` is set and has ended.
wait_for_engine() {
    local deadline=$((SECONDS + WAIT_SECONDS))
    until engine_version >/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        [ -z "${dockerd_pid:-}" ] || kill -0 "$dockerd_pid" 2>/dev/null || return 1
        sleep 0.2
    done
}

# forget_stale_pid FILE PROGRAM: a pid file of a process that is gone, or became another one since, would
# keep the program from starting.
forget_stale_pid() {
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || rm -f "$1"
}

if version=$(engine_version); then
    say docker "Docker $version answers at $HOST"
    exit 0
fi
case $HOST in
    unix://*) socket=${HOST#unix://} ;;
    *) fail docker "no Docker engine answers at $HOST (from DOCKER_HOST)" ;;
esac
if [ -d /run/systemd/system ] && [ -z "${DOCKER_HOST:-}" ]; then
    as_root systemctl start docker || fail docker "systemd could not start docker; see: journalctl -u docker"
    wait_for_engine || fail docker "docker runs and does not answer at $HOST; are you in the group docker?"
    say docker "Docker $(engine_version), started by systemd"
    exit 0
fi
[ "$(id -u)" -eq 0 ] || fail docker "no Docker engine answers at $HOST; start one, or run this as root"
command -v dockerd >/dev/null || fail docker "no dockerd here; run $here/install.sh first"

"$here/cgroups.sh"
mkdir -p "$STATE"
log=$STATE/dockerd.log
if [ "$HOST" = unix:///var/run/docker.sock ]; then
    forget_stale_pid /var/run/docker.pid dockerd
    forget_stale_pid /var/run/docker/containerd/containerd.pid containerd
fi
# A session of its own, so that neither Ctrl-C nor the end of this script reaches it.
# shellcheck disable=SC2086 # the flags are words
setsid dockerd --host "unix://$socket" ${DOCKERD_FLAGS:-} </dev/null >>"$log" 2>&1 &
dockerd_pid=$!
if ! wait_for_engine; then
    tail -n 20 "$log" >&2
    fail docker "dockerd ended, or did not answer within $WAIT_SECONDS s; the end of $log is above"
fi
say docker "started Docker $(engine_version) at $HOST (pid $dockerd_pid, log $log)"
