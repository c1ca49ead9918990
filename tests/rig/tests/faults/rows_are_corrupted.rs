//! F23: rows are corrupted, each column that a loop reads in a run, DAG or repo of its own, and the daemon starts on
//! all of it. The database refuses as many as it can; the others affect only their own run, DAG or repo, which is
//! quarantined with a reason or ends, and all others go on.

mod corruptions;

use std::time::{Duration, Instant};

use trainyard_rig::fleet::{Fleet, FleetOptions, REPO};
use trainyard_rig::programme::within;
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_rig::witness::Witness;
use trainyard_tests::daemon::items;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::wait::{until, until_true};

use self::corruptions::{Becomes, DAGS, REPOS, RUNS};
use crate::{BOUND, report, timed};

/// How soon a run ends that nothing is wrong with.
const GOES_ON: Duration = Duration::from_secs(15);

/// How long it may take until every row was read on a busy machine: repos are polled every ten seconds here.
const QUARANTINED: Duration = Duration::from_secs(90);

fn name(class: &str, number: usize) -> String {
    format!("{class}{number}")
}

fn dags(witness: &Witness) -> Vec<(String, String)> {
    let held = witness.script(&witness.gate());
    let well = witness.script("true");
    let file = |name: &str, script: &str| {
        let text = format!(
            "triggers: {{schedule: [{{cron: \"0 0 1 1 *\"}}]}}
stages: {{say: {{image: \"{IMAGE}\", checkout: false, run: '{script}'}}}}\n"
        );
        (format!("dags/{name}.yaml"), text)
    };
    let mut files = vec![file("dag", &well), file("long", &held)];
    files.extend((0..RUNS.len()).map(|number| file(&name("run", number), &held)));
    files.extend((0..DAGS.len()).map(|number| file(&name("sick", number), &well)));
    files
}

struct Tried {
    sql: String,
    becomes: Becomes,
    /// The name of its subject in quarantine.
    subject: String,
    refused: bool,
}

/// Tries to corrupt; says whether the database refused.
fn corrupt(fleet: &Fleet, sql: &str) -> bool {
    let reported = fleet
        .cluster
        .sql(&format!("select corrupt($corrupt${sql}$corrupt$)"));
    assert!(
        reported == "taken" || reported.starts_with("23"),
        "{sql} does not corrupt anything: {reported}"
    );
    reported != "taken"
}

/// Corrupts everything, while no daemon runs.
fn corrupt_all(fleet: &mut Fleet, runs: &[i64]) -> Vec<Tried> {
    let mut subjects = Vec::new();
    for (number, (sql, becomes)) in RUNS.into_iter().enumerate() {
        let dag = dag_id(fleet, &name("run", number));
        let sql = sql
            .replace("$dag", &dag)
            .replace("$run", &runs[number].to_string());
        subjects.push((sql, becomes, runs[number].to_string()));
    }
    for (number, (sql, becomes)) in DAGS.into_iter().enumerate() {
        let dag = dag_id(fleet, &name("sick", number));
        subjects.push((sql.replace("$dag", &dag), becomes, format!("dag {dag}")));
    }
    for (number, (sql, becomes)) in REPOS.into_iter().enumerate() {
        let repo = fleet.cluster.sql(&format!(
            "select id from repo where name = '{}'",
            name("repo", number)
        ));
        subjects.push((sql.replace("$repo", &repo), becomes, format!("repo {repo}")));
    }
    fleet.first_mut().kill();
    let _ = fleet.cluster.sql(
        "create or replace function corrupt(statement text) returns text language plpgsql as $$
         begin
            execute statement;
            return 'taken';
         exception when others then
            return sqlstate || ' ' || sqlerrm;
         end $$",
    );
    subjects
        .into_iter()
        .map(|(sql, becomes, subject)| {
            let refused = corrupt(fleet, &sql);
            Tried {
                subject: match subject.parse::<i64>() {
                    Ok(run) => format!("run {run}"),
                    Err(_) => subject,
                },
                sql,
                becomes,
                refused,
            }
        })
        .collect()
}

fn dag_id(fleet: &Fleet, name: &str) -> String {
    fleet.cluster.sql(&format!(
        "select d.id from dag d join repo r on r.id = d.repo where r.name = '{REPO}' and d.name = '{name}'"
    ))
}

/// Runs the good DAG, and returns how long it took.
fn goes_on(fleet: &Fleet, violations: &mut Vec<String>) -> Duration {
    let (ended, took) = timed(|| {
        let dag = format!("{REPO}/dag");
        let run = fleet.first().get().json(&["dag", "trigger", &dag]);
        let run = run["id"].as_i64().unwrap();
        let why = fleet.first().get().cli(&["run", "why", &run.to_string()]);
        if why.code != Some(0) {
            violations.push(format!(
                "`run why` does not say why a good run waits: {why:?}"
            ));
        }
        fleet.finished(run, BOUND)
    });
    if ended["state"] != "succeeded" {
        violations.push(format!("a good run did not succeed: {ended}"));
    }
    took
}

/// Cancels a good run that waits at its gate, and returns how long it took to end.
fn is_cancelled(fleet: &Fleet, violations: &mut Vec<String>) -> Duration {
    let dag = format!("{REPO}/long");
    let run = fleet.first().get().json(&["dag", "trigger", &dag]);
    let run = run["id"].as_i64().unwrap();
    until_true("the start of what is cancelled", BOUND, || {
        let accounts = fleet.witness.accounts();
        accounts.contains_key(&format!("{run}.say.1"))
    });
    let cancel = ["run", "cancel", &run.to_string()];
    let _ = fleet.first().get().cli(&cancel).good();
    let begun = Instant::now();
    let has_ended = format!("select phase = 'finished' from run where id = {run}");
    // Even if a stop request is not passed on, the other checks are made.
    while fleet.cluster.sql(&has_ended) != "t" && begun.elapsed() < within(GOES_ON * 2) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let took = begun.elapsed();
    fleet.witness.open(run);
    let ended = fleet.finished(run, BOUND);
    if ended["state"] != "cancelled" {
        violations.push(format!("a good run was cancelled, and ended so: {ended}"));
    }
    took
}

/// Requests of users, which have to be answered whatever the rows contain.
const ASKED: [&[&str]; 6] = [
    &["run", "list"],
    &["dag", "list"],
    &["repo", "list"],
    &["daemon", "list"],
    &["quarantine", "list"],
    &["repo", "show", REPO],
];

/// The subjects in quarantine.
fn held(fleet: &Fleet) -> Vec<String> {
    let rows = fleet
        .cluster
        .sql("select subject from quarantine where held_at is not null");
    rows.lines().map(ToOwned::to_owned).collect()
}

/// Subjects that are quarantined without a fault of their own: faults of others must not cause that.
fn held_in_vain(tried: &[Tried], held: &[String]) -> Vec<String> {
    let has_reason = |subject: &&String| {
        tried
            .iter()
            .any(|tried| tried.subject == **subject && tried.becomes == Becomes::Held)
    };
    held.iter()
        .filter(|subject| !has_reason(subject))
        .map(|subject| format!("quarantined without a fault of its own: {subject}"))
        .collect()
}

/// Opens the gates of all runs. Those to which nothing has happened go on to their ends.
fn let_go_on(fleet: &Fleet, runs: &[i64], tried: &[Tried]) -> Vec<String> {
    for run in runs {
        fleet.witness.open(*run);
    }
    let whole = runs.iter().zip(tried).filter(|(_, tried)| tried.refused);
    whole
        .filter_map(|(run, tried)| {
            let ended = fleet.finished(*run, BOUND);
            (ended["state"] != "succeeded").then(|| {
                format!(
                    "it ended so, though the database refused {}: {ended}",
                    tried.sql
                )
            })
        })
        .collect()
}

/// The violations of a daemon on corrupted rows.
fn judged(fleet: &Fleet, tried: &[Tried]) -> Vec<String> {
    let mut violations = Vec::new();
    let expected: Vec<&Tried> = tried
        .iter()
        .filter(|tried| tried.becomes == Becomes::Held && !tried.refused)
        .collect();
    let missing = |held: &[String]| -> Vec<String> {
        let left = expected
            .iter()
            .filter(|tried| !held.contains(&tried.subject));
        left.map(|tried| tried.sql.clone()).collect()
    };
    let begun = Instant::now();
    while !missing(&held(fleet)).is_empty() && begun.elapsed() < within(QUARANTINED) {
        std::thread::sleep(Duration::from_millis(200));
    }
    let held = held(fleet);
    for sql in missing(&held) {
        violations.push(format!("not quarantined: {sql}"));
    }
    for tried in tried {
        if tried.refused != (tried.becomes == Becomes::Refused) {
            violations.push(format!("refused: {}, for {}", tried.refused, tried.sql));
        }
    }
    violations.extend(held_in_vain(tried, &held));
    let quarantines = fleet.first().get().figure("trainyard_quarantines");
    if held.is_empty() || format!("{quarantines}") != held.len().to_string() {
        let held = held.len();
        violations.push(format!(
            "{quarantines} quarantines by the metric, but {held} by the table"
        ));
    }
    let listed = fleet.first().get().json(&["quarantine", "list"]);
    let reported = items(&listed).iter().filter(|item| {
        item["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty())
    });
    if reported.count() != held.len() {
        violations.push(format!("not all are listed with a reason: {listed}"));
    }
    for arguments in ASKED {
        let answer = fleet.first().get().cli(arguments);
        if answer.code != Some(0) {
            violations.push(format!("{arguments:?}: {answer:?}"));
        }
    }
    violations
}

#[test]
fn unreadable_rows_affect_only_their_own_subject() {
    let total = RUNS.len() + DAGS.len() + REPOS.len();
    let trials = Trials::new(
        &format!("F23 {total} kinds of corrupted rows"),
        "refused, or quarantined alone; 0 panics; others go on",
        1,
    )
    .long(10)
    .afresh();
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                parallelism: 100,
                more: "poll_every = \"10s\"\nstage.grace = \"2s\"\n".to_owned(),
                ..FleetOptions::new(trial.seed)
            };
            let place = Place::new();
            let small = Remote::new(&place, "small");
            let file = format!("stages: {{say: {{image: \"{IMAGE}\", run: echo hi}}}}\n");
            small.push("main", &[("dags/small.yaml", &file)]);
            (Fleet::start(&options, dags), small, place)
        },
        |_, (fleet, small, _)| {
            let mut violations = Vec::new();
            for number in 0..REPOS.len() {
                let (name, url) = (name("repo", number), small.url());
                let _ = fleet.first().get().cli(&["repo", "add", &name, &url]).good();
                let _ = fleet.first().get().cli(&["repo", "sync", &name]).good();
            }
            let started = fleet.witness.started();
            let runs: Vec<i64> = (0..RUNS.len())
                .map(|number| {
                    let dag = format!("{REPO}/{}", name("run", number));
                    let run = fleet.first().get().json(&["dag", "trigger", &dag]);
                    run["id"].as_i64().unwrap()
                })
                .collect();
            until("the start of all stages", BOUND, || {
                let now = fleet.witness.started() - started;
                if now >= RUNS.len() {
                    Ok(())
                } else {
                    Err(now.to_string())
                }
            });
            let before = goes_on(fleet, &mut violations);
            let tried = corrupt_all(fleet, &runs);
            let refused = tried.iter().filter(|tried| tried.refused).count();
            let ((), recovery) = timed(|| fleet.first_mut().start());
            let after = goes_on(fleet, &mut violations);
            let cancelled = is_cancelled(fleet, &mut violations);
            violations.extend(judged(fleet, &tried));
            // Quarantined subjects are not read again, and ended runs have ended.
            fleet.first_mut().restart_after(Duration::ZERO);
            let again = goes_on(fleet, &mut violations);
            for (what, took) in [
                ("took", after),
                ("took", again),
                ("was cancelled, and took", cancelled),
            ] {
                if took > within(GOES_ON) {
                    violations.push(format!("a good run {what} {took:?}"));
                }
            }
            violations.extend(let_go_on(fleet, &runs, &tried));
            violations.extend(held_in_vain(&tried, &held(fleet)));
            if fleet.first().log().contains("panicked") {
                violations.push("something panicked; the daemon's log says what".to_owned());
            }
            for attempt in fleet.witness.duplicates() {
                violations.push(format!("ran more than once: {attempt}"));
            }
            report(&format!(
                "F23: {total} corruptions, {refused} refused by the database; {} subjects quarantined; a good run took \
                 {before:.1?}, with them {after:.1?}, cancelled {cancelled:.1?}, after another start {again:.1?}",
                held(fleet).len()
            ));
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        |(fleet, ..)| fleet.testimony(),
    );
    summary.assert_clean(&trials);
}
