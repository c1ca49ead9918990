# Sourced by the demo: the retrain project as a team has it, a bare repository that one pushes to and a clone
# that one works in. The bare repository reports pushes by webhook, as GitHub does.
# shellcheck shell=bash

# make_repository: a bare repository with nothing but a README, and a clone of it with all of the project's
# files, the rest of them uncommitted. Sets REPO_URL.
make_repository() {
    local bare=$STATE/retrain.git
    REPO_URL=file://$bare
    git init --quiet --bare --initial-branch=main "$bare"
    git init --quiet --initial-branch=main "$STATE/retrain"
    in_clone remote add origin "$REPO_URL"
    in_clone config user.name "Ada Example"
    in_clone config user.email ada@example.com
    in_clone config commit.gpgsign false
    cp -R "$ROOT/dags/retrain/." "$STATE/retrain/"
    # The demo has a warehouse.
    sed --in-place --regexp-extended 's/^( +)# (secrets: \[WAREHOUSE_DSN\]).*/\1\2/' "$STATE/retrain/dags/retrain.yaml"
    in_clone add README.md
    in_clone commit --quiet --message "Start the project"
    in_clone push --quiet origin main
}

in_clone() {
    git -C "$STATE/retrain" "$@"
}

# install_webhook URL SECRET
install_webhook() {
    local hooks=$STATE/retrain.git/hooks
    (
        umask 077
        printf 'WEBHOOK_URL=%q\nWEBHOOK_SECRET=%q\n' "$1" "$2" >"$hooks/webhook.env"
    )
    install -m 755 "$ROOT/deploy/demo/post-receive" "$hooks/post-receive"
}

# commit_and_push MESSAGE: commits all changes and pushes them. Sets COMMIT.
commit_and_push() {
    in_clone add --all
    in_clone commit --quiet --message "$1"
    COMMIT=$(in_clone rev-parse HEAD)
    printf '$ git commit --message "%s" && git push origin main\n' "$1"
    in_clone push --quiet origin main 2>&1 || stop_with "git push failed"
    echo
}

# edit FILE SED_SCRIPT: changes a file of the clone, and insists that it did.
edit() {
    sed --in-place --regexp-extended "$2" "$STATE/retrain/$1"
    ! in_clone diff --quiet -- "$1" || fail demo "nothing to change in $1: $2"
}
