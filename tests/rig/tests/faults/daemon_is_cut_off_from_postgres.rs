//! F15: of two daemons one is cut off from Postgres, and still reaches Docker. It stops changing containers a third
//! of its lease before the lease expires; the other adopts its attempts; nothing runs twice.

use std::time::Duration;

use chrono::{DateTime, Utc};
use trainyard_rig::fleet::{Fleet, FleetOptions, REPO};
use trainyard_rig::programme::within;
use trainyard_rig::proxy::{Action, Direction, FaultProxy, Matcher, Rule};
use trainyard_rig::registry::{Fault, Part, Registry};
use trainyard_rig::trials::{Trial, Trials};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::until;

use crate::{BOUND, judge, report, timed};

/// The shortest there is, for the sake of many trials: the default is 15 s.
const LEASE: Duration = Duration::from_secs(10);

/// The part of a lease at its end in which its holder does not act any more.
const MARGIN: u32 = 3;

/// The other has everything in hand by then, from the moment of the cut.
const TAKEOVER: Duration = Duration::from_secs(10 + 5);

/// The calls that change something at Docker.
const EFFECTS: [(&str, &str, &str); 8] = [
    ("build", "POST", "/build"),
    ("pull", "POST", "/images/create"),
    ("create", "POST", "/containers/create"),
    ("lay out", "PUT", "/containers/*/archive"),
    ("start", "POST", "/containers/*/start"),
    ("stop", "POST", "/containers/*/stop"),
    ("remove", "DELETE", "/containers/*"),
    ("remove image", "DELETE", "/images/*"),
];

/// The images that stages pull, and the folders of those that stages build.
const PULLED: [&str; 2] = ["p0", "p1"];
const BUILT: [&str; 2] = ["b0", "b1"];

/// A pull that has begun before the cut ends when the daemon must not act any more.
const SLOW: Fault = Fault::Slow {
    pieces: 18,
    pause: Duration::from_millis(500),
};

/// Two daemons with a run that builds, pulls and lays out files. The first of each kind are one daemon's, the next
/// the other's.
fn fleet(seed: u64, registry: &Registry) -> Fleet {
    let options = FleetOptions {
        daemons: 2,
        // Not all at once: there is always one to be started next.
        parallelism: 3,
        more: format!(
            "lease = \"{}s\"\n{}",
            LEASE.as_secs(),
            registry.permission()
        ),
        ..FleetOptions::new(seed)
    };
    Fleet::start(&options, |witness| {
        let script = witness.script("sleep 2");
        let mut text = "stages:\n".to_owned();
        let mut stage = |name: &str, of: &str| {
            text.push_str(&format!("  {name}: {{{of}, run: '{script}'}}\n"));
        };
        let plain = format!("image: \"{IMAGE}\"");
        for (built, pulled) in BUILT.into_iter().zip(PULLED) {
            stage(built, &format!("build: {{context: {built}}}"));
            let image = registry.reference(pulled);
            stage(pulled, &format!("image: \"{image}\", pull: always"));
            stage(&format!("with-{built}"), &plain);
        }
        stage("s0", &plain);
        stage("s1", &plain);
        let mut files = contexts("first");
        files.push(("dags/dag.yaml".to_owned(), text));
        files
    })
}

/// Files of an image, so that it has to be built again.
fn contexts(content: &str) -> Vec<(String, String)> {
    BUILT
        .map(|folder| {
            let text = format!("FROM {IMAGE}\nLABEL content={content}\nRUN sleep 2\n");
            (format!("{folder}/Dockerfile"), text)
        })
        .into()
}

/// Makes what no Docker engine has, and starts a run that needs it.
fn begin(trial: Trial, fleet: &Fleet, registry: &Registry) -> i64 {
    for (name, seed) in PULLED.into_iter().zip(trial.seed >> 8..) {
        let _ = registry.publish(name, seed);
        registry.misbehave(name, Part::Layer, SLOW);
    }
    let files = contexts(&trial.seed.to_string());
    let files = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    let _ = fleet.remote.push("main", &files.collect::<Vec<_>>());
    let _ = fleet.first().get().cli(&["repo", "sync", REPO]).good();
    fleet.trigger()
}

