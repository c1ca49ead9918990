//! The cost of an idle daemon.

use std::time::{Duration, Instant};

use trainyard_cluster::Cluster;
use trainyard_tests::daemon::Daemon;
use trainyard_tests::place::Place;

use crate::figures::Figure;

/// How long the idle daemon is watched.
const WATCHED: Duration = Duration::from_secs(30);

pub(crate) fn measure() -> Vec<Figure> {
    let place = Place::new();
    let cluster = Cluster::start(&place.join("cluster"));
    let configuration = format!("database_url = {:?}\n", cluster.database().url());
    // The first start migrates.
    let _ = Daemon::production(&place, &configuration).stop();
    let begun = Instant::now();
    let daemon = Daemon::production(&place, &configuration);
    let healthy = begun.elapsed().as_secs_f64();
    let before = processor_seconds(daemon.pid());
    std::thread::sleep(WATCHED);
    let used = processor_seconds(daemon.pid()) - before;
    let memory = proportional_set_mib(daemon.pid());
    vec![
        figure(
            "idle memory (PSS)",
            format!("{memory:.1} MiB"),
            memory / 40.0,
            "under 40 MiB",
        ),
        figure(
            "idle processor time",
            format!("{:.2} %", 100.0 * used / WATCHED.as_secs_f64()),
            100.0 * used / WATCHED.as_secs_f64() / 0.5,
            "under 0.5 %",
        ),
        figure(
            "launch to healthy",
            format!("{healthy:.2} s"),
            healthy / 0.5,
            "0.5 s",
        ),
    ]
}

fn figure(what: &str, value: String, ratio: f64, aim: &'static str) -> Figure {
    let against = format!("aim of {aim}");
    Figure {
        what: what.to_owned(),
        value,
        against,
        ratio: Some(ratio),
        aim: "at most 1",
    }
}

fn proportional_set_mib(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

/// User and system time, from the kernel's count in hundredths of a second.
fn processor_seconds(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = text.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
