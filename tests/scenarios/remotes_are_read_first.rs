//! A run by hand is of the branch as its remote has it now; if the remote cannot be read, the answer says so.

use serde_json::Value;
use trainyard_tests::remote::{Remote, git};
use trainyard_tests::scene::{Scene, WEBHOOK_SECRET, saying};
use trainyard_tests::shown::items;
use trainyard_tests::webhook::{Delivery, NO_COMMIT};

/// A daemon that looks by itself once an hour, and the first commit of its remote.
fn following(text: &str) -> (Scene, String) {
    let scene = Scene::plan()
        .options(&["--poll-every", "1h"])
        .webhooks()
        .file("dags/say.yaml", text)
        .begin();
    let first = scene.remote.head();
    (scene, first)
}

fn id(started: &Value) -> i64 {
    started["id"].as_i64().unwrap()
}

#[test]
fn a_run_by_hand_is_of_the_newest_commit_before_any_poll() {
    let (scene, _) = following(&saying("", "one; exit 1"));
    let (daemon, remote) = (&scene.daemon, &scene.remote);
    let newest = |more: &str| remote.push("main", &[("more", more)]);
    let tag = || {
        git(
            remote.tree(),
            &["push", "-qf", "origin", "HEAD:refs/tags/v1"],
        )
    };

    let head = newest("1");
    let started = daemon.json(&["dag", "trigger", "say"]);
    assert_eq!(started["commit"], head.as_str(), "{started}");
    assert_eq!(started["branch"], "main", "{started}");
    let first = scene.finished(id(&started));
    assert_eq!(first["commit"], head.as_str());

    let head = newest("2");
    let started = daemon.json(&["dag", "trigger", "say", "--ref", "main"]);
    assert_eq!(started["commit"], head.as_str(), "{started}");

    for more in ["3", "4"] {
        let head = newest(more);
        tag();
        let started = daemon.json(&["dag", "trigger", "say", "--ref", "v1"]);
        assert_eq!(started["commit"], head.as_str(), "{started}");
        assert_eq!(started["branch"], Value::Null, "{started}");
    }

    let of = first["id"].to_string();
    let head = newest("5");
    let started = daemon.json(&["run", "retry", &of, "--latest"]);
    assert_eq!(started["commit"], head.as_str(), "{started}");
    let head = newest("6");
    let answer = daemon.cli(&["run", "retry", &of, "--ref", "main"]).good();
    let reported = format!("commit {} of branch main", &head[..10]);
    assert!(answer.stdout.contains(&reported), "{answer:?}");
}

#[test]
fn a_dag_whose_file_was_pushed_just_now_is_found_by_a_trigger() {
    let (scene, _) = following(&saying("", "one"));
    let (daemon, remote) = (&scene.daemon, &scene.remote);
    for (file, name) in [("two", "two"), ("three", "model/three")] {
        let path = format!("dags/{file}.yaml");
        let head = remote.push("main", &[(path.as_str(), saying("", file).as_str())]);
        let started = daemon.json(&["dag", "trigger", name]);
        assert_eq!(started["commit"], head.as_str(), "{started}");
    }
    let unknown = daemon.cli(&["dag", "trigger", "fourteen"]);
    assert_eq!(unknown.code, Some(4), "{unknown:?}");
}

#[test]
fn triggers_at_the_same_time_all_run_the_newest_commit() {
    let (scene, _) = following(&saying("", "one"));
    let (daemon, remote) = (&scene.daemon, &scene.remote);
    let head = remote.push("main", &[("more", "1")]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let started = daemon.json(&["dag", "trigger", "say"]);
                assert_eq!(started["commit"], head.as_str(), "{started}");
            });
        }
    });
}

