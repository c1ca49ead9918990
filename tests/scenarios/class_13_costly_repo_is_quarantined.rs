//! A repo whose objects unpack to more than git's limits fails its own sync, and no other.

use trainyard_tests::daemon::{Daemon, items};
use trainyard_tests::place::Place;
use trainyard_tests::remote::{Remote, git};

const FILE: &str = "stages: {a: {image: alpine:3, run: \"true\"}}\n";

/// The most memory that a process has had, in KiB.
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

#[test]
fn a_repo_that_exhausts_git_is_quarantined_and_all_others_go_on() {
    let place = Place::new();
    let (good, sick) = (Remote::new(&place, "good"), Remote::new(&place, "sick"));
    good.push("main", &[("dags/a.yaml", FILE)]);
    sick.push("main", &[("dags/a.yaml", FILE)]);
    // Some hundred kilobytes for git, and 300 MiB when unpacked.
    let zeros = std::fs::File::create(sick.tree().join("zeros")).unwrap();
    zeros.set_len(300 << 20).unwrap();
    let _ = git(sick.tree(), &["add", "zeros"]);
    sick.push("main", &[("dags/b.yaml", FILE)]);

    let bounded = ["--git-memory", "128MiB", "--poll-every", "1h"];
    let mut daemon = Daemon::dev(&place, &bounded);
    for (name, remote) in [("good", &good), ("sick", &sick)] {
        let add = ["repo", "add", name, &remote.url(), "--no-wait"];
        let _ = daemon.cli(&add).good();
    }
    let held = |daemon: &Daemon| {
        let listed = daemon.json(&["quarantine", "list"]);
        items(&listed).first().cloned()
    };
    let mut tries = 0;
    while held(&daemon).is_none() {
        tries += 1;
        assert!(tries <= 4, "it is not quarantined");
        let refused = daemon.cli(&["repo", "sync", "sick"]);
        assert!(refused.stderr.contains("`git.memory`"), "{refused:#?}");
    }
    let held_back = held(&daemon).unwrap();
    assert_eq!(held_back["kind"], "repo", "{held_back}");
    assert_eq!(held_back["name"], "sick", "{held_back}");
    let refused = daemon.cli(&["repo", "sync", "sick"]);
    assert!(refused.stderr.contains("is quarantined"), "{refused:#?}");
    assert!(
        refused.stderr.contains("quarantine release"),
        "{refused:#?}"
    );
    let _ = daemon.cli(&["repo", "sync", "good"]).good();
    assert!(
        most_memory(daemon.pid()) < 200 << 10,
        "it is not the daemon's memory"
    );

    // An object that ended one process does not end the next one.
    daemon.kill();
    let mut daemon = Daemon::dev(&place, &bounded);
    let _ = daemon.cli(&["repo", "sync", "good"]).good();
    let id = held(&daemon).unwrap()["id"].to_string();
    let _ = daemon.cli(&["quarantine", "release", &id]).good();
    let again = daemon.cli(&["repo", "sync", "sick"]);
    assert!(
        again.stderr.contains("`git.memory`"),
        "it is tried again: {again:#?}"
    );
    assert_eq!(daemon.stop(), Some(0));
}
