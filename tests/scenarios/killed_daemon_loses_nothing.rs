//! A daemon that is killed while stages run loses nothing: containers go on, the next daemon adopts them,
//! nothing runs twice, and no line of log is missing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use trainyard_tests::daemon::{Daemon, stage};
use trainyard_tests::engine::{IMAGE, docker};
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::wait::until_true;
use trainyard_tests::witness::Witness;

const BOUND: Duration = Duration::from_secs(600);

/// Three stages side by side that count up while a gate is closed, and one after them.
fn dag(witness: &Witness) -> String {
    let mut text = format!("env: {{WITNESS: \"{}\"}}\nstages:\n", witness.address());
    for name in ["a", "b", "c"] {
        text.push_str(&format!(
            r#"  {name}:
    image: "{IMAGE}"
    run: |
      wget -q -O- "$WITNESS/start-$TRAINYARD_STAGE-$TRAINYARD_ATTEMPT" >/dev/null
      (wget -q -O- "$WITNESS/gate/go" >/dev/null; touch /tmp/go) &
      n=0
      while [ ! -e /tmp/go ] || [ "$n" -lt 50 ]; do n=$((n+1)); echo "line $n of $TRAINYARD_STAGE"; sleep 0.1; done
      wget -q -O- "$WITNESS/lines-$TRAINYARD_STAGE-$n" >/dev/null
"#
        ));
    }
    text.push_str(&format!(
        "  after: {{needs: [a, b, c], image: \"{IMAGE}\", run: 'wget -q -O- \"$WITNESS/start-after-$TRAINYARD_ATTEMPT\"'}}\n"
    ));
    text
}

fn start(place: &Place, witness: &Witness) -> (Daemon, i64) {
    let remote = Remote::new(place, "model");
    remote.push("main", &[("dags/count.yaml", &dag(witness))]);
    let daemon = Daemon::dev_alone(place);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let _ = daemon.cli(&["dag", "trigger", "count"]).good();
    let run = daemon.runs(1, BOUND)[0];
    until_true("the start of three stages", BOUND, || {
        ["a", "b", "c"]
            .iter()
            .all(|name| witness.count(&format!("start-{name}-1")) == 1)
    });
    (daemon, run)
}

fn check(daemon: &Daemon, run: i64, witness: &Witness) {
    let ended = daemon.finished_run(run, BOUND);
    assert_eq!(ended["state"], "succeeded", "{ended}");
    for name in ["a", "b", "c", "after"] {
        assert_eq!(
            witness.count(&format!("start-{name}-1")),
            1,
            "{name} ran once"
        );
        assert_eq!(
            stage(&ended, name)["attempts"].as_array().unwrap().len(),
            1,
            "{ended}"
        );
    }
    for name in ["a", "b", "c"] {
        let reported = format!("lines-{name}-");
        let all = witness.all();
        let (reported, _) = all
            .iter()
            .find(|(saying, _)| saying.starts_with(&reported))
            .unwrap();
        let count: usize = reported.rsplit('-').next().unwrap().parse().unwrap();
        let log = daemon
            .cli(&["run", "logs", &run.to_string(), name])
            .good()
            .stdout;
        let kept: Vec<&str> = log
            .lines()
            .filter_map(|line| line.find("line ").map(|at| &line[at..]))
            .collect();
        let wanted: Vec<String> = (1..=count).map(|n| format!("line {n} of {name}")).collect();
        assert_eq!(kept, wanted, "every line once and in order");
    }
}

#[test]
fn stages_are_adopted_after_sigkill() {
    let (place, witness) = (Place::new(), Witness::new());
    let (daemon, run) = start(&place, &witness);
    daemon.kill();
    let daemon = Daemon::dev_alone(&place);
    witness.open("go");
    check(&daemon, run, &witness);
}

