//! Too little free space keeps what is new from starting, and nothing else; once there is room, it starts
//! by itself.

use trainyard_tests::cluster::Cluster;
use trainyard_tests::daemon::Daemon;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::scene::BOUND;
use trainyard_tests::small_disk::SmallDisk;
use trainyard_tests::wait::{until, until_true};
use trainyard_tests::witness::Witness;

#[test]
fn what_runs_goes_on_what_is_new_waits_and_says_why() {
    let (place, witness) = (Place::new(), Witness::new());
    let _disk = SmallDisk::mount(&place.join("data"), 64);
    let cluster = Cluster::start(&place);
    let remote = Remote::new(&place, "model");
    let dag = format!(
        "env: {{WITNESS: \"{}\"}}\nstages:\n  s: {{image: \"{IMAGE}\", run: 'wget -q -O- \"$WITNESS/start\"; wget -q -O- \"$WITNESS/gate/go\"'}}\n",
        witness.address()
    );
    remote.push("main", &[("dags/dag.yaml", &dag)]);
    let configuration = format!(
        "database_url = {:?}\nallow_file_urls = true\n",
        cluster.url("trainyard")
    );
    let daemon = Daemon::production(&place, &configuration);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let trigger = || {
        daemon.json(&["dag", "trigger", "dag"])["id"]
            .as_i64()
            .unwrap()
    };
    let running = trigger();
    until_true("the first stage", BOUND, || witness.count("start") == 1);

    let ballast = place.write("data/ballast", "");
    std::fs::write(&ballast, vec![0_u8; 62 << 20]).unwrap();
    until_true("a degraded daemon", BOUND, || {
        daemon.readiness().0 == "degraded"
    });
    assert_eq!(daemon.get("/readyz", None).0, 200);
    let (_, reasons) = daemon.readiness();
    let words = "the disk of the data folder has less than 3.2 MiB free since ";
    assert!(reasons.contains(words), "{reasons}");
    let paused = "trainyard_claims_paused{kind=\"space\"}";
    until_true("the figure", BOUND, || daemon.figure(paused) == 1.0);

    let waiting = trigger();
    until("the reason", BOUND, || {
        let why = daemon.cli(&["run", "why", &waiting.to_string()]).stdout;
        let told = format!("waits: {words}");
        if why.contains(&told) {
            Ok(())
        } else {
            Err(why)
        }
    });
    let daemons = daemon.cli(&["daemon", "list"]).good().stdout;
    assert!(
        daemons.contains("degraded") && daemons.contains(words),
        "{daemons}"
    );
    witness.open("go");
    assert_eq!(daemon.finished_run(running, BOUND)["state"], "succeeded");
    assert_eq!(witness.count("start"), 1, "nothing new was started");

    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(daemon.finished_run(waiting, BOUND)["state"], "succeeded");
    until_true("a ready daemon", BOUND, || daemon.readiness().0 == "ready");
    assert_eq!(daemon.figure(paused), 0.0);
}
