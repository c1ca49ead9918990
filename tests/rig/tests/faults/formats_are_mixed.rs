//! Daemons of two versions on one database, during an upgrade: the newer one writes a format that the older one does
//! not read. The older one leaves it alone, says so, quarantines nothing, and goes on with everything else; also when
//! the newer one is killed, until that is back and adopts its stages.

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::trials::{Trial, Trials, Verdict};
use trainyard_rig::versions;
use trainyard_tests::daemon::Daemon;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::wait::until;

use crate::{BOUND, timed};

/// How many stages each run has, side by side: twice what one daemon runs at a time.
const STAGES: u32 = 4;

/// The DAG `later` as a newer version would have recorded it: with a key that this version does not know.
const LATER: &str = "update dag_version v
    set spec = spec || '{\"format\": 2, \"of_the_next_format\": {\"some\": \"thing\"}}'
    from dag d where d.id = v.dag and d.name = 'later'";

struct Mixed {
    /// The older daemon, and the newer one.
    fleet: Fleet,
    _place: Place,
}

impl Mixed {
    fn new(trial: Trial) -> Self {
        let place = Place::new();
        let options = FleetOptions {
            daemons: 2,
            parallelism: STAGES / 2,
            ..FleetOptions::new(trial.seed)
        };
        let mut fleet = Fleet::start(&options, |witness| {
            let script = witness.script(&witness.gate());
            let stages: String = (1..=STAGES)
                .map(|number| {
                    format!(
                        "  s{number}: {{image: \"{IMAGE}\", checkout: false, run: '{script}'}}\n"
                    )
                })
                .collect();
            ["dag", "later"]
                .map(|name| (format!("dags/{name}.yaml"), format!("stages:\n{stages}")))
                .to_vec()
        });
        let newer = &mut fleet.daemons[1];
        newer.kill();
        newer.set_program(versions::next(&place));
        newer.set_variables(vec![("TRAINYARD_NEXT_FORMAT".to_owned(), "1".to_owned())]);
        let mixed = Self {
            fleet,
            _place: place,
        };
        let _ = mixed.sql(LATER);
        mixed
    }

    fn sql(&self, statement: &str) -> String {
        self.fleet.cluster.sql(statement)
    }

    fn older(&self) -> &Daemon {
        self.fleet.daemons[0].get()
    }

    fn newer(&self) -> &Daemon {
        self.fleet.daemons[1].get()
    }

    /// Waits until a query answers `wanted`.
    fn becomes(&self, what: &str, query: &str, wanted: &str) {
        until(what, BOUND, || match self.sql(query) {
            found if found == wanted => Ok(()),
            found => Err(found),
        });
    }

    /// Waits until the newer daemon runs as many stages of a run as it can.
    fn is_run_by_the_newer(&self, run: i64) {
        self.becomes(
            "stages that run",
            &format!(
                "select count(*) || ' ' || min(d.format) from attempt a join daemon d on d.id = a.owner
                 where a.run = {run} and a.state = 'running' and d.stopped_at is null
                    and d.lease_until > clock_timestamp()"
            ),
            &format!("{} 2", STAGES / 2),
        );
    }

    /// Runs the other DAG to its end, on the older daemon.
    fn goes_on(&self) -> Vec<String> {
        let run = self.fleet.trigger();
        self.fleet.witness.open(run);
        let ended = self.fleet.finished(run, BOUND);
        let succeeded = ended["state"] == "succeeded";
        let wrong = (!succeeded).then(|| format!("another run did not succeed: {ended}"));
        wrong.into_iter().collect()
    }

    /// What is wrong with how the older daemon treats the run.
    fn left_alone(&self, run: i64) -> Vec<String> {
        let mut wrong = Vec::new();
        let number = run.to_string();
        for arguments in [
            ["run", "show", &number],
            ["run", "why", &number],
            ["dag", "trigger", "later"],
        ] {
            let answer = self.older().cli(&arguments);
            let is_clear = answer.code == Some(3)
                && ["a newer Trainyard wrote", "in format 2", "upgrade this one"]
                    .iter()
                    .all(|part| answer.stderr.contains(part));
            if !is_clear {
                wrong.push(format!("{arguments:?} said {answer:?}"));
            }
        }
        let listed = self.older().cli(&["dag", "list"]).good().stdout;
        if !listed.contains("needs a newer daemon") {
            wrong.push(format!("`dag list` said {listed}"));
        }
        let runs = self.older().cli(&["run", "list"]).good().stdout;
        if !runs.contains(&number) {
            wrong.push(format!("`run list` said {runs}"));
        }
        if !self.fleet.daemons[0]
            .log()
            .contains("a newer Trainyard wrote unfinished runs")
        {
            wrong.push("the log of the older daemon says nothing".to_owned());
        }
        let touched = self.sql(&format!(
            "select count(*) from attempt a join daemon d on d.id = a.owner where a.run = {run} and d.format = 1"
        ));
        let quarantined = self.sql("select count(*) from quarantine");
        if (touched.as_str(), quarantined.as_str()) != ("0", "0") {
            wrong.push(format!(
                "attempts touched: {touched}; failures counted: {quarantined}"
            ));
        }
        wrong
    }
}

#[test]
fn an_older_daemon_leaves_a_later_format_to_a_newer_one() {
    let trials = Trials::new(
        "a later format in a fleet of two versions",
        "0 quarantined, 0 run twice, others go on, the newer daemon runs it",
        1,
    )
    .long(10);
    let summary = trials.run(
        Mixed::new,
        |_, mixed| {
            let mut violations = mixed.goes_on();
            mixed.fleet.daemons[1].start();
            mixed.becomes(
                "the newer daemon to lead",
                "select string_agg(distinct d.format::text, ' ') from leader l join daemon d on d.id = l.daemon",
                "2",
            );
            let begun = mixed.newer().json(&["dag", "trigger", "later"]);
            let run = begun["id"].as_i64().unwrap();
            mixed.is_run_by_the_newer(run);
            violations.extend(mixed.goes_on());
            violations.extend(mixed.left_alone(run));

            // The older daemon does not adopt what the newer one held.
            mixed.fleet.daemons[1].kill();
            mixed.becomes(
                "the end of a lease",
                "select bool_and(lease_until < clock_timestamp() - interval '10 s')::text from daemon where format = 2",
                "true",
            );
            violations.extend(mixed.goes_on());
            violations.extend(mixed.left_alone(run));

            let ((), recovery) = timed(|| {
                mixed.fleet.daemons[1].start();
                mixed.is_run_by_the_newer(run);
            });
            mixed.fleet.witness.open(run);
            mixed.becomes(
                "the end of the run",
                &format!("select state from run where id = {run}"),
                "succeeded",
            );
            violations.extend(mixed.left_alone(run));
            violations.extend(mixed.fleet.violations());
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        |mixed| mixed.fleet.testimony(),
    );
    summary.assert_clean(&trials);
}
