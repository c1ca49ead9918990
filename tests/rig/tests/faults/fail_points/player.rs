//! Who goes on whatever happens to the daemon: a daemon that has died is started again, and what was not
//! confirmed is asked for again, as people and forges do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use trainyard_failpoint::{PLAN, REACHED};
use trainyard_rig::fleet::Fleet;
use trainyard_rig::programme::within;
use trainyard_tests::cli::{self, Answer};
use trainyard_tests::wait::until;

use crate::{BOUND, timed};

/// How long anything that is asked for may take, with a lease that has to run out on the way.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fall {
    /// While it started: what it said.
    Starting(String),
    /// Later.
    Running,
    /// While it was stopped.
    Stopping,
}

/// Plays on a fleet of one daemon.
#[derive(Debug)]
pub(super) struct Player<'a> {
    pub(super) fleet: &'a mut Fleet,
    /// The place at which its next start fails; none once it has ended by itself.
    plan: String,
    /// Where it says which places it reached.
    record: PathBuf,
    /// Ends that no signal requested.
    pub(super) falls: Vec<Fall>,
    /// From a start to everything being in hand, the longest.
    pub(super) recovery: Duration,
}

impl<'a> Player<'a> {
    /// Plays with a daemon that fails as `plan` says.
    pub(super) fn new(fleet: &'a mut Fleet, plan: String, record: PathBuf) -> Self {
        // The existing records are those of others.
        let _ = std::fs::remove_file(&record);
        Self {
            fleet,
            plan,
            record,
            falls: Vec::new(),
            recovery: Duration::ZERO,
        }
    }

    /// How often each place was reached under the plan, by one process at most.
    pub(super) fn reached(&self) -> BTreeMap<String, u64> {
        let mut reached: BTreeMap<String, u64> = BTreeMap::new();
        for line in std::fs::read_to_string(&self.record)
            .unwrap_or_default()
            .lines()
        {
            let (place, times) = line.split_once('@').unwrap();
            let most = reached.entry(place.to_owned()).or_default();
            *most = times.parse().unwrap_or(0).max(*most);
        }
        reached
    }

    /// Starts the daemon, and a second time where it ends over that.
    pub(super) fn start(&mut self) {
        self.equip();
        let (started, recovery) = timed(|| self.fleet.first_mut().try_start());
        match started {
            Ok(()) => self.take_in_hand(recovery),
            Err(said) => {
                self.falls.push(Fall::Starting(said));
                self.revive();
            }
        }
    }

    /// Stops it in order, which it may not live to see.
    pub(super) fn stop(&mut self) -> Option<i32> {
        let code = self.fleet.first_mut().stop();
        if code.is_none() {
            self.plan.clear();
            self.falls.push(Fall::Stopping);
        }
        code
    }

    /// Starts it again if it has died.
    pub(super) fn see_to_it(&mut self) {
        if self.fleet.first_mut().has_died() {
            self.falls.push(Fall::Running);
            self.revive();
        }
    }

    fn revive(&mut self) {
        self.plan.clear();
        self.equip();
        let ((), recovery) = timed(|| self.fleet.first_mut().start());
        self.take_in_hand(recovery);
    }

    fn equip(&mut self) {
        let mut variables = Vec::new();
        if !self.plan.is_empty() {
            variables.push((PLAN.to_owned(), self.plan.clone()));
        }
        // A place that is reached without the plan says nothing about it.
        if self.falls.is_empty() {
            variables.push((REACHED.to_owned(), self.record.display().to_string()));
        }
        self.fleet.first_mut().set_variables(variables);
    }

    /// Waits until the daemon that has just started has all attempts that another one held.
    fn take_in_hand(&mut self, started: Duration) {
        let begun = Instant::now();
        until("all in hand again", BOUND, || {
            let orphaned = self.fleet.cluster.sql(
                "select count(*) from attempt a join daemon d on d.id = a.owner
                 where a.state in ('claimed', 'running') and d.stopped_at is not null
                    and not exists (select from quarantine q where q.run = a.run and q.held_at is not null)",
            );
            // It may die over it.
            if orphaned == "0" || !self.fleet.first_mut().is_alive() {
                Ok(())
            } else {
                Err(orphaned)
            }
        });
        self.recovery = self.recovery.max(started + begun.elapsed());
    }

    /// Calls the command line until it is answered well. What was not confirmed may have happened: then a
    /// repeat is refused with the words `settled`, which is an answer, too.
    #[track_caller]
    pub(super) fn call(&mut self, arguments: &[&str], input: &str, settled: &str) -> Answer {
        let mut first = true;
        let what = arguments.join(" ");
        self.until(&what, |fleet| {
            let answer = fleet.first().get().cli_with_input(arguments, input);
            let is_settled = !first && !settled.is_empty() && answer.stderr.contains(settled);
            first = false;
            if answer.code == Some(0) || is_settled {
                Ok(answer)
            } else {
                Err(format!("{answer:?}"))
            }
        })
    }

    /// Starts a DAG by hand, once. Returns the run's number.
    #[track_caller]
    pub(super) fn trigger(&mut self, dag: &str, request: &str, more: &[&str]) -> i64 {
        let mut arguments = vec!["dag", "trigger", dag, "--request", request];
        arguments.extend_from_slice(&["--output", "json"]);
        arguments.extend_from_slice(more);
        let run = self.call(&arguments, "", "").json();
        run["id"]
            .as_i64()
            .unwrap_or_else(|| panic!("no run in {run}"))
    }

    /// Calls the command line with a given token, until it is refused with these words; without words, until it
    /// succeeds.
    #[track_caller]
    pub(super) fn call_with_token(&mut self, token: &str, arguments: &[&str], refused: &str) {
        self.until(&arguments.join(" "), |fleet| {
            let daemon = fleet.first().get();
            let variables = [("TRAINYARD_URL", daemon.url()), ("TRAINYARD_TOKEN", token)];
            let answer = cli::call(daemon.data(), &variables, arguments);
            let is_it = match refused {
                "" => answer.code == Some(0),
                words => answer.stderr.contains(words),
            };
            if is_it {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        });
    }

    /// Looks until there is a value, and sees to the daemon meanwhile.
    #[track_caller]
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&Fleet) -> Result<T, String>,
    ) -> T {
        until(what, within(PATIENCE), || {
            self.see_to_it();
            look(self.fleet)
        })
    }

    /// Waits until the daemon reached a place, or died there.
    #[track_caller]
    pub(super) fn until_reached(&mut self, place: &str) {
        until(place, within(PATIENCE), || {
            self.see_to_it();
            if self.reached().contains_key(place) || !self.falls.is_empty() {
                Ok(())
            } else {
                Err("not reached".to_owned())
            }
        });
    }

    /// Looks until this SQL gives that.
    #[track_caller]
    pub(super) fn until_sql(&mut self, what: &str, sql: &str, wanted: &str) {
        self.until(what, |fleet| {
            let found = fleet.cluster.sql(sql);
            if found == wanted { Ok(()) } else { Err(found) }
        });
    }

    pub(super) fn sql(&self, sql: &str) -> String {
        self.fleet.cluster.sql(sql)
    }
}