#[test]
fn a_remote_that_is_gone_is_reported_with_the_commit_that_is_run_instead() {
    let (scene, first) = following(&saying("", "one; exit 1"));
    let (daemon, place) = (&scene.daemon, &scene.place);
    std::fs::rename(place.join("model.git"), place.join("elsewhere")).unwrap();
    let reported = format!(": commit {} of branch main, last seen ", &first[..10]);
    let mut run = String::new();
    for arguments in [
        vec!["dag", "trigger", "say"],
        vec!["dag", "trigger", "say", "--ref", "main"],
        vec!["run", "retry", "1", "--latest"],
    ] {
        if arguments[0] == "run" {
            let _ = scene.finished(1);
        }
        let answer = daemon.cli(&arguments).good().stdout;
        assert!(answer.contains("cannot reach the remote ("), "{answer}");
        assert!(answer.contains(&reported), "{answer}");
        run = answer;
    }
    assert!(run.contains("run 3 "), "{run}");
    // A commit needs no look.
    let answer = daemon
        .cli(&["dag", "trigger", "say", "--ref", &first])
        .good();
    assert!(!answer.stdout.contains("cannot reach"), "{answer:?}");
    let unknown = daemon.cli(&["dag", "trigger", "say", "--ref", "nosuch"]);
    assert_ne!(unknown.code, Some(0));
    assert!(
        unknown.stderr.contains("cannot reach the remote ("),
        "{unknown:?}"
    );

    let set = daemon.cli(&["repo", "set", "model", "--branch", "dev"]);
    assert_eq!(set.code, Some(3), "{set:?}");
    assert!(
        set.stdout
            .contains("could not check that it has branch `dev`"),
        "{set:?}"
    );
}

#[test]
fn what_an_earlier_address_had_is_not_run_before_the_new_one_was_read() {
    let (scene, first) = following(&saying("", "one; exit 1"));
    let (daemon, remote, place) = (&scene.daemon, &scene.remote, &scene.place);
    let started = daemon.json(&["dag", "trigger", "say"]);
    let _ = scene.finished(id(&started));
    let nowhere = format!("file://{}", place.join("nowhere.git").display());
    let set = daemon.cli(&["repo", "set", "model", &nowhere]);
    assert_eq!(set.code, Some(3), "{set:?}");
    for arguments in [
        vec!["dag", "trigger", "say"],
        vec!["dag", "trigger", "say", "--ref", "main"],
        vec!["run", "retry", "1", "--latest"],
    ] {
        let refused = daemon.cli(&arguments);
        assert_eq!(refused.code, Some(3), "{refused:?}");
        for words in [
            "the address of repo model was changed at ",
            "and its remote has not been read since; cannot reach the remote (",
            "`trainyard repo sync model`",
        ] {
            assert!(refused.stderr.contains(words), "{words}: {refused:?}");
        }
    }
    assert_eq!(daemon.run_ids(), [1]);
    // Its branch can be changed all the same, and what names a commit means that one.
    let set = daemon.cli(&["repo", "set", "model", "--branch", "main", "--no-wait"]);
    let _ = set.good();
    let by_hash = daemon.json(&["dag", "trigger", "say", "--ref", &first]);
    assert_eq!(by_hash["commit"], first.as_str(), "{by_hash}");

    let _ = daemon.cli(&["repo", "set", "model", &remote.url()]).good();
    let started = daemon.json(&["dag", "trigger", "say"]);
    assert_eq!(started["commit"], first.as_str(), "{started}");
}

#[test]
fn a_retry_that_finds_nothing_to_run_says_that_there_may_be_a_newer_commit() {
    let (scene, _) = following(&saying("", "one"));
    let (daemon, place) = (&scene.daemon, &scene.place);
    let started = daemon.json(&["dag", "trigger", "say"]);
    let _ = scene.finished(id(&started));
    std::fs::rename(place.join("model.git"), place.join("elsewhere")).unwrap();
    let refused = daemon.cli(&["run", "retry", "1", "--latest"]);
    for reported in ["nothing is left to run", "cannot reach the remote ("] {
        assert!(refused.stderr.contains(reported), "{reported}: {refused:?}");
    }
}

#[test]
fn a_newest_commit_whose_dag_has_faults_is_reported_with_the_one_that_is_run() {
    let (scene, first) = following(&saying("", "one"));
    let (daemon, remote) = (&scene.daemon, &scene.remote);
    let head = remote.push("main", &[("dags/say.yaml", "stages: {}\n")]);
    let started = daemon.json(&["dag", "trigger", "say"]);
    assert_eq!(started["commit"], first.as_str(), "{started}");
    let notes = started["notes"].to_string();
    assert!(
        notes.contains(&format!("the DAG has faults at commit {}", &head[..10])),
        "{notes}"
    );
}

