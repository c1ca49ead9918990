#!/usr/bin/env bash
# The demo, from a bare Debian machine with Rust and git: a real push retrains a real model, a worse model is
# refused, and a cron tick retrains by itself.
#
# usage: demo.sh          (make demo)
#        demo.sh stop     (make demo-stop)
#
# The daemon and the project's warehouse stay up at the end, so that you can explore. A second call starts over.
# TRAINYARD_BIN names a ready binary to use instead of building one.
set -euo pipefail
. "$(dirname "$0")/demo/place.sh"
. "$ROOT/deploy/demo/warehouse.sh"
. "$ROOT/deploy/demo/repository.sh"
. "$ROOT/deploy/demo/trainyard.sh"

TRAINYARD=${TRAINYARD_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/trainyard}

stop_all() {
    revive_daemon
    cancel_runs
    stop_daemon
    stop_warehouse
}

if [ "${1:-}" = stop ]; then
    choose_state
    stop_all
    exit 0
fi

chapter "1. The machine: packages, Docker, base images"
"$ROOT/deploy/setup/install.sh"
"$ROOT/deploy/setup/docker.sh" "$ROOT/.trainyard"
"$ROOT/deploy/setup/images.sh" "$ROOT/.trainyard/cache"

chapter "2. The program"
[ -n "${TRAINYARD_BIN:-}" ] || (cd "$ROOT" && cargo build --locked --package trainyard)
say demo "using $TRAINYARD"

chapter "3. A warehouse for the project, and the daemon"
choose_state
stop_all
(cd "$STATE" && rm -rf data warehouse retrain retrain.git env daemon.log)
start_warehouse
start_daemon

chapter "4. The project: a git repository that the daemon follows"
make_repository
WEBHOOK_SECRET=$(openssl rand -hex 32)
follow_repo retrain "$REPO_URL" "$WEBHOOK_SECRET"
install_webhook "$(webhook_url retrain)" "$WEBHOOK_SECRET"
set_secret retrain WAREHOUSE_DSN "$WAREHOUSE_DSN"

chapter "5. The first push trains the model"
commit_and_push "Classify tumours"
expect_run 60 push "$COMMIT" succeeded
show trainyard run logs "$RUN" train
FIRST=$RUN

chapter "6. A push that makes the model worse is refused by the gate"
edit model.toml 's/^trees = [0-9]+ /trees = 5   /; s/^depth = [0-9]+/depth = 1/'
in_clone --no-pager diff --unified=0 -- model.toml | grep '^[-+][a-z]'
commit_and_push "Train faster, with fewer and smaller trees"
expect_run 60 push "$COMMIT" failed
SECOND=$RUN

chapter "7. A cron tick retrains by itself"
# The next full minute that leaves the daemon 15 s to see the push.
tick=$((($(date +%s) + 15) / 60 * 60 + 60))
schedule=$(date --utc --date "@$tick" '+%-M %-H %-d %-m *')
edit model.toml 's/^trees = [0-9]+ +/trees = 500           /; s/^depth = [0-9]+/depth = 3/'
edit dags/retrain.yaml "s/^( +- cron: ).*/\\1\"$schedule\"/; s/^( +timezone: ).*/\\1UTC/"
commit_and_push "Take the trees back, and retrain at $(date --utc --date "@$tick" +%H:%M) UTC"
wait_until 60 "the push to be seen" find_run push "$COMMIT"
show trainyard dag next retrain --count 1
expect_run 60 push "$COMMIT" succeeded
THIRD=$RUN
say demo "the tick is due in $((tick > $(date +%s) ? tick - $(date +%s) : 0)) s"
expect_run 120 schedule "$COMMIT" succeeded
FOURTH=$RUN

chapter "8. What happened"
show trainyard run list
echo "The models that were good enough, as the project's own warehouse has them:"
ask_warehouse 'SELECT run_id, left(commit_hash, 12) AS "commit", cause, round(auc::numeric, 4) AS auc,
    round(accuracy::numeric, 4) AS accuracy FROM released_model ORDER BY released_at'
cat <<SUMMARY
Done in $((SECONDS / 60)) min $((SECONDS % 60)) s:

  run $FIRST   the first push: trained, and passed the gate
  run $SECOND   the worse model: refused by the gate, and never released
  run $THIRD   its repair: released
  run $FOURTH   the cron tick: retrained by itself

Explore (the daemon stays up at $URL):

  . $STATE/env
  trainyard run show $SECOND
  trainyard run logs $FIRST train
  trainyard metric list $FIRST
  trainyard dag trigger retrain -p test_share=0.4 --follow
  cd $STATE/retrain && edit model.toml && git commit -a && git push origin main

Stop it all: make demo-stop
SUMMARY
