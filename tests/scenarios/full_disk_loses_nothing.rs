//! A full disk fails the stage that needs the room, with the reason; all else goes on, and a retry reuses
//! the results.

use trainyard_tests::cluster::Cluster;
use trainyard_tests::daemon::{Daemon, items, stage};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::scene::BOUND;
use trainyard_tests::small_disk::SmallDisk;

#[test]
fn an_output_without_room_errs_its_stage_and_a_retry_keeps_it_once_there_is_room() {
    let place = Place::new();
    let disk = SmallDisk::mount(&place.join("data"), 24);
    let cluster = Cluster::start(&place);
    let remote = Remote::new(&place, "model");
    let dag = format!(
        r#"stages:
  before: {{image: "{IMAGE}", run: 'echo small > "$OUTPUTS/o"', outputs: {{o: o}}}}
  large:
    needs: [before]
    image: "{IMAGE}"
    run: dd if=/dev/urandom of="$OUTPUTS/o" bs=1M count=32
    outputs: {{o: o}}
  beside: {{needs: [before], image: "{IMAGE}", run: echo fine}}
"#
    );
    remote.push("main", &[("dags/dag.yaml", &dag)]);
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
    let run = daemon.finished_run(id, BOUND);
    let large = stage(&run, "large");
    assert_eq!(large["state"], "errored", "{run}");
    assert_eq!(large["reason"]["code"], "storage", "{run}");
    let message = large["reason"]["message"].as_str().unwrap();
    assert!(message.contains("full"), "what: {message}");
    assert!(message.contains("data folder"), "where: {message}");
    assert!(message.contains("free space"), "what to do: {message}");
    assert_eq!(stage(&run, "beside")["state"], "succeeded", "{run}");

    disk.resize(128);
    let again = daemon.json(&["run", "retry", &id.to_string(), "--from-failed"]);
    let again = daemon.finished_run(again["id"].as_i64().unwrap(), BOUND);
    assert_eq!(again["state"], "succeeded", "{again}");
    let kept = daemon.json(&["artifact", "list", &again["id"].to_string()]);
    assert_eq!(items(&kept).len(), 2, "{kept}");
}
