//! The scenery of the play: DAG files that together use everything that a daemon does.

use trainyard_rig::fleet::{Fleet, FleetOptions, REPO};
use trainyard_rig::registry::Registry;
use trainyard_rig::witness::Witness;
use trainyard_tests::engine::IMAGE;

/// How many lines the talkative stage prints: more than is kept of a log.
pub(super) const LINES: u32 = 30_000;

/// Small bounds, so that logs are cut and rows are old within a play. The shortest lease that there is:
/// a daemon that cannot say goodbye is missed after it.
const CONFIGURATION: &str = r#"
poll_every = "2s"
lease = "10s"
[limits]
log = "64KiB"
[stage]
grace = "1s"
[retention]
runs_for = "1h"
runs_of_each_dag = 3
logs_for = "1h"
deliveries_for = "1h"
images_for = "1s"
audit_for = "1h"
[pools]
seat = 1
"#;

/// Another daemon, as far as the database knows: notifications go out only while there is one.
const NEIGHBOUR: &str =
    "insert into daemon (id, host, pid, version, started_at, lease_until, lease_seconds)
    values (gen_random_uuid(), 'elsewhere', 1, '0', now(), now() + interval '1 day', 86400)";

/// An installation with one daemon, which is down.
pub(super) fn fleet(seed: u64) -> Fleet {
    let registry = Registry::start();
    let image = registry.publish("base", seed);
    let options = FleetOptions {
        parallelism: 8,
        more: registry.permission() + CONFIGURATION,
        ..FleetOptions::new(seed)
    };
    let mut fleet = Fleet::start(&options, |witness| files(witness, &image));
    let _ = fleet.cluster.sql(NEIGHBOUR);
    let _ = fleet.first_mut().stop();
    fleet
}

/// A DAG of the repo as the command line takes it, where another repo has one of the same name.
pub(super) fn dag(name: &str) -> String {
    format!("{REPO}/{name}")
}

fn files(witness: &Witness, fetched: &str) -> Vec<(String, String)> {
    let work = work(witness, fetched);
    let one = |head: &str, stage: &str, script: &str| {
        let script = witness.script(script);
        format!(
            "{head}stages: {{only: {{image: \"{IMAGE}\", checkout: false, {stage}run: '{script}'}}}}\n"
        )
    };
    let held = witness.gate();
    let files = [
        ("dags/work.yaml", work),
        ("dags/held.yaml", one("", "pools: [seat], ", &held)),
        ("dags/sick.yaml", one("", "pools: [seat], ", "true")),
        (
            "dags/alone.yaml",
            one(
                "concurrency: {limit: 1, overlap: queue}\n",
                "outputs: {own: own}, ",
                "echo alone; head -c 16 /dev/urandom > $OUTPUTS/own",
            ),
        ),
        (
            "dags/tick.yaml",
            one("triggers: {schedule: {cron: \"@yearly\"}}\n", "", "true"),
        ),
        ("dags/faulty.yaml", "stages: 17\n".to_owned()),
        (
            "image/Dockerfile",
            format!("FROM {IMAGE}\nCOPY stamp /stamp\n"),
        ),
        ("image/stamp", "0".to_owned()),
    ];
    let owned = |(path, text): (&str, String)| (path.to_owned(), text);
    files.into_iter().map(owned).collect()
}

/// A DAG that a push starts: an image is built and another pulled, an output is passed on, a metric is judged, a
/// stage fails first, one prints too much, and one gets a secret.
fn work(witness: &Witness, fetched: &str) -> String {
    let made = witness.script("head -c 5000 /dev/urandom > $OUTPUTS/made");
    let taken = witness.script(
        "size=$(wc -c < $INPUTS/made); echo \"{\\\"size\\\": $size}\" > $OUTPUTS/metrics.json",
    );
    let flaky = witness.script("test $TRAINYARD_ATTEMPT -gt 1");
    let chatty = witness.script(&format!("seq 1 {LINES}"));
    let discreet = witness.script("test -n \"$WORD\"");
    let plain = witness.script("true");
    format!(
        "triggers: {{push: {{branches: [main], paths: [\"data/**\"]}}}}
defaults: {{checkout: false, retry: {{attempts: 3, on: [errored], backoff: 100ms}}}}
stages:
  make: {{build: {{context: image}}, checkout: true, run: '{made}', outputs: {{made: made}}}}
  take:
    needs: [make]
    image: \"{IMAGE}\"
    inputs: {{made: make.made}}
    run: '{taken}'
    metrics: metrics.json
    gate: [{{metric: size, min: 5000, max: 5000}}]
  flaky:
    image: \"{IMAGE}\"
    retry: {{attempts: 4, on: [failed, errored], backoff: 100ms}}
    run: '{flaky}'
  chatty: {{image: \"{IMAGE}\", run: '{chatty}'}}
  discreet: {{image: \"{IMAGE}\", secrets: [WORD], run: '{discreet}'}}
  fetched: {{image: \"{fetched}\", pull: always, run: '{plain}'}}
"
    )
}