/// Lets nothing pass any more, without a word, as a broken link; or refuses it, as a filter does.
fn cut(postgres: &FaultProxy, action: &Action) {
    for when in [
        Matcher::connections(),
        Matcher::all(Direction::Request),
        Matcher::all(Direction::Answer),
    ] {
        postgres.add(Rule::always("cut", when, action.clone()));
    }
}

/// When the lease of a daemon ends, as the database has it.
fn end_of_lease(fleet: &Fleet, pid: u32) -> DateTime<Utc> {
    let end = fleet.cluster.sql(&format!(
        "select to_char(lease_until at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
         from daemon where pid = {pid}"
    ));
    end.parse().unwrap()
}

#[test]
fn it_stops_before_its_lease_ends_and_nothing_runs_twice() {
    let trials = Trials::new(
        "F15 daemon cut off from Postgres only",
        "0 duplicates, no side effect in the last third of the lease, adopted in a lease and 5 s",
        2,
    )
    .long(500);
    let registry = Registry::start();
    let summary = trials.run(
        |trial| fleet(trial.seed, &registry),
        |trial, fleet| {
            let mut dice = trial.dice();
            let (cut_off, other) = (&fleet.daemons[1], &fleet.daemons[0]);
            let pid = cut_off.get().pid();
            let held = || {
                let held = fleet.cluster.sql(&format!(
                    "select count(*) from attempt a join daemon d on d.id = a.owner
                     where a.state in ('claimed', 'running') and d.pid = {pid}"
                ));
                held.parse::<usize>().unwrap()
            };
            let lost = || cut_off.get().figure("trainyard_leases_lost_total");
            let lost_before = lost();
            for (name, method, path) in EFFECTS {
                let when = Matcher::http(method, path);
                cut_off.docker.add(Rule::always(name, when, Action::Pass));
            }
            let effects = || EFFECTS.map(|(name, ..)| cut_off.docker.count(name));
            let run = begin(trial, fleet, &registry);
            until("an effect of the one to be cut off", BOUND, || {
                match effects().iter().sum() {
                    0 => Err("none".to_owned()),
                    _ => Ok(()),
                }
            });
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_secs(2)));
            let action = if dice.chance(0.5) {
                Action::BlackHole
            } else {
                Action::Reset
            };
            cut(&cut_off.postgres, &action);
            let holds = held();
            assert!(holds > 0, "nothing was at the daemon that was cut off");
            let acts_until = end_of_lease(fleet, pid) - LEASE / MARGIN;
            // A new pull need not wait.
            for name in PULLED {
                registry.heal(name);
            }
            let ((), recovery) = timed(|| {
                until("all in the other's hands", BOUND, || match held() {
                    0 => Ok(()),
                    left => Err(left.to_string()),
                });
            });
            let ended = fleet.finished(run, BOUND);
            let effect = |rule: &str| EFFECTS.iter().any(|(name, ..)| *name == rule);
            let fired = cut_off.docker.fired().into_iter();
            let mut violations: Vec<String> = fired
                .filter(|fired| effect(&fired.rule) && fired.at > acts_until)
                .map(|fired| format!("it may act until {acts_until}: {fired}"))
                .collect();
            let done = EFFECTS.iter().zip(effects());
            let done: Vec<String> = done.map(|((name, ..), count)| format!("{count} {name}")).collect();
            cut_off.postgres.clear();
            cut_off.postgres.cut_all();
            let (_, back) = timed(|| {
                until("both daemons alive", BOUND, || {
                    let alive = fleet.cluster.sql(
                        "select count(*) from daemon where stopped_at is null and lease_until > clock_timestamp()",
                    );
                    if alive == "2" { Ok(()) } else { Err(alive) }
                });
            });
            until("the metric of leases lost", BOUND, || match lost() {
                lost if lost > lost_before => Ok(()),
                lost => Err(lost.to_string()),
            });
            report(&format!(
                "F15: {action:?} with {holds} attempts held, after {}; adopted {recovery:.1?} after the cut; back \
                 {back:.2?} after its end",
                done.join(", ")
            ));
            cut_off.docker.clear();
            assert!(other.is_up(), "{ended}");
            if recovery > within(TAKEOVER) {
                violations.push(format!("adopted after {recovery:?}"));
            }
            let mut verdict = judge(fleet, run, Some(recovery));
            verdict.violations.append(&mut violations);
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
