//! F16: the disk of the artifacts, of the daemon, of Docker or of Postgres is full while stages run. Work that
//! needs the room waits, or fails with the reason; nothing is corrupted, no process dies, and all goes on by itself
//! once there is room.

use std::path::Path;
use std::time::Duration;

use trainyard_rig::artifacts::spoilt;
use trainyard_rig::disk::{Disks, LoopDisk};
use trainyard_rig::engine::EngineOptions;
use trainyard_rig::fleet::{Fleet, FleetOptions, REPO};
use trainyard_rig::programme::within;
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::daemon::stage;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::remote::git;
use trainyard_tests::wait::{until, until_true};

use crate::{BOUND, timed};

const TARGET: &str = "0 crashes, nothing corrupted, resumed 30 s after there is room";

/// How soon all must be done once there is room.
const RESUMED: Duration = Duration::from_secs(30);

/// The free space on the disk of artifacts, and whether that keeps the daemon from starting stages.
const FREE: &str = "trainyard_free_bytes{place=\"artifacts\"}";
const PAUSED: &str = "trainyard_claims_paused{kind=\"space\"}";

/// Takes all the room of a disk for as long as the file is there.
fn fill(disk: Option<&LoopDisk>) -> std::path::PathBuf {
    disk.expect("a disk of its own").fill()
}

/// Makes room, and measures how long these runs take then.
fn free(fleet: &Fleet, filling: &Path, runs: &[i64]) -> Duration {
    std::fs::remove_file(filling).unwrap();
    let (_, recovery) = timed(|| {
        for run in runs {
            let _ = fleet.finished(*run, BOUND);
        }
    });
    recovery
}

/// Checks that apply to each full disk, besides those of the test itself.
fn verdict(fleet: &mut Fleet, mut violations: Vec<String>, recovery: Duration) -> Verdict {
    if fleet.first_mut().has_died() {
        violations.push("the daemon has ended".to_owned());
    }
    violations.extend(fleet.violations());
    violations.extend(spoilt(&fleet.artifacts()));
    if recovery > within(RESUMED) {
        violations.push(format!("resumed after {recovery:?}"));
    }
    Verdict {
        violations,
        recovery: Some(recovery),
    }
}

/// Waits until `run why` says this.
fn until_why(fleet: &Fleet, run: i64, words: &str) {
    until(words, BOUND, || {
        let printed = fleet.first().get().cli(&["run", "why", &run.to_string()]);
        if printed.stdout.contains(words) {
            Ok(())
        } else {
            Err(format!("{printed:?}"))
        }
    });
}

/// A sentence where a run did not succeed.
fn not_succeeded(fleet: &Fleet, run: i64) -> Option<String> {
    let shown = fleet.finished(run, BOUND);
    (shown["state"] != "succeeded").then(|| format!("run {run} did not succeed: {shown}"))
}

