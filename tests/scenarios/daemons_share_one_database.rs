//! Several daemons on one database: the others adopt the stages of a lost one, and any of them answers.

use std::time::Duration;

use trainyard_tests::cluster::Cluster;
use trainyard_tests::daemon::{Daemon, items, signal, stage};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::wait::{until, until_true};
use trainyard_tests::witness::Witness;

const BOUND: Duration = Duration::from_secs(600);

/// Two daemons, of which the first one started alone and leads.
struct Pair {
    first: Daemon,
    second: Daemon,
    witness: Witness,
    _cluster: Cluster,
    _places: [Place; 3],
}

impl Pair {
    /// Both know the DAG `long`, of a stage that begins, waits for the gate `go`, and ends.
    fn start() -> Self {
        let places = [Place::new(), Place::new(), Place::new()];
        let cluster = Cluster::start(&places[0]);
        let witness = Witness::new();
        let dag = format!(
            r#"env: {{WITNESS: "{}"}}
stages:
  work:
    image: "{IMAGE}"
    run: |
      wget -q -O- "$WITNESS/start-$TRAINYARD_RUN_ID-$TRAINYARD_ATTEMPT" >/dev/null
      grep -c . README >/dev/null
      echo begun
      wget -q -O- "$WITNESS/gate/go" >/dev/null
      echo ended
      echo result > "$OUTPUTS/result"
    outputs: {{result: result}}
"#,
            witness.address()
        );
        let remote = Remote::new(&places[0], "model");
        remote.push("main", &[("dags/long.yaml", &dag), ("README", "text\n")]);
        let configuration = format!(
            "database_url = {:?}\nallow_file_urls = true\nlease = \"10s\"\nsecret_key_file = {:?}\nartifacts_dir = {:?}\n",
            cluster.url("trainyard"),
            places[0].join("secret.key"),
            places[0].join("artifacts"),
        );
        let first = Daemon::production(&places[1], &configuration);
        let _ = first.cli(&["repo", "add", "model", &remote.url()]).good();
        let _ = first.cli(&["repo", "sync", "model"]).good();
        let second = Daemon::production(&places[2], &configuration);
        Self {
            first,
            second,
            witness,
            _cluster: cluster,
            _places: places,
        }
    }

    /// Starts a run at the first daemon, whose stage is held by it.
    fn begin(&self) -> i64 {
        let run = self.first.json(&["dag", "trigger", "long"]);
        let id = run["id"].as_i64().unwrap();
        until_true("the begin of the stage", BOUND, || self.starts(id) == 1);
        id
    }

    fn starts(&self, run: i64) -> usize {
        self.witness.count(&format!("start-{run}-1"))
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
    let Pair {
        first,
        second,
        witness,
        ..
    } = &pair;
    signal(first.pid(), "KILL");
    until("the second daemon leads all", BOUND, || {
        let all = leads(second);
        let alive: Vec<_> = all
            .iter()
            .filter(|(_, state, _)| state == "alive")
            .collect();
        match alive.as_slice() {
            [(_, _, 3)] => Ok(()),
            _ => Err(format!("{all:?}")),
        }
    });
    witness.open("go");
    assert_whole(second, run, pair.starts(run));
}

#[test]
fn an_owner_that_was_paused_for_longer_than_its_lease_leaves_its_stage_to_the_other() {
    let pair = Pair::start();
    let run = pair.begin();
    signal(pair.first.pid(), "STOP");
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
    signal(pair.first.pid(), "CONT");
    pair.witness.open("go");
    assert_whole(&pair.second, run, pair.starts(run));
    // It is back, and answers for what the other did.
    assert_whole(&pair.first, run, pair.starts(run));
    let output = pair.first.output();
    assert!(
        output.contains("no longer supervising the attempt"),
        "{output}"
    );
}

#[test]
fn any_daemon_starts_runs_at_a_branch_and_serves_what_the_other_made() {
    let pair = Pair::start();
    pair.witness.open("go");
    // The second daemon has never fetched the remote.
    let run = pair
        .second
        .json(&["dag", "trigger", "long", "--ref", "main"]);
    let run = run["id"].as_i64().unwrap();
    assert_whole(&pair.first, run, 1);
    for (daemon, name) in [(&pair.first, "one"), (&pair.second, "two")] {
        let to = pair._places[0].join(name).display().to_string();
        let id = run.to_string();
        let _ = daemon
            .cli(&["artifact", "get", &id, "work.result", "--to", &to])
            .good();
        assert_eq!(std::fs::read_to_string(to).unwrap(), "result\n");
    }
}
