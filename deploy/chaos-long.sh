#!/usr/bin/env bash
# The long fault programme: untrusted input, the time that signatures take, simulated histories for some hours, then
# every fault on real parts, then the table. It continues where it was interrupted, as long as its folder is there and
# the build is the same. With another build, histories and trials start from the beginning, and the former ones are
# moved aside, to FILE.before-BUILD. Exits with 1 if there was any violation.
#
# usage: [HOURS=1] [SEED=7] [RIG_TRIALS_F2=3000] [RIG_FOLDER=…] chaos-long.sh [FAULT_FILTER...]
#
# SEED is the first seed of both, the histories and the faults (of these unless RIG_SEED is set); without it
# both take the time of day. A programme that continues keeps its first seed.
#
# A red trial keeps a folder, and prints the command that runs it alone (RIG_ONLY); the table has it too. Red seeds of
# histories are in RIG_FOLDER/histories.red, with their violations.
#
# The counts are those of the long programme, and each is an argument. The table counts against the
# programme's own, however many are asked for: 60 of 500.
#   FUZZ_SECONDS              each fuzz target, two at a time
#   RIG_TRIALS                trials of every fault, so of soaks of an hour as well
#   RIG_TRIALS_F2             trials of one fault, here F2
#   RIG_PLACE                 F1: only places with this in their name
#   RIG_OUTAGE_SECONDS        F5: how long Postgres is away
#   RIG_CONTAINERS            F12: how many exit at once
#   RIG_SCHEDULES             F20: how many come due together
#   RIG_BURST_SECONDS         F21: how long 200 webhooks a second come
#   RIG_POISONED              F23: how many files are poisoned
#   RIG_LINE_MIB, RIG_LOG_MIB, RIG_LINES, RIG_BINARY_MIB    F24: how much is printed
#   RIG_HISTORY               F25: how many runs have ended before
#   RIG_SOAK_SECONDS          F29: the length of a soak
#   RIG_SOAK_FAULT_SECONDS    F29: the time between two faults
#   RIG_NEXT                  F30: a build of the next version
set -euo pipefail
cd "$(dirname "$0")/.."

export RIG_LONG=1
export RIG_FOLDER=${RIG_FOLDER:-$PWD/.trainyard/chaos}
if [ -n "${SEED:-}" ]; then
    export RIG_SEED=${RIG_SEED:-$SEED}
fi
mkdir -p "$RIG_FOLDER"

# As people run it; the gate is what tries a debug build, whose assertions are compiled in.
cargo build --release --locked --package trainyard --features fail-points
ended=0
cargo run --locked --release --package trainyard-fuzz -- --seconds "${FUZZ_SECONDS:-600}" ${SEED:+--seed "$SEED"} || ended=1
cargo test --release --locked --package trainyard-forge --test forge -- --ignored class_03 || ended=1
cargo run --locked --release --package trainyard-simulation --bin simulate -- \
    --seconds $((${HOURS:-1} * 3600)) --seed "${SEED:-$(date +%s)00000}" \
    --journal "$RIG_FOLDER/histories" --keep-going || ended=1
cargo test --release --locked --package trainyard-rig --test faults -- --nocapture "$@" || ended=1
cargo run --release --locked --quiet --package trainyard-rig --bin table -- "$RIG_FOLDER" || ended=1
exit "$ended"
