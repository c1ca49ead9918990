#!/usr/bin/env bash
# The long fault programme: simulated histories for some hours, then every fault on real parts with the
# counts that docs/reliability.md gives, then the table. Goes on where it was interrupted, as long as its
# folder is there. Ends with 1 when anything was violated.
#
# usage: [HOURS=1] [SEED=7] [RIG_TRIALS=100] [RIG_TRIALS_F2=3000] [RIG_FOLDER=…] chaos-long.sh [FAULT_FILTER...]
set -euo pipefail
cd "$(dirname "$0")/.."

export RIG_LONG=1
export RIG_FOLDER=${RIG_FOLDER:-$PWD/.trainyard/chaos}
mkdir -p "$RIG_FOLDER"

# As people run it; the gate is what tries a debug build, whose assertions are compiled in.
cargo build --release --locked --package trainyard --features fail-points
ended=0
cargo run --locked --release --package trainyard-simulation --bin simulate -- \
    --seconds $((${HOURS:-1} * 3600)) --seed "${SEED:-$(date +%s)00000}" \
    --journal "$RIG_FOLDER/histories" --keep-going || ended=1
cargo test --release --locked --package trainyard-rig --test faults -- --nocapture "$@" || ended=1
cargo run --release --locked --quiet --package trainyard-rig --bin table -- "$RIG_FOLDER" || ended=1
exit "$ended"
