//! Too little free space keeps what is new from starting, and nothing else, and so does a disk that does not
//! answer; once that is over, it starts by itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

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
fn running_stages_go_on_and_new_ones_wait_and_say_why() {
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
        let reported = format!("waits: {words}");
        if why.contains(&reported) {
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

#[test]
fn a_disk_that_does_not_answer_pauses_new_stages_and_no_stop() {
    let place = Place::new();
    let artifacts = place.join("artifacts");
    let _disk = SmallDisk::mount(&artifacts, 64);
    let cluster = Cluster::start(&place);
    let remote = Remote::new(&place, "model");
    let dag = format!("stages: {{s: {{image: \"{IMAGE}\", run: echo hi}}}}\n");
    remote.push("main", &[("dags/dag.yaml", &dag)]);
    let configuration = format!(
        "database_url = {:?}\nallow_file_urls = true\nartifacts_dir = {:?}\n",
        cluster.url("trainyard"),
        artifacts.display().to_string()
    );
    let daemon = Daemon::production(&place, &configuration);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    until_true("a ready daemon", BOUND, || daemon.readiness().0 == "ready");

    let hung = HungDisk::mount(&artifacts);
    let words = "the disk of artifacts does not answer since ";
    until("the reason", BOUND, || {
        let (state, reasons) = daemon.readiness();
        if state == "degraded" && reasons.contains(words) {
            Ok(())
        } else {
            Err(format!("{state}: {reasons}"))
        }
    });
    let id = daemon.json(&["dag", "trigger", "dag"])["id"]
        .as_i64()
        .unwrap();
    until("why it waits", BOUND, || {
        let why = daemon.cli(&["run", "why", &id.to_string()]).stdout;
        let reported = format!("waits: {words}");
        if why.contains(&reported) {
            Ok(())
        } else {
            Err(why)
        }
    });

    drop(hung);
    assert_eq!(daemon.finished_run(id, BOUND)["state"], "succeeded");
    until_true("a ready daemon", BOUND, || daemon.readiness().0 == "ready");
    let reported = |words| daemon.output().matches(words).count();
    assert_eq!(reported("the disk does not answer"), 1);
    assert_eq!(reported("the disk answers again"), 1);

    let _hung = HungDisk::mount(&artifacts);
    until_true("a degraded daemon", BOUND, || {
        daemon.readiness().0 == "degraded"
    });
    assert_eq!(daemon.stop(), Some(0));
}

/// A file system that says nothing, over a folder; gone when it is dropped.
struct HungDisk {
    folder: PathBuf,
    /// Where its requests could be read. Once that is closed, it fails instead.
    _questions: File,
}

impl HungDisk {
    fn mount(folder: &Path) -> Self {
        let mut options = File::options();
        let questions = options.read(true).write(true).open("/dev/fuse").unwrap();
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse"])
            .args(["-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "silent"])
            .arg(folder)
            .stdin(questions.try_clone().unwrap())
            .status();
        assert!(mounted.unwrap().success(), "mounting needs root");
        Self {
            folder: folder.to_owned(),
            _questions: questions,
        }
    }
}

impl Drop for HungDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
