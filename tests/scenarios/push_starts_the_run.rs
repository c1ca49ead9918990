//! A push starts the runs whose triggers match, at the pushed commit, reported by webhook or found by polling.

use std::time::Duration;

use trainyard_tests::daemon::{Daemon, stage};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::{Remote, git};
use trainyard_tests::shown::items;
use trainyard_tests::webhook::Delivery;

const BOUND: Duration = Duration::from_secs(600);
const SECRET: &str = "a-webhook-secret-of-32-characters";

fn dag(triggers: &str, text: &str) -> String {
    format!("triggers: {{{triggers}}}\nstages: {{say: {{image: \"{IMAGE}\", run: echo {text}}}}}\n")
}

/// A daemon that follows a remote with one commit, and knows that commit.
fn following(place: &Place, more: &[&str], files: &[(&str, &str)]) -> (Daemon, Remote, String) {
    let remote = Remote::new(place, "model");
    let first = remote.push("main", files);
    let daemon = Daemon::dev(place, more);
    let added = [
        "repo",
        "add",
        "model",
        &remote.url(),
        "--webhook-secret",
        "-",
    ];
    let _ = daemon.cli_with_input(&added, SECRET).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    (daemon, remote, first)
}

#[test]
fn a_signed_webhook_starts_the_run_at_the_pushed_commit() {
    let place = Place::new();
    let file = "dags/say.yaml";
    let old = dag("push: {branches: [main]}", "old");
    let (daemon, remote, before) = following(&place, &["--poll-every", "1h"], &[(file, &old)]);
    assert_eq!(
        daemon.run_ids(),
        [0; 0],
        "taking stock of a repo starts nothing"
    );

    let after = remote.push("main", &[(file, &dag("push: {branches: [main]}", "new"))]);
    let delivery = Delivery::of_push(SECRET, "d-1", "main", &before, &after);
    assert_eq!(delivery.send(daemon.url(), "model") / 100, 2);

    let id = daemon.runs(1, BOUND)[0];
    let run = daemon.finished_run(id, BOUND);
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(run["commit"], after.as_str());
    let log = daemon.cli(&["run", "logs", &id.to_string()]).good();
    assert!(
        log.stdout.contains("new"),
        "the file is read at the pushed commit: {log:#?}"
    );
}

#[test]
fn a_push_without_a_webhook_is_found_by_polling() {
    let place = Place::new();
    let text = dag("push: {}", "hi");
    let (daemon, remote, _) =
        following(&place, &["--poll-every", "1s"], &[("dags/say.yaml", &text)]);
    let after = remote.push("main", &[("README.md", "more")]);
    let id = daemon.runs(1, BOUND)[0];
    assert_eq!(daemon.finished_run(id, BOUND)["commit"], after.as_str());
}

