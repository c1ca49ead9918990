#!/usr/bin/env bash
# Installs from Debian what Trainyard is built, tested and tried with, as far as it is missing.
#
# usage: install.sh              everything that `make demo` and `make test` need
#        install.sh PACKAGE...   just these
#
# Rust is not installed here: get it from https://rustup.rs. Nothing is upgraded, and nothing is started:
# in particular the Postgres package makes no cluster of its own.
set -euo pipefail
. "$(dirname "$0")/say.sh"

ALL=(build-essential pkg-config git curl jq openssl ca-certificates docker.io postgresql
    iptables iproute2 e2fsprogs openssh-client openssh-server nginx caddy)

# is_here PACKAGE: whether the programs of the package are on the machine, from any source.
is_here() {
    case $1 in
        build-essential) command -v cc && command -v make ;;
        pkg-config) command -v pkg-config ;;
        ca-certificates) [ -s /etc/ssl/certs/ca-certificates.crt ] ;;
        docker.io) command -v docker && { command -v dockerd || docker version; } ;;
        iproute2) command -v ip ;;
        e2fsprogs) command -v mkfs.ext4 ;;
        postgresql) command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' ;;
        openssh-client) command -v ssh && command -v ssh-keygen ;;
        openssh-server) [ -x /usr/sbin/sshd ] ;;
        nginx) [ -x /usr/sbin/nginx ] ;;
        busybox-static) [ -x /bin/busybox ] && ! ldd /bin/busybox ;;
        *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

# without_cluster COMMAND...: runs it while Postgres packages are configured to make no cluster.
without_cluster() {
    local folder=/etc/postgresql-common/createcluster.d
    as_root mkdir -p "$folder"
    echo 'create_main_cluster = false' | as_root tee "$folder/trainyard-setup.conf" >/dev/null
    local status=0
    "$@" || status=$?
    as_root rm -f "$folder/trainyard-setup.conf"
    as_root rmdir --ignore-fail-on-non-empty "$folder"
    return "$status"
}

# without_services COMMAND...: runs it while packages are configured to start no service, such as sshd.
without_services() {
    local policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    local status=0
    "$@" || status=$?
    as_root rm -f "$policy"
    return "$status"
}

asked=$#
[ "$asked" -gt 0 ] || set -- "${ALL[@]}"
missing=()
for package in "$@"; do
    is_here "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    [ "$asked" -gt 0 ] || say install "nothing is missing"
    exit 0
fi
command -v apt-get >/dev/null ||
    fail install "no apt-get here; install by hand what these Debian packages hold: ${missing[*]}"

say install "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "$@" >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        fail install "apt-get $1 failed; its last lines are above"
    }
}
apt update
without_services without_cluster apt install --no-install-recommends -y "${missing[@]}"
for package in "${missing[@]}"; do
    is_here "$package" || fail install "$package is installed, but its programs cannot be found"
    # The tests start these themselves: none of them starts with the machine.
    case $package in
        openssh-server) unit=ssh ;;
        nginx | caddy) unit=$package ;;
        *) continue ;;
    esac
    as_root systemctl --quiet disable "$unit" >/dev/null 2>&1 || true
done
