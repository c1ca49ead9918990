//! F15: of two daemons one is cut off from Postgres, and still reaches the engine. It stops changing
//! things there before its lease ends; the other takes over; nothing runs twice.

use std::time::Duration;

use chrono::{DateTime, Utc};
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::proxy::{Action, Direction, Matcher, Rule};
use trainyard_rig::trials::Trials;
use trainyard_tests::wait::until;

use crate::{BOUND, judge, timed};

const STAGES: usize = 8;

/// The calls that change something at the engine.
const EFFECTS: [(&str, &str); 4] = [
    ("POST", "/containers/create"),
    ("POST", "/containers/*/start"),
    ("POST", "/containers/*/stop"),
    ("DELETE", "/containers/*"),
];

#[test]
fn it_stops_before_its_lease_ends_and_nothing_runs_twice() {
    let trials = Trials::new(
        "F15 daemon cut off from Postgres only",
        "0 duplicates, no side effect past the lease",
        2,
    )
    .long(500);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                daemons: 2,
                // Not all at once: there is always one to be started next.
                parallelism: 3,
                more: "lease = \"10s\"\n".to_owned(),
                ..FleetOptions::new(trial.seed)
            };
            Fleet::with_wide_dag(&options, STAGES, |_| "sleep 1".to_owned())
        },
        |trial, fleet| {
            let mut dice = trial.dice();
            let (cut_off, other) = (&fleet.daemons[1], &fleet.daemons[0]);
            for (method, path) in EFFECTS {
                let when = Matcher::http(method, path);
                cut_off.docker.add(Rule::always("effect", when, Action::Pass));
            }
            let run = fleet.trigger();
            until("stages at the one to be cut off", BOUND, || {
                match cut_off.docker.count("effect") {
                    0 => Err("none".to_owned()),
                    _ => Ok(()),
                }
            });
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_secs(2)));
            // Without a word, as a broken link; or refused, as by a filter.
            let action = if dice.chance(0.5) {
                Action::BlackHole
            } else {
                Action::Reset
            };
            let everything = [
                Matcher::connections(),
                Matcher::all(Direction::Request),
                Matcher::all(Direction::Answer),
            ];
            for when in everything {
                cut_off
                    .postgres
                    .add(Rule::always("cut", when, action.clone()));
            }
            let lease = fleet.cluster.sql(
                "select to_char(max(lease_until) at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
                 from daemon where id = (select id from daemon order by started_at desc limit 1)",
            );
            let lease: DateTime<Utc> = lease.parse().unwrap();
            let ended = fleet.finished(run, BOUND);
            let mut violations: Vec<String> = cut_off
                .docker
                .fired()
                .iter()
                .filter(|fired| fired.rule == "effect" && fired.at > lease)
                .map(|fired| format!("past the lease, which ended at {lease}: {fired}"))
                .collect();
            cut_off.postgres.clear();
            cut_off.postgres.cut_all();
            let (_, recovery) = timed(|| {
                until("both daemons alive", BOUND, || {
                    let alive = fleet.cluster.sql(
                        "select count(*) from daemon where stopped_at is null and lease_until > clock_timestamp()",
                    );
                    if alive == "2" { Ok(()) } else { Err(alive) }
                });
            });
            cut_off.docker.clear();
            assert!(other.is_up(), "{ended}");
            let mut verdict = judge(fleet, run, Some(recovery));
            verdict.violations.append(&mut violations);
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
