//! The places that only `trainyard dev` reaches, with its own Postgres in a container: it is created, started,
//! inspected if it does not come up, and stopped. On the machine's Docker engine, since that of the rig opens no
//! ports; leftovers are removed there.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use trainyard_failpoint::{PLAN, REACHED};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::daemon::{Daemon, Launch};
use trainyard_tests::engine::{self, docker};
use trainyard_tests::place::Place;

use super::{is_companions, places};
use crate::timed;

/// An image of this machine's Postgres, as tests of the daemon have it.
const POSTGRES: &str = "trainyard-test/postgres:1";

/// How many places the gate tries.
const SAMPLE: u32 = 2;

/// A data folder, and the container that goes with it.
struct Laptop {
    label: String,
    place: Place,
}

impl Laptop {
    fn new() -> Self {
        let place = Place::new();
        let data = place.join("data");
        Self {
            label: format!(
                "label=io.trainyard.companion=Postgres of {}",
                data.display()
            ),
            place,
        }
    }

    /// Starts `dev` with this image and variable.
    fn start(&self, image: &str, variable: Option<(&str, &str)>) -> Result<Daemon, String> {
        let variables = variable.into_iter();
        let launch = Launch {
            variables: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            ..Launch::default()
        };
        Daemon::try_dev(&self.place, &["--pg-image", image], &launch)
    }

    /// Its containers: those that run, or all.
    fn containers(&self, all: bool) -> usize {
        let which = if all { "-aq" } else { "-q" };
        docker(&["ps", which, "--filter", &self.label])
            .lines()
            .count()
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        // Also out of a panic: a second one would leave all of it behind.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let names = [
                "ps",
                "-a",
                "--filter",
                &self.label,
                "--format",
                "{{.Names}}",
            ];
            for name in docker(&names).lines() {
                docker(&["rm", "--force", name]);
                // It is named like its container.
                docker(&["volume", "rm", name]);
            }
        }));
    }
}

/// The image for a place: one whose container ends at once where its log is what is asked for.
fn image(place: &str) -> &'static str {
    if place.contains("logs") {
        return engine::IMAGE;
    }
    let there = Command::new("docker")
        .args(["image", "inspect", POSTGRES])
        .output();
    if !there.unwrap().status.success() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../crates/daemon/tests/postgres_image.sh");
        let made = Command::new(script).arg(POSTGRES).status().unwrap();
        assert!(made.success(), "an image of this machine's Postgres");
    }
    POSTGRES
}

/// The places that are reached where nothing fails.
pub(super) fn reached() -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    for place in ["docker.start_companion", "docker.companion_logs"] {
        let laptop = Laptop::new();
        let record = laptop.place.join("reached");
        let shown = record.display().to_string();
        if let Ok(mut daemon) = laptop.start(image(place), Some((REACHED, &shown))) {
            let _ = daemon.stop();
        }
        let text = std::fs::read_to_string(&record).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('@'));
        reached.extend(lines.map(|(place, _)| place.to_owned()));
    }
    reached
}

/// Fails at a place, and is started again.
fn fail_at(place: &str, action: &str) -> (Vec<String>, Duration) {
    let laptop = Laptop::new();
    let mut wrong = Vec::new();
    let plan = format!("{place}={action}@1");
    let code = match laptop.start(image(place), Some((PLAN, &plan))) {
        Ok(mut daemon) => daemon.stop(),
        Err(_) => None,
    };
    if code == Some(0) {
        wrong.push(format!("{plan}: it ended well"));
    }
    let (started, recovery) = timed(|| laptop.start(image(place), None));
    match started {
        Ok(mut daemon) => {
            let _ = daemon.cli(&["repo", "list"]).good();
            let code = daemon.stop();
            if code != Some(0) || laptop.containers(false) != 0 {
                wrong.push(format!("{plan}: the next one stopped with {code:?}"));
            }
        }
        // A database that does not come up says why, each time.
        Err(said) if place.contains("logs") && said.contains("the end of its log") => {}
        Err(said) => wrong.push(format!("{plan}: the next one did not start: {said}")),
    }
    let containers = laptop.containers(true);
    if containers != 1 {
        wrong.push(format!("{plan}: there are {containers} containers"));
    }
    (wrong, recovery)
}

#[test]
fn a_database_of_dev_is_found_again_whatever_failed() {
    let places: Vec<(String, &str)> = places()
        .into_iter()
        .filter(|place| is_companions(place))
        .flat_map(|place| [(place.clone(), "abort"), (place, "err")])
        .collect();
    let trials = Trials::new(
        "F1 dev with Postgres in a container fails at a place",
        "all places, the next start goes on",
        SAMPLE,
    )
    .long(u32::try_from(places.len()).unwrap());
    let summary = trials.run(
        |_| (),
        |trial, ()| {
            let number = if trials.count as usize >= places.len() {
                u64::from(trial.number - 1)
            } else {
                trial.dice().roll()
            };
            let (place, action) = &places[usize::try_from(number % places.len() as u64).unwrap()];
            let (violations, recovery) = fail_at(place, action);
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        |()| Vec::new(),
    );
    summary.assert_clean(&trials);
}
