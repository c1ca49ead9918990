//! A push starts the runs whose triggers match, at the pushed commit, reported by webhook or found by polling.

use trainyard_tests::daemon::{Daemon, stage};
use trainyard_tests::place::Place;
use trainyard_tests::remote::git;
use trainyard_tests::scene::{BOUND, Scene, dag_file, saying};
use trainyard_tests::shown::items;

/// A daemon that knows these files, and polls so rarely that something else has to make it look.
fn following(files: &[(&str, &str)]) -> Scene {
    let plan = Scene::plan().options(&["--poll-every", "1h"]).webhooks();
    let files = files.iter();
    files
        .fold(plan, |plan, (path, text)| plan.file(path, text))
        .begin()
}

#[test]
fn a_signed_webhook_starts_the_run_at_the_pushed_commit() {
    let file = "dags/say.yaml";
    let scene = following(&[(file, &saying("push: {branches: [main]}", "old"))]);
    assert_eq!(
        scene.daemon.run_ids(),
        [0; 0],
        "taking stock of a repo starts nothing"
    );

    let before = scene.remote.head();
    let new = saying("push: {branches: [main]}", "new");
    let after = scene.push("main", &[(file, &new)]);
    let delivery = scene.delivery("d-1", &before, &after);
    assert_eq!(delivery.send(scene.daemon.url(), "model") / 100, 2);

    let run = scene.finished(scene.first_run());
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(run["commit"], after.as_str());
    let log = scene.log(&run);
    assert!(
        log.contains("new"),
        "the file is read at the pushed commit: {log}"
    );
}

#[test]
fn a_push_without_a_webhook_is_found_by_polling() {
    let scene = Scene::plan()
        .options(&["--poll-every", "1s"])
        .file("dags/say.yaml", &saying("push: {}", "hi"))
        .begin();
    let after = scene.push("main", &[("README.md", "more")]);
    let run = scene.finished(scene.first_run());
    assert_eq!(run["commit"], after.as_str());
}

#[test]
fn branch_and_path_filters_decide_which_dags_run() {
    let source = saying("push: {branches: [main], paths: [\"src/**\"]}", "source");
    let release = saying("push: {branches: [\"release/*\"]}", "release");
    let scene = following(&[
        ("dags/source.yaml", &source),
        ("dags/release.yaml", &release),
    ]);

    scene.update(&[("README.md", "no source")]);
    scene.update(&[("src/train.py", "pass")]);
    scene.push("release/1", &[("src/train.py", "pass # 1")]);
    scene.sync();

    let ids = scene.daemon.runs(2, BOUND).into_iter();
    let dags: Vec<String> = ids
        .map(|id| scene.finished(id)["dag"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(dags, ["model/source", "model/release"]);
}

#[test]
fn the_source_tree_of_the_commit_is_the_working_directory() {
    let scene = Scene::of("source_tree");
    scene.update(&[("data.txt", "from the commit\n")]);
    let run = scene.finished(scene.first_run());
    assert_eq!(stage(&run, "look")["state"], "succeeded", "{run}");
    let log = scene.log(&run);
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
    let scene = following(&[("dags/one.yaml", &saying(MONTHLY, "one"))]);
    let (daemon, remote) = (&scene.daemon, &scene.remote);
    std::fs::remove_file(remote.tree().join("dags/one.yaml")).unwrap();
    scene.push("trunk", &[("dags/two.yaml", &saying(MONTHLY, "two"))]);
    assert_eq!(
        followed(daemon),
        ("main".to_owned(), vec!["one".to_owned()])
    );
    let runs = daemon.run_ids();

    for (branch, dag) in [("trunk", "two"), ("main", "one"), ("trunk", "two")] {
        remote.make_default(branch);
        let expected = (branch.to_owned(), vec![dag.to_owned()]);
        assert_eq!(followed(daemon), expected);
    }
    assert_eq!(
        daemon.run_ids(),
        runs,
        "nothing was pushed, so nothing starts"
    );
    remote.delete("main");
    assert_eq!(
        followed(daemon),
        ("trunk".to_owned(), vec!["two".to_owned()])
    );
}

#[test]
fn the_branch_that_a_checkout_is_on_when_it_is_added_is_followed_whatever_is_checked_out_later() {
    let place = Place::new();
    let tree = place.join("work");
    git(place.path(), &["init", "-q", "-b", "main", "work"]);
    let commit = |file: &str| {
        place.write(&format!("work/dags/{file}.yaml"), &saying(MONTHLY, file));
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
    let scene = following(&[]);
    let tree = scene.remote.tree();
    std::fs::create_dir_all(tree.join("vendor/library")).unwrap();
    let link = format!("160000,{},vendor/library", "1".repeat(40));
    git(tree, &["update-index", "--add", "--cacheinfo", &link]);
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9\n",
        "0".repeat(64)
    );
    let text = saying("push: {}", "trained");
    scene.update(&[("dags/say.yaml", &text), ("data/rows.bin", &pointer)]);
    let id = scene.first_run();
    assert_eq!(scene.finished(id)["state"], "succeeded");
    for command in ["logs", "show"] {
        let said = scene.daemon.cli(&["run", command, &id.to_string()]).good();
        let said = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            said.contains("data/rows.bin is a pointer of Git LFS")
                && said.contains("vendor/library is a git submodule"),
            "{command}: {said}"
        );
    }
}

#[test]
fn a_stage_that_wants_them_gets_the_contents_of_git_lfs() {
    let scene = following(&[]);
    // The SHA-256 of `rows of data\n`, in the folder that `git lfs` keeps its contents in.
    let oid = "aaf75339006990f48b39b4840907ae391d311719b32cba99a792cdf1c11f27cc";
    let kept = format!("model.git/lfs/objects/{}/{}/{oid}", &oid[..2], &oid[2..4]);
    scene.place.write(&kept, "rows of data\n");
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 13\n");
    scene.update(&[
        ("dags/look.yaml", &dag_file("lfs")),
        ("data/rows.bin", &pointer),
    ]);
    let run = scene.finished(scene.first_run());
    assert_eq!(run["state"], "succeeded", "{run}");
    let log = scene.log(&run);
    assert!(
        log.contains("rows of data") && !log.contains("pointer"),
        "{log}"
    );
}
