//! Too little free space keeps what is new from starting, and nothing else, and so does a disk that does not
//! answer; once that is over, it starts by itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use trainyard_tests::scene::{BOUND, Scene};
use trainyard_tests::wait::{until, until_true};

#[test]
fn running_stages_go_on_and_new_ones_wait_and_say_why() {
    let scene = Scene::plan()
        .configuration("")
        .disk("data", 64)
        .dag("gated")
        .begin();
    let (daemon, witness) = (&scene.daemon, scene.witness());
    let trigger = || scene.trigger("dag", &[]);
    let running = trigger();
    until_true("the first stage", BOUND, || witness.count("start") == 1);

    let ballast = scene.place.write("data/ballast", "");
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
    assert_eq!(scene.finished(running)["state"], "succeeded");
    assert_eq!(witness.count("start"), 1, "nothing new was started");

    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(scene.finished(waiting)["state"], "succeeded");
    until_true("a ready daemon", BOUND, || daemon.readiness().0 == "ready");
    assert_eq!(daemon.figure(paused), 0.0);
}

#[test]
fn a_disk_that_does_not_answer_pauses_new_stages_and_no_stop() {
    let mut scene = Scene::plan()
        .configuration("artifacts_dir = \"$PLACE/artifacts\"\n")
        .disk("artifacts", 64)
        .file(
            "dags/dag.yaml",
            "stages: {s: {image: alpine:3, run: echo hi}}\n",
        )
        .begin();
    let artifacts = scene.place.join("artifacts");
    let daemon = &scene.daemon;
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
    let id = scene.trigger("dag", &[]);
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
    assert_eq!(scene.finished(id)["state"], "succeeded");
    until_true("a ready daemon", BOUND, || daemon.readiness().0 == "ready");
    let reported = |words| daemon.output().matches(words).count();
    assert_eq!(reported("the disk does not answer"), 1);
    assert_eq!(reported("the disk answers again"), 1);

    let _hung = HungDisk::mount(&artifacts);
    until_true("a degraded daemon", BOUND, || {
        daemon.readiness().0 == "degraded"
    });
    assert_eq!(scene.daemon.stop(), Some(0));
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
