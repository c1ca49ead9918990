//! A stage that prints much is delayed neither by a database that is away nor by viewers who request more than the
//! daemon can keep for them and do not read; the daemon's memory is bounded, and nothing is lost.

use trainyard_tests::daemon::Daemon;
use trainyard_tests::scene::{BOUND, Scene};
use trainyard_tests::viewers::Viewers;
use trainyard_tests::wait::until_true;

/// How many lines the stage prints, of 100 bytes each: more than Docker keeps in one file, and more in a
/// second than can be read again in the time after which a silent log counts as broken off.
const LINES: usize = 400_000;

/// The output before the viewers come, in bytes: they request it.
const PREFACE: u64 = 3 << 20;

/// How many viewers there are.
const VIEWERS: usize = 4;

/// How much more memory the daemon may need for the viewers, and while it cannot write, in bytes:
/// less than the output.
const GROWTH_AT_MOST: u64 = 32 << 20;

#[test]
fn a_stage_prints_on_while_the_database_is_away_and_no_viewer_reads() {
    let scene = Scene::plan()
        .configuration("[limits]\nlog = \"128MiB\"\n")
        .own_cluster()
        .dag("prints")
        .begin();
    let (daemon, witness) = (&scene.daemon, scene.witness());
    let id = scene.trigger("dag", &[]);
    until_true("the stage", BOUND, || witness.count("start") == 1);
    let path = format!("/api/v1/runs/{id}/stages/s/log");
    until_true("the log so far", BOUND, || {
        let (_, page) = daemon.get(&format!("{path}?offset={PREFACE}"), Some(daemon.token()));
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        page["lines"]
            .as_array()
            .is_some_and(|lines| !lines.is_empty())
    });
    let before = memory(daemon);
    let viewers = Viewers::of(daemon, &path, PREFACE, VIEWERS);
    until_true("viewers who do not read their answers", BOUND, || {
        viewers.held_back() == VIEWERS
    });

    scene.cluster().down("immediate");
    witness.open("go");
    until_true("all that it prints", BOUND, || {
        witness.count("printed") == 1
    });
    assert_eq!(viewers.held_back(), VIEWERS, "to the end");
    // The database being away is long over for the stage; the daemon has met it on every way.
    until_true("a log that waits", BOUND, || {
        daemon.output().contains("did not store a piece of log")
    });
    let growth = memory(daemon).saturating_sub(before);
    assert!(growth < GROWTH_AT_MOST, "{} MiB more", growth >> 20);

    scene.cluster().try_up().unwrap();
    let run = scene.finished(id);
    assert_eq!(run["state"], "succeeded", "{run}");
    let log = scene.log(&run);
    let numbers = log
        .lines()
        .filter_map(|line| line.split(' ').next_back()?.parse::<usize>().ok())
        .filter(|number| *number > 0);
    assert!(
        numbers.eq(1..=LINES),
        "a line is missing, or is there twice"
    );
    drop(viewers);
}

/// Its memory, in bytes.
fn memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes * 1024
}
