#!/usr/bin/env bash
# Mounts the control groups, which containers need and which are not mounted on a machine without an init system.
#
# usage: cgroups.sh
#
# Version 2 where the kernel's controllers are free for it, else version 1. Does nothing where any is mounted.
set -euo pipefail
. "$(dirname "$0")/say.sh"

ROOT=/sys/fs/cgroup

if grep -q " $ROOT" /proc/self/mounts; then
    exit 0
fi
as_root mount -t cgroup2 none "$ROOT"
if grep -qw memory "$ROOT/cgroup.controllers" && grep -qw cpu "$ROOT/cgroup.controllers"; then
    say cgroups "mounted version 2 at $ROOT"
    exit 0
fi
as_root umount "$ROOT"
as_root mount -t tmpfs -o mode=755 cgroup "$ROOT"
while read -r controller _ _ enabled; do
    if [ "$enabled" = 1 ]; then
        as_root mkdir "$ROOT/$controller"
        as_root mount -t cgroup -o "$controller" cgroup "$ROOT/$controller" || as_root rmdir "$ROOT/$controller"
    fi
done < <(grep -v '^#' /proc/cgroups)
say cgroups "mounted version 1 at $ROOT"
