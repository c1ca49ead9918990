#!/usr/bin/env bash
# Runs all tests of the workspace, documentation tests first, with nextest where it is installed.
#
# usage: test.sh [TEST_RUNNER_ARGUMENT...]     (make test, after the lints and the build)
set -euo pipefail
cd "$(dirname "$0")/.."

# One Postgres for all tests, whose runner starts a process for each: they make a database each. It ends with this
# script.
coproc POSTGRES { exec tests/cluster/cluster.sh --template; }
read -r TRAINYARD_TEST_POSTGRES <&"${POSTGRES[0]}"
export TRAINYARD_TEST_POSTGRES

cargo test --workspace --doc --locked --quiet
if cargo nextest --version >/dev/null 2>&1; then
    # Most of the time of most tests is a wait for something real: one more of them than there are cores.
    cargo nextest run --workspace --locked --no-fail-fast --test-threads "$(($(nproc) + 1))" "$@"
else
    cargo test --workspace --all-targets --locked --no-fail-fast "$@"
fi
