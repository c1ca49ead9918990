//! Postgres restarts under load: stages go on, runs go on, nothing is lost.

use trainyard_tests::cluster::Cluster;
use trainyard_tests::daemon::Daemon;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::scene::BOUND;
use trainyard_tests::wait::until_true;
use trainyard_tests::witness::Witness;

#[test]
fn runs_go_on_over_restarts_of_postgres() {
    let (place, witness) = (Place::new(), Witness::new());
    let cluster = Cluster::start(&place);
    let remote = Remote::new(&place, "model");
    let mut text = format!("env: {{WITNESS: \"{}\"}}\nstages:\n", witness.address());
    for n in 1..=8 {
        let needs = if n > 2 {
            format!("needs: [s{}], ", n - 2)
        } else {
            String::new()
        };
        text.push_str(&format!(
            "  s{n}: {{{needs}image: \"{IMAGE}\", run: 'wget -q -O- \"$WITNESS/$TRAINYARD_STAGE\"; sleep 0.5'}}\n"
        ));
    }
    remote.push("main", &[("dags/dag.yaml", &text)]);
    let configuration = format!(
        "database_url = {:?}\nallow_file_urls = true\n",
        cluster.url("trainyard")
    );
    let daemon = Daemon::production(&place, &configuration);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let id = daemon.json(&["dag", "trigger", "dag"])["id"]
        .as_i64()
        .unwrap();

    until_true("the first stages", BOUND, || witness.count("s1") == 1);
    cluster.restart("fast");
    until_true("the third stage", BOUND, || witness.count("s3") == 1);
    cluster.restart("immediate");

    let run = daemon.finished_run(id, BOUND);
    assert_eq!(run["state"], "succeeded", "{run}");
    for n in 1..=8 {
        assert_eq!(witness.count(&format!("s{n}")), 1, "stage s{n} ran once");
    }
}