#[test]
fn stages_that_end_while_no_daemon_runs_are_collected() {
    let (place, witness) = (Place::new(), Witness::new());
    let (daemon, run) = start(&place, &witness);
    let (_, info) = daemon.get("/api/v1/daemon", Some(daemon.token()));
    let info: Value = serde_json::from_str(&info).unwrap();
    let instance = info["instance"].as_str().unwrap();
    daemon.kill();
    witness.open("go");
    until_true("the end of three stages", BOUND, || {
        ["a", "b", "c"].iter().all(|name| {
            witness
                .all()
                .keys()
                .any(|saying| saying.starts_with(&format!("lines-{name}-")))
        })
    });
    let running = format!("label=io.trainyard.instance={instance}");
    until_true("the end of three containers", BOUND, || {
        docker(&["ps", "-q", "--filter", &running]).is_empty()
    });
    let daemon = Daemon::dev_alone(&place);
    check(&daemon, run, &witness);
    let daemons = daemon.json(&["daemon", "list"]);
    let next = daemons["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["started_at"].as_str()?.parse::<DateTime<Utc>>().ok())
        .max()
        .unwrap();
    let ended = daemon.json(&["run", "show", &run.to_string()]);
    for name in ["a", "b", "c"] {
        let at = stage(&ended, name)["finished_at"].as_str().unwrap();
        let at: DateTime<Utc> = at.parse().unwrap();
        assert!(
            at < next,
            "{name} ended at {at}, before the next daemon's start at {next}"
        );
    }
}

#[test]
fn stopping_the_daemon_leaves_stages_running_for_the_next_one() {
    let (place, witness) = (Place::new(), Witness::new());
    let (daemon, run) = start(&place, &witness);
    assert_eq!(daemon.stop(), Some(0));
    let daemon = Daemon::dev_alone(&place);
    witness.open("go");
    check(&daemon, run, &witness);
}

#[test]
fn a_running_stage_needs_neither_its_remote_nor_its_inputs() {
    const SECRET: &str = "correct-horse-battery";
    let (place, witness) = (Place::new(), Witness::new());
    let remote = Remote::new(&place, "model");
    let text = format!(
        r#"env: {{WITNESS: "{}"}}
stages:
  make: {{image: "{IMAGE}", outputs: {{data: data}}, run: 'echo 1 > "$OUTPUTS/data"'}}
  train:
    image: "{IMAGE}"
    needs: [make]
    inputs: {{data: make.data}}
    secrets: [KEY]
    run: |
      wget -q -O- "$WITNESS/start-$TRAINYARD_ATTEMPT" >/dev/null
      wget -q -O- "$WITNESS/gate/go" >/dev/null
      echo "the key is $KEY"
"#,
        witness.address()
    );
    remote.push("main", &[("dags/train.yaml", &text)]);
    let daemon = Daemon::dev_alone(&place);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let set = ["secret", "set", "KEY", "--repo", "model"];
    let _ = daemon.cli_with_input(&set, SECRET).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let _ = daemon.cli(&["dag", "trigger", "train"]).good();
    let run = daemon.runs(1, BOUND)[0];
    until_true("the start of what needs it all", BOUND, || {
        witness.count("start-1") == 1
    });
    let remove = ["secret", "remove", "KEY", "--repo", "model"];
    let _ = daemon.cli(&remove).good();
    let data = daemon.data().to_owned();
    daemon.kill();
    // As for a daemon on another machine that adopts it, while the remote is out of reach.
    for gone in ["mirrors", "sources", "artifacts"] {
        std::fs::remove_dir_all(data.join(gone)).unwrap();
    }
    std::fs::remove_dir_all(remote.url().trim_start_matches("file://")).unwrap();
    let daemon = Daemon::dev_alone(&place);
    until_true("the stage in the next daemon's hands", BOUND, || {
        daemon.figure("trainyard_attempts_adopted_total") == 1.0
    });
    witness.open("go");
    let ended = daemon.finished_run(run, BOUND);
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let attempts = &stage(&ended, "train")["attempts"];
    assert_eq!(attempts.as_array().unwrap().len(), 1, "{ended}");
    let log = daemon
        .cli(&["run", "logs", &run.to_string(), "train"])
        .good()
        .stdout;
    assert!(log.contains("***") && !log.contains(SECRET), "{log}");
}
