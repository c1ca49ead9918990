#!/usr/bin/env bash
# Makes sure that Docker has the base images that the examples name: pulls them if a registry answers, else makes
# a stand-in of the same name from Debian packages.
#
# usage: images.sh [CACHE_FOLDER]     made root file systems are kept there; default .trainyard/cache
#
#   alpine:3           busybox with all its commands; no package manager
#   python:3.11-slim   Debian's Python 3.11 with pip
#
# Prints a line for each image that says where it came from. A stand-in carries the label
# `dev.trainyard.stand-in`, and `docker pull NAME` replaces it by the real one at any time.
set -euo pipefail
here=$(dirname "$0")
. "$here/say.sh"

CACHE=${1:-.trainyard/cache}
LABEL=dev.trainyard.stand-in
REGISTRY_SECONDS=10
PULL_SECONDS=300

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# registry_pull IMAGE: pulls it. Stops after REGISTRY_SECONDS if no registry has reported the image by then,
# and after PULL_SECONDS in any case.
registry_pull() {
    local log=$scratch/pull.log pull deadline=$((SECONDS + REGISTRY_SECONDS))
    timeout "$PULL_SECONDS" docker pull "$1" >"$log" 2>&1 &
    pull=$!
    until grep -q 'Pulling from' "$log"; do
        kill -0 "$pull" 2>/dev/null || break
        if [ "$SECONDS" -ge "$deadline" ]; then
            kill "$pull"
            wait "$pull" || true
            return 1
        fi
        sleep 0.1
    done
    wait "$pull"
}

# provide IMAGE SOURCE MAKER: the image, from wherever it can be had. MAKER prints the image's root file
# system as a tar archive; SOURCE says in words what it is made of.
provide() {
    local image=$1 source=$2 maker=$3 archive label
    if label=$(docker image inspect --format "{{index .Config.Labels \"$LABEL\"}}" "$image" 2>/dev/null); then
        say "$image" "already here${label:+ (stand-in made from $label)}"
        return
    fi
    if registry_pull "$image"; then
        say "$image" "pulled"
        return
    fi
    archive=$CACHE/${image//[:\/]/-}.tar
    if [ ! -s "$archive" ]; then
        mkdir -p "$CACHE"
        "$maker" "$scratch/rootfs" "$archive.part"
        mv "$archive.part" "$archive"
    fi
    docker import --change "LABEL $LABEL=\"$source\"" --change 'CMD ["/bin/sh"]' \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'ENV LANG=C.UTF-8' "$archive" "$image" >/dev/null
    say "$image" "no registry answered; made from $source"
}

# make_busybox FOLDER ARCHIVE
make_busybox() {
    "$here/install.sh" busybox-static >&2
    local root=$1 path
    mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,root,tmp,var/tmp,proc,sys,dev}
    chmod 1777 "$root/tmp" "$root/var/tmp"
    cp /bin/busybox "$root/bin/busybox"
    while read -r path; do
        [ -e "$root/$path" ] || ln -s /bin/busybox "$root/$path"
    done < <(/bin/busybox --list-full)
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nobody:x:65534:65534:nobody:/:/sbin/nologin' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' >"$root/etc/group"
    tar --create --file "$2" --directory "$root" --owner 0 --group 0 --numeric-owner .
}

# make_python FOLDER ARCHIVE: like the real image, with `python` and `pip` that may install into the system.
# It trusts the certificate authorities that this machine trusts, a company's own included.
make_python() {
    "$here/install.sh" mmdebstrap >&2
    local bundle=/etc/ssl/certs/ca-certificates.crt log=$scratch/mmdebstrap.log
    # shellcheck disable=SC2016 # $1 is for the hook's shell
    mmdebstrap --format=tar --variant=minbase --include=python3,python3-pip,ca-certificates \
        --aptopt='Acquire::Retries "3"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
        --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python"' \
        --customize-hook="[ ! -s $bundle ] || cp $bundle \"\$1$bundle\"" \
        bookworm "$2" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail python:3.11-slim "mmdebstrap failed; its last lines are above"
    }
}

provide alpine:3 "Debian's busybox-static" make_busybox
provide python:3.11-slim "Debian 12's packages of Python 3.11 and pip" make_python
