//! Several daemons on one database: the others adopt the stages of a lost one, and any of them answers.

use trainyard_tests::daemon::{Daemon, items, signal, stage};
use trainyard_tests::place::Place;
use trainyard_tests::scene::{BOUND, Scene};
use trainyard_tests::wait::{until, until_true};

/// Two daemons, of which the first one started alone and leads.
struct Pair {
    first: Scene,
    second: Daemon,
    _place: Place,
}

impl Pair {
    /// Both know the DAG, of a stage that begins, waits for the gate `go`, and ends.
    fn start() -> Self {
        let both = "lease = \"10s\"\nsecret_key_file = \"$PLACE/secret.key\"\nartifacts_dir = \"$PLACE/artifacts\"\n";
        let first = Scene::plan()
            .configuration(both)
            .dag("long")
            .file("README", "text\n")
            .begin();
        let place = Place::new();
        let second = first.another_daemon(&place);
        Self {
            first,
            second,
            _place: place,
        }
    }

    /// Starts a run at the first daemon, whose stage is held by it.
    fn begin(&self) -> i64 {
        let id = self.first.trigger("dag", &[]);
        until_true("the begin of the stage", BOUND, || self.starts(id) == 1);
        id
    }

    fn starts(&self, run: i64) -> usize {
        self.first.witness().count(&format!("start-{run}-1"))
    }
}

fn leads(daemon: &Daemon) -> Vec<(String, String, usize)> {
    let listed = daemon.json(&["daemon", "list"]);
    items(&listed)
        .iter()
        .map(|daemon| {
            (
                daemon["host"].as_str().unwrap().to_owned(),
                daemon["state"].as_str().unwrap().to_owned(),
                daemon["leads"].as_array().unwrap().len(),
            )
        })
        .collect()
}

fn assert_whole(daemon: &Daemon, run: i64, pair_starts: usize) {
    let ended = daemon.finished_run(run, BOUND);
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(
        stage(&ended, "work")["attempts"].as_array().unwrap().len(),
        1,
        "{ended}"
    );
    assert_eq!(pair_starts, 1, "it ran once");
    let log = daemon.cli(&["run", "logs", &run.to_string()]).good().stdout;
    assert_eq!(log.matches("begun").count(), 1, "{log}");
    assert_eq!(log.matches("ended").count(), 1, "{log}");
}

#[test]
fn a_killed_owner_is_replaced_by_the_other_and_its_stage_runs_once() {
    let pair = Pair::start();
    let run = pair.begin();
    signal(pair.first.daemon.pid(), "KILL");
    until("the second daemon leads all", BOUND, || {
        let all = leads(&pair.second);
        let alive: Vec<_> = all
            .iter()
            .filter(|(_, state, _)| state == "alive")
            .collect();
        match alive.as_slice() {
            [(_, _, 3)] => Ok(()),
            _ => Err(format!("{all:?}")),
        }
    });
    pair.first.witness().open("go");
    assert_whole(&pair.second, run, pair.starts(run));
}

#[test]
fn an_owner_that_was_paused_for_longer_than_its_lease_leaves_its_stage_to_the_other() {
    let pair = Pair::start();
    let run = pair.begin();
    signal(pair.first.daemon.pid(), "STOP");
    until("the second daemon holds the attempt", BOUND, || {
        let listed = pair.second.json(&["daemon", "list"]);
        let held = items(&listed)
            .iter()
            .any(|daemon| daemon["pid"] == pair.second.pid() && daemon["attempts"] == 1);
        if held {
            Ok(())
        } else {
            Err(listed.to_string())
        }
    });
    signal(pair.first.daemon.pid(), "CONT");
    pair.first.witness().open("go");
    assert_whole(&pair.second, run, pair.starts(run));
    // It is back, and answers for what the other did.
    assert_whole(&pair.first.daemon, run, pair.starts(run));
    let output = pair.first.daemon.output();
    assert!(
        output.contains("no longer supervising the attempt"),
        "{output}"
    );
}

#[test]
fn any_daemon_starts_runs_at_a_branch_and_serves_what_the_other_made() {
    let pair = Pair::start();
    pair.first.witness().open("go");
    // The second daemon has never fetched the remote.
    let run = pair
        .second
        .json(&["dag", "trigger", "dag", "--ref", "main"]);
    let run = run["id"].as_i64().unwrap();
    assert_whole(&pair.first.daemon, run, 1);
    for (daemon, name) in [(&pair.first.daemon, "one"), (&pair.second, "two")] {
        let to = pair.first.place.join(name).display().to_string();
        let id = run.to_string();
        let _ = daemon
            .cli(&["artifact", "get", &id, "work.result", "--to", &to])
            .good();
        assert_eq!(std::fs::read_to_string(to).unwrap(), "result\n");
    }
}
