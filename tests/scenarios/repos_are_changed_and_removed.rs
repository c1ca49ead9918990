//! A repo that cannot be read is reported and fixed, missing secrets of its runs are reported at once, and it is
//! removed on request.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use trainyard_tests::cli;
use trainyard_tests::daemon::{Daemon, Launch};
use trainyard_tests::place::Place;
use trainyard_tests::scene::{BOUND, Scene, dag_file};
use trainyard_tests::wait::until_true;

#[test]
fn a_repo_is_mended_and_removed_with_the_command_line_alone() {
    let file = dag_file("two_secrets");
    let scene = Scene::plan()
        .file("dags/train.yaml", &file)
        .begin_without_repo();
    let (daemon, remote) = (&scene.daemon, &scene.remote);

    let nowhere = remote.url().replace("model.git", "nowhere.git");
    let added = daemon.cli(&["repo", "add", "model", &nowhere]);
    assert_eq!(added.code, Some(3), "{added:?}");
    assert!(added.stdout.contains("webhook secret"), "{added:?}");
    assert!(
        added.stderr.contains("trainyard repo set model"),
        "{added:?}"
    );
    let (state, reasons) = daemon.readiness();
    assert_eq!(state, "degraded");
    assert!(
        reasons.contains("1 repo has failed to sync since"),
        "{reasons}"
    );
    assert_eq!(daemon.figure("trainyard_repos_failing"), 1.0);

    let set = daemon.cli(&["repo", "set", "model", &remote.url()]).good();
    assert!(set.stdout.contains("found 1 DAG on main"), "{set:?}");
    until_true("a daemon that is ready again", BOUND, || {
        daemon.readiness().0 == "ready"
    });

    let run = scene.run("train", &[]);
    assert_eq!(run["state"], "errored", "{run}");
    let reason = run["reason"]["message"].as_str().unwrap();
    for reported in [
        "secret DSN is not set",
        "secret BUCKET of stage upload is not set",
        "`trainyard secret set BUCKET --repo model`",
    ] {
        assert!(reason.contains(reported), "{reported}: {reason}");
    }
    let tries = run["stages"][0]["attempts"].as_array().unwrap();
    assert_eq!(tries.len(), 1, "{run}");

    std::fs::remove_file(remote.tree().join("dags/train.yaml")).unwrap();
    scene.update(&[]);
    for what in [["dag", "remove", "train"], ["repo", "remove", "model"]] {
        let asked = daemon.cli(&what);
        assert_eq!(asked.code, Some(2), "{asked:?}");
        assert!(asked.stderr.contains("--yes"), "{asked:?}");
        let _ = daemon.cli(&[&what[..], &["--yes"]].concat()).good();
    }
    let left = daemon.json(&["repo", "list"]);
    assert_eq!(left["items"].as_array().unwrap().len(), 0, "{left}");
}

const FILE: &str = "stages: {a: {image: alpine:3, run: \"true\"}}\n";

/// A remote that lists branches for as long as git reads, fast enough for `git.slowest`.
struct Endless {
    listener: TcpListener,
}

impl Endless {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { listener }
    }

    fn url(&self) -> String {
        format!("http://{}/model.git", self.listener.local_addr().unwrap())
    }

    /// The next sync, once git is there. What comes back has a word when git is gone.
    fn asked(&self) -> Receiver<()> {
        let connection = self.listener.accept().unwrap().0;
        let (ended, when) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            list_branches(connection);
            let _ = ended.send(());
        });
        when
    }
}

/// Lists branches until the other side closes the connection.
fn list_branches(mut connection: TcpStream) {
    let pause = Duration::from_millis(500);
    connection.set_read_timeout(Some(pause)).unwrap();
    let mut part =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\
                    Transfer-Encoding: chunked\r\n\r\n"
            .to_owned();
    let mut lines = "001e# service=git-upload-pack\n0000".to_owned();
    for number in 0_u32.. {
        part += &format!("{:x}\r\n{lines}\r\n", lines.len());
        if connection.write_all(part.as_bytes()).is_err() {
            return;
        }
        // The pause, unless git asks, or closes.
        match connection.read(&mut [0; 4096]) {
            Ok(0) => return,
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return;
            }
            _ => {}
        }
        let name = format!("refs/heads/{number}-{}", "x".repeat(1000));
        let capabilities = if number == 0 { "\0agent=git" } else { "" };
        let line = format!("{} {name}{capabilities}\n", "1".repeat(40));
        lines = format!("{:04x}{line}", line.len() + 4);
        part.clear();
    }
}

fn mirrors(daemon: &Daemon) -> Vec<String> {
    let entries = std::fs::read_dir(daemon.data().join("mirrors")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_remote_that_answers_without_end_keeps_neither_another_address_nor_a_removal_waiting() {
    let scene = Scene::plan()
        .file("dags/train.yaml", FILE)
        .begin_without_repo();
    let (endless, daemon, remote) = (Endless::new(), &scene.daemon, &scene.remote);
    let add = |name| {
        let add = ["repo", "add", name, &endless.url(), "--no-wait"];
        let _ = daemon.cli(&add).good();
        endless.asked()
    };

    let sync = add("moved");
    let set = daemon.cli(&["repo", "set", "moved", &remote.url()]).good();
    assert!(set.stdout.contains("found 1 DAG on main"), "{set:?}");
    sync.recv_timeout(BOUND).unwrap();
    let followed = mirrors(daemon);

    let sync = add("gone");
    let _ = daemon.cli(&["repo", "remove", "gone", "--yes"]).good();
    sync.recv_timeout(BOUND).unwrap();
    until_true("a removed mirror", BOUND, || mirrors(daemon) == followed);
}

#[test]
fn mirrors_of_repos_that_another_daemon_removed_are_removed() {
    let scene = Scene::with(&[("dags/train.yaml", FILE)]);
    let daemon = &scene.daemon;
    let followed = mirrors(daemon);
    let left = "00000000-0000-7000-8000-000000000001.git";
    std::fs::create_dir_all(daemon.data().join("mirrors").join(left).join("objects")).unwrap();
    let _ = daemon.cli(&["gc"]).good();
    until_true("no mirror but that of the repo", BOUND, || {
        mirrors(daemon) == followed
    });
}

#[test]
fn a_folder_without_a_repository_is_refused_at_the_start() {
    let place = Place::new();
    let plain = place.join("plain");
    std::fs::create_dir(&plain).unwrap();
    for (folder, words) in [
        (&plain, "is not a git repository; run `git init` there"),
        (&place.join("nowhere"), "is not a directory"),
    ] {
        let folder = folder.display().to_string();
        let refused = Daemon::try_dev(&place, &["--repo", &folder], &Launch::default());
        let said = refused.err().unwrap();
        assert!(said.contains(words), "{said}");
        let data = place.join("other").display().to_string();
        let start = ["dev", "--data-dir", &data, "--repo", &folder];
        let refused = cli::call(place.path(), &[], &start);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(!place.join("other").exists(), "nothing is made");
    }
}
