#!/usr/bin/env bash
# Runs all tests of the workspace, documentation tests first, with nextest where it is installed.
#
# usage: test.sh [TEST_RUNNER_ARGUMENT...]     (make test, after the lints and the build)
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test --workspace --doc --locked --quiet
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --workspace --locked --no-fail-fast "$@"
fi
exec cargo test --workspace --all-targets --locked --no-fail-fast "$@"