#[test]
fn an_output_without_room_is_made_again_once_there_is_some() {
    let trials = Trials::new("F16 disk of artifacts full", TARGET, 1).long(10);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                disks: Disks {
                    artifacts: Some(256 << 20),
                    ..Disks::default()
                },
                ..FleetOptions::new(trial.seed)
            };
            Fleet::start(&options, |witness| {
                let gate = witness.gate();
                let large = witness.script(&format!(
                    "{gate}; head -c 4000000 /dev/urandom > $OUTPUTS/o; sha256sum < $OUTPUTS/o > $OUTPUTS/sum"
                ));
                let after = witness.script("test \"$(sha256sum < $INPUTS/o)\" = \"$(cat $INPUTS/sum)\"");
                let beside = witness.script(&gate);
                let text = format!(
                    "defaults: {{checkout: false, retry: {{attempts: 9, backoff: 1s, factor: 1, on: [errored]}}}}\n\
                     stages:\n  \
                       large: {{image: \"{IMAGE}\", outputs: {{o: o, sum: sum}}, run: '{large}'}}\n  \
                       after: {{image: \"{IMAGE}\", needs: [large], inputs: {{o: large.o, sum: large.sum}}, run: '{after}'}}\n  \
                       beside: {{image: \"{IMAGE}\", run: '{beside}'}}\n"
                );
                vec![("dags/dag.yaml".to_owned(), text)]
            })
        },
        |_, fleet| {
            let started = fleet.witness.started();
            let run = fleet.trigger();
            until_true("the start of what is to end without room", BOUND, || {
                fleet.witness.started() == started + 2
            });
            let filling = fill(fleet.artifacts_disk.as_ref());
            fleet.witness.open(run);
            // It errs by what it could not keep, and waits for room to be tried again.
            until_why(fleet, run, "the disk of artifacts has less than ");
            let (state, reasons) = fleet.first().get().readiness();
            assert_eq!(state, "degraded", "{reasons}");
            let daemon = fleet.first().get();
            let (free_bytes, paused) = (daemon.figure(FREE), daemon.figure(PAUSED));
            assert!(free_bytes < 1e6 && paused == 1.0, "{free_bytes}, {paused}");
            let recovery = free(fleet, &filling, &[run]);
            let shown = fleet.finished(run, BOUND);
            let daemon = fleet.first().get();
            until("metrics of a disk with room", BOUND, || {
                match (daemon.figure(FREE), daemon.figure(PAUSED)) {
                    (free, 0.0) if free > 1e8 => Ok(()),
                    printed => Err(format!("{printed:?}")),
                }
            });
            let mut violations: Vec<String> = not_succeeded(fleet, run).into_iter().collect();
            let first = &stage(&shown, "large")["attempts"][0];
            if first["state"] != "errored" || first["reason"]["code"] != "storage" {
                violations.push(format!("without room it ended so: {first}"));
            }
            verdict(fleet, violations, recovery)
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

#[test]
fn a_daemon_without_room_for_sources_mirrors_and_its_log_lives_and_goes_on() {
    let trials = Trials::new("F16 disk of the daemon full", TARGET, 1).long(10);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                disks: Disks {
                    daemons: Some(64 << 20),
                    ..Disks::default()
                },
                // Without the guard: a disk may become full faster than it looks.
                more: "poll_every = \"1s\"\nfree_space = \"0B\"".to_owned(),
                ..FleetOptions::new(trial.seed)
            };
            Fleet::start(&options, |witness| {
                let works = witness.script(&witness.gate());
                let text = format!(
                    "triggers: {{push: {{branches: [main], paths: [pushed]}}}}\n\
                     defaults: {{retry: {{attempts: 60, backoff: 1s, factor: 1, on: [errored]}}}}\n\
                     stages:\n  s: {{image: \"{IMAGE}\", run: '{works}; test -e dags/dag.yaml'}}\n"
                );
                vec![("dags/dag.yaml".to_owned(), text)]
            })
        },
        |trial, fleet| {
            let started = fleet.witness.started();
            let running = fleet.trigger();
            until_true("the start of what runs on", BOUND, || {
                fleet.witness.started() == started + 1
            });
            // A commit whose source tree no stage has needed yet.
            let number = trial.number.to_string();
            let _ = fleet.remote.push("main", &[("other", &number)]);
            let _ = fleet.first().get().cli(&["repo", "sync", REPO]).good();
            let filling = fill(fleet.first().disk());
            let without_room = fleet.trigger();
            let _ = fleet.remote.push("main", &[("pushed", &number)]);
            fleet.witness.open(running);
            let mut violations: Vec<String> = not_succeeded(fleet, running).into_iter().collect();
            until_why(fleet, without_room, "space");
            let synced = fleet.first().get().cli(&["repo", "sync", REPO]);
            if !format!("{synced:?}").contains("space") {
                violations.push(format!("a fetch without room is reported as: {synced:?}"));
            }
            let runs = fleet.first().get().run_ids().len();
            std::fs::remove_file(&filling).unwrap();
            let (pushed, recovery) = timed(|| {
                let pushed = until("the run of what was pushed meanwhile", BOUND, || {
                    let ids = fleet.first().get().run_ids();
                    if ids.len() > runs {
                        Ok(ids[0])
                    } else {
                        Err(format!("{ids:?}"))
                    }
                });
                for run in [without_room, pushed] {
                    fleet.witness.open(run);
                    let _ = fleet.finished(run, BOUND);
                }
                pushed
            });
            violations.extend(
                [without_room, pushed]
                    .iter()
                    .filter_map(|run| not_succeeded(fleet, *run)),
            );
            let mirrors = fleet.first().get().data().join("mirrors");
            for mirror in std::fs::read_dir(&mirrors).unwrap().flatten() {
                if mirror.path().join("HEAD").exists() {
                    let _ = git(&mirror.path(), &["fsck", "--full", "--strict"]);
                }
            }
            verdict(fleet, violations, recovery)
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

/// Of a Docker engine whose disk is full: with the guard, which lets nothing new begin, or without.
fn full_engine(fault: &str, guarded: bool) {
    let trials = Trials::new(fault, TARGET, 1).long(10);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                engine: EngineOptions {
                    disk: Some(384 << 20),
                    ..EngineOptions::default()
                },
                more: if guarded { "" } else { "free_space = \"0B\"" }.to_owned(),
                ..FleetOptions::new(trial.seed)
            };
            Fleet::start(&options, |witness| {
                let gate = witness.gate();
                let quiet = witness.script(&gate);
                let printing = witness.script(&format!("{gate}; yes words | head -n 20000 || true"));
                let writing = witness.script(&format!(
                    "{gate}; head -c 1000000 /dev/zero > /tmp/file || exit 9"
                ));
                let text = format!(
                    "defaults: {{checkout: false, retry: {{attempts: 60, backoff: 1s, factor: 1, on: [errored]}}}}\n\
                     stages:\n  \
                       quiet: {{image: \"{IMAGE}\", run: '{quiet}'}}\n  \
                       printing: {{image: \"{IMAGE}\", run: '{printing}'}}\n  \
                       failing: {{image: \"{IMAGE}\", run: '{quiet}; exit 5'}}\n  \
                       writing: {{image: \"{IMAGE}\", run: '{writing}'}}\n"
                );
                vec![("dags/dag.yaml".to_owned(), text)]
            })
        },
        |_, fleet| {
            let started = fleet.witness.started();
            let running = fleet.trigger();
            until_true("the start of what is to end without room", BOUND, || {
                fleet.witness.started() == started + 4
            });
            let said = fleet.first().log().len();
            let filling = fill(fleet.engine.disk());
            if guarded {
                until_true("a degraded daemon", BOUND, || {
                    fleet.first().get().readiness().0 == "degraded"
                });
            }
            let waiting = fleet.trigger();
            if guarded {
                until_why(fleet, waiting, "the disk of Docker has less than ");
            } else {
                until("words for it", BOUND, || {
                    let log = fleet.first().log().split_off(said);
                    let why = fleet.first().get().cli(&["run", "why", &waiting.to_string()]);
                    if log.contains("its disk is full") || why.stdout.contains("disk") {
                        Ok(())
                    } else {
                        Err(format!("{log}\n{why:?}"))
                    }
                });
            }
            fleet.witness.open(running);
            fleet.witness.open(waiting);
            until_true("the end of all programs", BOUND, || {
                let accounts = fleet.witness.accounts();
                accounts
                    .iter()
                    .filter(|(attempt, _)| attempt.starts_with(&format!("{running}.")))
                    .filter(|(_, account)| account.ends == 1)
                    .count()
                    == 3
            });
            let recovery = free(fleet, &filling, &[running, waiting]);
            let mut violations = Vec::new();
            for (run, writing) in [(running, "exit code 9"), (waiting, "")] {
                let shown = fleet.finished(run, BOUND);
                for (name, words) in [
                    ("quiet", ""),
                    ("printing", ""),
                    ("failing", "exit code 5"),
                    ("writing", writing),
                ] {
                    let shown = stage(&shown, name);
                    let state = if words.is_empty() { "succeeded" } else { "failed" };
                    let printed = shown["reason"]["message"].as_str().unwrap_or_default();
                    if shown["state"] != state || !printed.contains(words) {
                        violations.push(format!("{name} of run {run} is reported as {shown}"));
                    }
                }
            }
            verdict(fleet, violations, recovery)
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

#[test]
fn docker_without_room_gets_no_new_stages_and_ends_are_reported_correctly() {
    full_engine("F16 disk of Docker full", true);
}

#[test]
fn an_engine_that_is_full_before_anybody_sees_it_is_waited_for() {
    full_engine("F16 disk of Docker full, unguarded", false);
}

#[test]
fn a_postgres_without_room_loses_nothing() {
    let trials = Trials::new("F16 disk of Postgres full", TARGET, 2).long(20);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                disks: Disks {
                    postgres: Some(512 << 20),
                    ..Disks::default()
                },
                ..FleetOptions::new(trial.seed)
            };
            Fleet::with_wide_dag(&options, 4, |witness| {
                let print = "head -c 300000 /dev/urandom | base64";
                format!("{}; {print}", witness.gate())
            })
        },
        |trial, fleet| {
            let (started, ended) = (fleet.witness.started(), fleet.witness.ended());
            let run = fleet.trigger();
            until_true("the start of all stages", BOUND, || {
                fleet.witness.started() == started + 4
            });
            let panics = || fleet.cluster.log().matches("PANIC").count();
            let before = panics();
            let filling = fill(fleet.cluster.disk());
            // With every other trial the write-ahead log, too, needs room that is not there: then Postgres ends.
            if trial.number.is_multiple_of(2) {
                until_true("a Postgres that ends for want of room", BOUND, || {
                    // By itself: a statement that fails for want of room would take it along.
                    let _ = fleet.cluster.try_sql("select pg_switch_wal()");
                    // Its log is on the same disk.
                    !fleet.cluster.is_up() || panics() > before
                });
            }
            fleet.witness.open(run);
            until_true("the end of all programs", BOUND, || {
                fleet.witness.ended() == ended + 4
            });
            until("health that reports it", BOUND, || {
                match fleet.first().get().readiness() {
                    (state, _) if state == "unready" => Ok(()),
                    (_, reasons) if reasons.contains("the disk of the database is full") => Ok(()),
                    printed => Err(format!("{printed:?}")),
                }
            });
            std::fs::remove_file(&filling).unwrap();
            if !fleet.cluster.is_up() {
                fleet.cluster.up();
            }
            let (_, recovery) = timed(|| fleet.finished(run, BOUND));
            let mut violations: Vec<String> = not_succeeded(fleet, run).into_iter().collect();
            for stage in 1..=4 {
                let log = fleet.first().get().cli(&[
                    "run",
                    "logs",
                    &run.to_string(),
                    &format!("s{stage}"),
                ]);
                if log.stdout.lines().count() < 5_000 {
                    violations.push(format!(
                        "a log has lines missing: {}",
                        log.stdout.lines().count()
                    ));
                }
            }
            verdict(fleet, violations, recovery)
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