#[test]
fn a_branch_that_the_remote_does_not_have_is_refused_with_the_one_that_was_meant() {
    let (scene, _) = following(&saying("", "one"));
    let (daemon, remote) = (&scene.daemon, &scene.remote);
    let url = remote.url();
    let added = daemon.cli(&["repo", "add", "other", &url, "--branch", "mian"]);
    assert_eq!(added.code, Some(3), "{added:?}");
    assert!(
        added
            .stderr
            .contains("the remote has no branch `mian`; did you mean `main`?"),
        "{added:?}"
    );
    let shown = daemon.json(&["repo", "show", "other"]);
    assert_eq!(shown["branch_missing"], true, "{shown}");

    remote.push("dev", &[("more", "1")]);
    let set = daemon.cli(&["repo", "set", "other", "--branch", "dve", "--no-wait"]);
    assert!(![Some(0), Some(2)].contains(&set.code), "{set:?}");
    assert!(set.stderr.contains("did you mean `dev`?"), "{set:?}");
    let set = daemon
        .cli(&["repo", "set", "other", "--branch", "dev"])
        .good();
    assert!(set.stdout.contains("found 1 DAG on dev"), "{set:?}");
    // Each sync reports a branch that is removed later.
    remote.delete("dev");
    let synced = daemon.cli(&["repo", "sync", "other"]);
    assert_eq!(synced.code, Some(3), "{synced:?}");
    assert!(synced.stderr.contains("no branch `dev`"), "{synced:?}");
    // It has no newest commit to start a run of.
    let refused = daemon.cli(&["dag", "trigger", "other/say"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    for words in [
        "other has no branch to follow",
        "`trainyard repo set other --branch BRANCH`",
    ] {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    }
    let by_branch = daemon.json(&["dag", "trigger", "other/say", "--ref", "refs/heads/main"]);
    assert_eq!(by_branch["branch"], "main", "{by_branch}");
}

#[test]
fn another_address_starts_nothing_and_later_pushes_there_do() {
    let (scene, first) = following(&saying("push: {}", "one"));
    let (daemon, remote, place) = (&scene.daemon, &scene.remote, &scene.place);
    let same = place.join("same.git");
    let clone = [
        "clone",
        "-q",
        "--bare",
        &remote.url(),
        &same.display().to_string(),
    ];
    git(place.path(), &clone);
    let newer = Remote::new(place, "newer");
    let head = newer.push("main", &[("dags/say.yaml", &saying("push: {}", "two"))]);
    newer.push("topic", &[("more", "1")]);

    let same = format!("file://{}", same.display());
    for (url, commit) in [(same, &first), (newer.url(), &head)] {
        let _ = daemon.cli(&["repo", "set", "model", &url]).good();
        let shown = daemon.json(&["dag", "show", "say"]);
        assert_eq!(shown["commit"], commit.as_str(), "{shown}");
        assert_eq!(daemon.run_ids(), [0; 0]);
    }
    let head = newer.push("main", &[("more", "2")]);
    scene.sync();
    let run = scene.first_run();
    assert_eq!(scene.finished(run)["commit"], head.as_str());
}

#[test]
fn deliveries_are_listed_with_the_runs_that_came_of_them() {
    let (scene, first) = following(&saying("push: {paths: [src]}", "one"));
    let (daemon, remote) = (&scene.daemon, &scene.remote);
    let send = |number: &str, branch: &str, before: &str, after: &str| {
        let delivery = Delivery::of_push(WEBHOOK_SECRET, number, branch, before, after);
        assert_eq!(delivery.send(daemon.url(), "model") / 100, 2);
        scene.sync();
        let listed = daemon.json(&["repo", "deliveries", "model"]);
        items(&listed)[0]["result"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let second = remote.push("main", &[("src", "1")]);
    assert_eq!(send("d1", "main", &first, &second), "started run 1");
    let third = remote.push("main", &[("README.md", "1")]);
    assert_eq!(
        send("d2", "main", &second, &third),
        "no run: no push trigger matches"
    );
    assert_eq!(
        send(
            "d3",
            "topic",
            NO_COMMIT,
            &remote.push("topic", &[("more", "1")])
        ),
        "no run: branch not followed, no push trigger matches"
    );
    // The look came first.
    let fourth = remote.push("main", &[("src", "2")]);
    scene.sync();
    assert_eq!(send("d4", "main", &third, &fourth), "started run 2");
    assert_eq!(
        send("d5", "main", &second, &third),
        format!("part of the push of {}", &fourth[..10])
    );
    let _ = daemon.cli(&["dag", "pause", "say"]).good();
    let fifth = remote.push("main", &[("src", "3")]);
    assert_eq!(
        send("d6", "main", &fourth, &fifth),
        "no run: DAG say is paused"
    );
    let sixth = remote.push("main", &[("dags/say.yaml", "stages: {}\n")]);
    assert_eq!(
        send("d7", "main", &fifth, &sixth),
        "no run: a DAG file has faults"
    );
    remote.delete("topic");
    assert_eq!(send("d8", "topic", &third, NO_COMMIT), "branch deleted");
}
