//! F30: two daemons are upgraded one after the other while stages run on both, and taken back to the first
//! version in the same way. Nothing is lost, nothing runs twice, and logs are whole. A version that is older
//! than the database goes on while it runs, and refuses to start.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::trials::{Trial, Trials, Verdict};
use trainyard_rig::versions;
use trainyard_rig::witness::Witness;
use trainyard_tests::cli;
use trainyard_tests::daemon::signal;
use trainyard_tests::place::Place;
use trainyard_tests::wait::until;

use crate::{BOUND, judge, timed};

/// The stages of a run, half of them on each daemon.
const STAGES: usize = 6;

/// In hand again by then after a daemon went.
const IN_HAND: Duration = Duration::from_secs(5);

/// A migration of a later version while this one runs: every table has a column more.
const EXPAND: &str = "do $$ declare t text; begin
    for t in select table_name from information_schema.tables
        where table_schema = 'public' and table_type = 'BASE TABLE' and table_name <> '_sqlx_migrations'
    loop execute format('alter table %I add column added_later text', t); end loop; end $$;
    insert into _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
    values (29991231000000, 'add what is later', now(), true, '\\x00', 0)";

/// As a backup from before it has the database.
const CONTRACT: &str = "do $$ declare t text; begin
    for t in select table_name from information_schema.columns where column_name = 'added_later'
    loop execute format('alter table %I drop column added_later', t); end loop; end $$;
    delete from _sqlx_migrations where version = 29991231000000";

/// Prints line after line until the gate of its run is opened, and then how many they were.
fn work(witness: &Witness) -> String {
    let gate = witness.gate();
    format!(
        "({gate}; touch /tmp/open) & i=0; while [ ! -e /tmp/open ]; do i=$((i + 1)); echo $i; sleep 0.1; done; echo $i lines"
    )
}

struct Upgrade {
    fleet: Fleet,
    next: PathBuf,
    _place: Place,
}

impl Upgrade {
    fn new(trial: Trial) -> Self {
        let place = Place::new();
        let options = FleetOptions {
            daemons: 2,
            parallelism: u32::try_from(STAGES / 2).unwrap(),
            ..FleetOptions::new(trial.seed)
        };
        Self {
            fleet: Fleet::with_wide_dag(&options, STAGES, work),
            next: versions::next(&place),
            _place: place,
        }
    }

    /// A run with stages under way on both daemons.
    fn under_way(&self) -> i64 {
        let run = self.fleet.trigger();
        let held = format!(
            "select count(*) || ' ' || count(distinct owner) from attempt where run = {run} and state = 'running'"
        );
        until("stages on both daemons", BOUND, || {
            let found = self.fleet.cluster.sql(&held);
            let all = format!("{STAGES} 2");
            if found == all { Ok(()) } else { Err(found) }
        });
        run
    }

    /// Asks a daemon to go, and waits until it has.
    fn dismiss(&mut self, number: usize) {
        let daemon = &mut self.fleet.daemons[number];
        signal(daemon.get().pid(), "TERM");
        until("the end of a daemon", BOUND, || {
            if daemon.has_died() {
                Ok(())
            } else {
                Err(daemon.log())
            }
        });
    }

    /// Waits until daemons that live hold what goes on.
    fn in_hand(&self) {
        until("all in hand", BOUND, || {
            let orphaned = self.fleet.cluster.sql(
                "select count(*) from attempt a join daemon d on d.id = a.owner
                 where a.state in ('claimed', 'running') and d.stopped_at is not null",
            );
            if orphaned == "0" {
                Ok(())
            } else {
                Err(orphaned)
            }
        });
    }

    /// Replaces one daemon after the other. Returns the longest time until what it held was in hand again.
    fn roll(&mut self, program: &Path, first: usize) -> Duration {
        let mut longest = Duration::ZERO;
        for number in [first, 1 - first] {
            let begun = Instant::now();
            self.dismiss(number);
            let daemon = &mut self.fleet.daemons[number];
            daemon.set_program(program.to_owned());
            daemon.start();
            self.in_hand();
            longest = longest.max(begun.elapsed());
        }
        longest
    }

    /// The versions of the daemons that live.
    fn versions(&self) -> String {
        self.fleet
            .cluster
            .sql("select string_agg(distinct version, ' ') from daemon where stopped_at is null")
    }

    /// Lets a run end. Returns what is wrong with it.
    fn judge(&self, run: i64) -> Vec<String> {
        self.fleet.witness.open(run);
        let mut wrong = judge(&self.fleet, run, None).violations;
        for number in 1..=STAGES {
            let stage = format!("s{number}");
            let logs = ["run", "logs", &run.to_string(), &stage];
            let log = self.fleet.first().get().cli(&logs).stdout;
            let said: Vec<&str> = log.lines().collect();
            let count = said.len().saturating_sub(1);
            let lines = (1..=count).map(|line| line.to_string());
            let whole: Vec<String> = lines.chain([format!("{count} lines")]).collect();
            if said != whole {
                wrong.push(format!("the log of {stage} of run {run} is {said:?}"));
            }
        }
        wrong
    }
}

#[test]
fn stages_outlive_an_upgrade_and_the_way_back() {
    let trials = Trials::new(
        "F30 daemons upgraded one by one, and taken back",
        "0 lost, 0 run twice, in hand 5 s after a daemon goes",
        1,
    )
    .long(30);
    let summary = trials.run(
        Upgrade::new,
        |trial, upgrade| {
            let first = usize::from(trial.dice().chance(0.5));
            let next = upgrade.next.clone();
            let before = upgrade.versions();
            let run = upgrade.under_way();
            let forth = upgrade.roll(&next, first);
            let after = upgrade.versions();
            let mut violations = upgrade.judge(run);
            let run = upgrade.under_way();
            let back = upgrade.roll(&cli::binary(), first);
            violations.extend(upgrade.judge(run));
            let again = upgrade.versions();
            if before == after || before != again {
                violations.push(format!("versions: {before}, then {after}, then {again}"));
            }
            let recovery = forth.max(back);
            if recovery > within(IN_HAND) {
                violations.push(format!("in hand after {recovery:?}"));
            }
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        |upgrade| upgrade.fleet.testimony(),
    );
    summary.assert_clean(&trials);
}

#[test]
fn a_version_older_than_the_database_goes_on_and_refuses_to_start() {
    let trials = Trials::new(
        "F30 database of a newer version under running daemons",
        "0 lost, 0 run twice, a start refused in words",
        1,
    )
    .long(30);
    let summary = trials.run(
        Upgrade::new,
        |_, upgrade| {
            let mut violations = Vec::new();
            let run = upgrade.under_way();
            let _ = upgrade.fleet.cluster.sql(EXPAND);
            // Both go on, and begin new things.
            violations.extend(upgrade.judge(run));
            let run = upgrade.under_way();
            let ((), recovery) = timed(|| {
                upgrade.dismiss(1);
                upgrade.in_hand();
            });
            match upgrade.fleet.daemons[1].try_start() {
                Ok(()) => violations.push("it started on a newer database".to_owned()),
                Err(said) => {
                    let is_clear = said.contains("29991231000000")
                        && said.contains("start the newer version that migrated it");
                    if !is_clear {
                        violations.push(format!("it refused with {said}"));
                    }
                }
            }
            violations.extend(upgrade.judge(run));
            let _ = upgrade.fleet.cluster.sql(CONTRACT);
            upgrade.fleet.daemons[1].start();
            let run = upgrade.under_way();
            violations.extend(upgrade.judge(run));
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        |upgrade| upgrade.fleet.testimony(),
    );
    summary.assert_clean(&trials);
}