#[test]
fn branch_and_path_filters_decide_which_dags_run() {
    let place = Place::new();
    let files = [
        (
            "dags/source.yaml",
            dag("push: {branches: [main], paths: [\"src/**\"]}", "source"),
        ),
        (
            "dags/release.yaml",
            dag("push: {branches: [\"release/*\"]}", "release"),
        ),
    ];
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let (daemon, remote, _) = following(&place, &["--poll-every", "1h"], &files);

    remote.push("main", &[("README.md", "no source")]);
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    remote.push("main", &[("src/train.py", "pass")]);
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    remote.push("release/1", &[("src/train.py", "pass # 1")]);
    let _ = daemon.cli(&["repo", "sync", "model"]).good();

    let ids = daemon.runs(2, BOUND);
    let dags: Vec<String> = ids
        .iter()
        .map(|id| {
            daemon.finished_run(*id, BOUND)["dag"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(dags, ["model/source", "model/release"]);
}

#[test]
fn the_source_tree_of_the_commit_is_the_working_directory() {
    let place = Place::new();
    let text = format!(
        "triggers: {{push: {{}}}}\nstages:\n  look:\n    image: \"{IMAGE}\"\n    run: |\n      cat data.txt\n      pwd\n      echo changed > data.txt\n"
    );
    let (daemon, remote, _) = following(&place, &[], &[("dags/look.yaml", &text)]);
    remote.push("main", &[("data.txt", "from the commit\n")]);
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let id = daemon.runs(1, BOUND)[0];
    let run = daemon.finished_run(id, BOUND);
    assert_eq!(stage(&run, "look")["state"], "succeeded", "{run}");
    let log = daemon.cli(&["run", "logs", &id.to_string()]).good().stdout;
    assert!(
        log.contains("from the commit") && log.contains("/workspace"),
        "{log}"
    );
}

/// The repo's followed branch, and its DAGs that have schedules now.
fn followed(daemon: &Daemon) -> (String, Vec<String>) {
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let branch = daemon.json(&["repo", "show", "model"])["branch"].clone();
    let dags = daemon.json(&["dag", "list"]);
    let current = items(&dags)
        .iter()
        .filter(|dag| !dag["next_tick"].is_null());
    let names = current.map(|dag| dag["name"].as_str().unwrap_or_default().to_owned());
    (
        branch.as_str().unwrap_or_default().to_owned(),
        names.collect(),
    )
}

const MONTHLY: &str = "schedule: [{cron: \"@monthly\"}], push: {branches: [\"*\"]}";

#[test]
fn the_followed_branch_moves_with_the_remotes_default_at_the_next_look() {
    let place = Place::new();
    let file = dag(MONTHLY, "one");
    let (daemon, remote, _) =
        following(&place, &["--poll-every", "1h"], &[("dags/one.yaml", &file)]);
    std::fs::remove_file(remote.tree().join("dags/one.yaml")).unwrap();
    remote.push("trunk", &[("dags/two.yaml", &dag(MONTHLY, "two"))]);
    assert_eq!(
        followed(&daemon),
        ("main".to_owned(), vec!["one".to_owned()])
    );
    let runs = daemon.run_ids();

    for (branch, dag) in [("trunk", "two"), ("main", "one"), ("trunk", "two")] {
        remote.make_default(branch);
        let expected = (branch.to_owned(), vec![dag.to_owned()]);
        assert_eq!(followed(&daemon), expected);
    }
    assert_eq!(
        daemon.run_ids(),
        runs,
        "nothing was pushed, so nothing starts"
    );
    remote.delete("main");
    assert_eq!(
        followed(&daemon),
        ("trunk".to_owned(), vec!["two".to_owned()])
    );
}

#[test]
fn the_branch_that_a_checkout_is_on_when_it_is_added_is_followed_whatever_is_checked_out_later() {
    let place = Place::new();
    let tree = place.join("work");
    git(place.path(), &["init", "-q", "-b", "main", "work"]);
    let commit = |file: &str| {
        place.write(&format!("work/dags/{file}.yaml"), &dag(MONTHLY, file));
        git(&tree, &["add", "-A"]);
        git(&tree, &["commit", "-q", "-m", file]);
    };
    commit("one");
    let path = tree.display().to_string();
    let daemon = Daemon::dev(&place, &["--poll-every", "1h", "--repo", &path]);
    let said = daemon.output();
    assert!(said.contains("follows branch main of file://"), "{said}");
    let _ = daemon.cli(&["repo", "sync", "work"]).good();
    let follows = |repo: &str, branch: &str| {
        let _ = daemon.cli(&["repo", "sync", repo]).good();
        let shown = daemon.json(&["repo", "show", repo]);
        assert_eq!(shown["branch"], branch, "{shown}");
        assert_eq!(shown["dags"], 1, "{shown}");
    };
    follows("work", "main");

    git(&tree, &["switch", "-q", "-c", "topic"]);
    git(&tree, &["rm", "-q", "dags/one.yaml"]);
    commit("two");
    follows("work", "main");
    let _ = daemon.cli(&["repo", "add", "model", &path]).good();
    follows("model", "topic");
    // As in the middle of a rebase.
    git(&tree, &["switch", "-q", "--detach", "main"]);
    follows("work", "main");
    follows("model", "topic");
    let _ = daemon.cli(&["repo", "add", "third", &path]).good();
    follows("third", "main");
    git(&tree, &["switch", "-q", "topic"]);
    follows("third", "main");
    let _ = daemon
        .cli(&["repo", "set", "work", "--default-branch"])
        .good();
    follows("work", "topic");
}

#[test]
fn the_log_names_large_files_and_submodules_that_a_tree_lacks() {
    let place = Place::new();
    let text = dag("push: {}", "trained");
    let (daemon, remote, _) = following(&place, &["--poll-every", "1h"], &[]);
    std::fs::create_dir_all(remote.tree().join("vendor/library")).unwrap();
    let link = format!("160000,{},vendor/library", "1".repeat(40));
    git(
        remote.tree(),
        &["update-index", "--add", "--cacheinfo", &link],
    );
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9\n",
        "0".repeat(64)
    );
    remote.push(
        "main",
        &[("dags/say.yaml", &text), ("data/rows.bin", &pointer)],
    );
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let id = daemon.runs(1, BOUND)[0];
    assert_eq!(daemon.finished_run(id, BOUND)["state"], "succeeded");
    for command in ["logs", "show"] {
        let said = daemon.cli(&["run", command, &id.to_string()]).good().stdout;
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            said.contains("data/rows.bin is a pointer of Git LFS")
                && said.contains("vendor/library is a git submodule"),
            "{command}: {said}"
        );
    }
}

#[test]
fn a_stage_that_wants_them_gets_the_contents_of_git_lfs() {
    let place = Place::new();
    let text = format!(
        "triggers: {{push: {{}}}}\nstages:\n  look:\n    image: \"{IMAGE}\"\n    checkout: {{lfs: true}}\n    run: cat data/rows.bin\n"
    );
    let (daemon, remote, _) = following(&place, &["--poll-every", "1h"], &[]);
    // The SHA-256 of `rows of data\n`, in the folder that `git lfs` keeps its contents in.
    let oid = "aaf75339006990f48b39b4840907ae391d311719b32cba99a792cdf1c11f27cc";
    let kept = format!("model.git/lfs/objects/{}/{}/{oid}", &oid[..2], &oid[2..4]);
    place.write(&kept, "rows of data\n");
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 13\n");
    remote.push(
        "main",
        &[("dags/look.yaml", &text), ("data/rows.bin", &pointer)],
    );
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let id = daemon.runs(1, BOUND)[0];
    let run = daemon.finished_run(id, BOUND);
    assert_eq!(run["state"], "succeeded", "{run}");
    let log = daemon.cli(&["run", "logs", &id.to_string()]).good().stdout;
    assert!(
        log.contains("rows of data") && !log.contains("pointer"),
        "{log}"
    );
}
