//! Postgres restarts under load: stages go on, runs go on, nothing is lost.

use trainyard_tests::scene::{BOUND, Scene};
use trainyard_tests::wait::until_true;

#[test]
fn runs_go_on_over_restarts_of_postgres() {
    let scene = Scene::plan().own_cluster().dag("two_chains").begin();
    let (cluster, witness) = (scene.cluster(), scene.witness());
    let id = scene.trigger("dag", &[]);
    until_true("the first stages", BOUND, || witness.count("s1") == 1);
    cluster.restart("fast");
    until_true("the third stage", BOUND, || witness.count("s3") == 1);
    cluster.restart("immediate");

    let run = scene.finished(id);
    assert_eq!(run["state"], "succeeded", "{run}");
    for n in 1..=8 {
        assert_eq!(witness.count(&format!("s{n}")), 1, "stage s{n} ran once");
    }
}
