# Sourced by the scripts of this folder: one way to print progress, and to end with a reason.
# shellcheck shell=bash

# say TOPIC TEXT: one line of progress.
say() {
    printf '%s: %s\n' "$1" "$2"
}

# fail TOPIC TEXT: says what is wrong and what to do, and ends the script.
fail() {
    printf '%s: %s\n' "$1" "$2" >&2
    exit 1
}

# as_root COMMAND...: runs it as root, through sudo where we are not.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail setup "this needs root: $* (run it as root, or install sudo)"
    fi
}
