//! The product's side: whole runs through a daemon, by the times in its history.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use trainyard_tests::daemon::Daemon;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;

use crate::bare::{self, Like};
use crate::figures::{Figure, median};

const BOUND: Duration = Duration::from_secs(300);

struct Bench {
    daemon: Daemon,
    _place: Place,
}

impl Bench {
    fn new(dag: &str, more: &[&str]) -> Self {
        let place = Place::new();
        let remote = Remote::new(&place, "bench");
        remote.push("main", &[("dags/bench.yaml", dag)]);
        let daemon = Daemon::dev(&place, more);
        let _ = daemon.cli(&["repo", "add", "bench", &remote.url()]).good();
        let _ = daemon.cli(&["repo", "sync", "bench"]).good();
        Self {
            daemon,
            _place: place,
        }
    }

    /// One run, as its history has it.
    fn run(&self) -> Value {
        self.run_unobserved(Duration::ZERO)
    }

    /// The same, without a request for its end during this time: each request is a process that takes processor
    /// time from the measured work, and the bare loop has none.
    fn run_unobserved(&self, spared: Duration) -> Value {
        let answer = self.daemon.json(&["dag", "trigger", "bench"]);
        std::thread::sleep(spared);
        let run = self
            .daemon
            .finished_run(answer["id"].as_i64().unwrap(), BOUND);
        assert_eq!(run["state"], "succeeded", "{run}");
        run
    }

    /// Seconds from the making of a run to its end.
    fn seconds(&self) -> f64 {
        self.seconds_unobserved(Duration::ZERO)
    }

    fn seconds_unobserved(&self, spared: Duration) -> f64 {
        let run = self.run_unobserved(spared);
        (time(&run["finished_at"]) - time(&run["created_at"])).as_seconds_f64()
    }
}

fn time(value: &Value) -> DateTime<Utc> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no time: {value}"))
}

/// `count` stages of `true`; in a chain, or side by side.
fn stages(count: usize, chained: bool, command: &str) -> String {
    let mut text = "stages:\n".to_owned();
    for n in 1..=count {
        let needs = if chained && n > 1 {
            format!("needs: [s{}], ", n - 1)
        } else {
            String::new()
        };
        text.push_str(&format!(
            "  s{n}: {{{needs}image: \"{IMAGE}\", command: [{command}], checkout: false}}\n"
        ));
    }
    text
}

fn against_bare(what: &str, bench: &Bench, rounds: usize, count: usize, at_once: usize) -> Figure {
    let _ = (
        bench.seconds(),
        bare::containers(count, at_once, Like::STAGE),
    );
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        // With the init and the network, which are the price of what Trainyard promises; see `promises`.
        let bare = bare::containers(count, at_once, Like::STAGE);
        let own = bench.seconds_unobserved(bare);
        let bare = bare.as_secs_f64();
        ours.push(own);
        theirs.push(bare);
        ratios.push(own / bare);
    }
    Figure {
        what: what.to_owned(),
        value: format!("{:.2} s", median(&ours)),
        against: format!("bare loop {:.2} s", median(&theirs)),
        ratio: Some(median(&ratios)),
        aim: "at most 1.05",
    }
}

pub(crate) fn chain(rounds: usize) -> Figure {
    let bench = Bench::new(&stages(10, true, "\"true\""), &[]);
    against_bare("chain of 10 containers", &bench, rounds, 10, 1)
}

pub(crate) fn wide(rounds: usize) -> Figure {
    let bench = Bench::new(&stages(32, false, "\"true\""), &["--parallelism", "4"]);
    against_bare("32 containers, 4 at a time", &bench, rounds, 32, 4)
}

/// What the init and the network of a repo cost a container, between bare loops: Trainyard's other costs are not
/// in it. Needs the volume that an earlier figure's daemon has made.
pub(crate) fn promises(rounds: usize) -> Vec<Figure> {
    const CONTAINERS: usize = 10;
    let each =
        |like| bare::containers(CONTAINERS, 1, like).as_secs_f64() * 1000.0 / CONTAINERS as f64;
    let init = Like {
        init: true,
        ..Like::PLAIN
    };
    let network = Like {
        network: true,
        ..Like::PLAIN
    };
    let rounds: Vec<[f64; 3]> = (0..rounds)
        .map(|_| [each(Like::PLAIN), each(init), each(network)])
        .collect();
    let column = |n: usize| rounds.iter().map(|round| round[n]).collect::<Vec<_>>();
    let figure = |what: &str, n: usize, aim| {
        let ratios: Vec<f64> = rounds.iter().map(|round| round[n] / round[0]).collect();
        let (with, without) = (median(&column(n)), median(&column(0)));
        Figure {
            what: what.to_owned(),
            value: format!("{with:.1} ms ({:+.1} ms)", with - without),
            against: format!("without {without:.1} ms"),
            ratio: Some(median(&ratios)),
            aim,
        }
    };
    vec![
        figure(
            "a container with the init",
            1,
            "at most what Docker takes to lay out a file, and 5 ms more",
        ),
        figure(
            "a container on a network of its repo",
            2,
            "none: Docker's own price",
        ),
    ]
}

pub(crate) fn fake(rounds: usize) -> Vec<Figure> {
    let bench = Bench::new(&stages(40, true, "\"true\""), &["--executor", "fake"]);
    let _ = bench.seconds();
    let chain: Vec<f64> = (0..rounds).map(|_| bench.seconds()).collect();
    drop(bench);

    let bench = Bench::new(
        &stages(500, false, "\"true\""),
        &["--executor", "fake", "--parallelism", "64"],
    );
    let _ = bench.seconds();
    let rates: Vec<f64> = (0..rounds).map(|_| 500.0 / bench.seconds()).collect();
    vec![
        Figure {
            what: "chain of 40 fake stages".to_owned(),
            value: format!("{:.3} s", median(&chain)),
            against: "aim of 0.2 s".to_owned(),
            ratio: Some(median(&chain) / 0.2),
            aim: "at most 1",
        },
        Figure {
            what: "fake stages per second".to_owned(),
            value: format!("{:.0} /s", median(&rates)),
            against: "aim of 1000 /s".to_owned(),
            ratio: Some(median(&rates) / 1000.0),
            aim: "at least 1",
        },
    ]
}

pub(crate) fn trigger(rounds: usize) -> Figure {
    let bench = Bench::new(&stages(1, false, "\"true\""), &[]);
    let _ = bench.run();
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let run = bench.run();
        let stage = &run["stages"][0]["attempts"][0];
        let own = (time(&stage["started_at"]) - time(&run["created_at"])).as_seconds_f64();
        let bare = bare::containers(1, 1, Like::STAGE).as_secs_f64();
        ours.push(own * 1000.0);
        theirs.push(bare * 1000.0);
        ratios.push(own / bare);
    }
    Figure {
        what: "trigger to start of a stage".to_owned(),
        value: format!("{:.1} ms", median(&ours)),
        against: format!("a bare container, to its end {:.1} ms", median(&theirs)),
        ratio: Some(median(&ratios)),
        aim: "at most 1",
    }
}
