//! `trainyard exec` runs one file here and now, with neither daemon nor database.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trainyard_tests::cli::{call, command};
use trainyard_tests::engine::docker;
use trainyard_tests::place::Place;
use trainyard_tests::wait::until_true;

const BOUND: Duration = Duration::from_secs(300);

#[test]
fn the_smallest_file_runs() {
    let place = Place::new();
    place.write(
        "hello.yaml",
        "stages: {hello: {image: alpine:3, run: echo hi}}\n",
    );
    let answer = call(place.path(), &[], &["exec", "hello.yaml"]).good();
    assert!(answer.stdout.contains("hi"), "{answer:#?}");
}

#[test]
fn a_failed_stage_gives_exit_code_1_and_its_reason() {
    let place = Place::new();
    place.write(
        "fail.yaml",
        "stages: {hello: {image: alpine:3, run: exit 3}}\n",
    );
    let answer = call(place.path(), &[], &["exec", "fail.yaml"]);
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    assert!(
        format!("{}{}", answer.stdout, answer.stderr).contains("exit code 3"),
        "{answer:#?}"
    );
}

#[test]
fn the_working_tree_is_taken_as_it_stands() {
    let place = Place::new();
    place.write(
        "dags/look.yaml",
        "stages: {look: {image: alpine:3, run: cat data.txt}}\n",
    );
    place.write("data.txt", "not committed\n");
    let answer = call(place.path(), &[], &["exec", "dags/look.yaml"]).good();
    assert!(answer.stdout.contains("not committed"), "{answer:#?}");
}

#[test]
fn a_wrong_file_gives_exit_code_2_and_where() {
    let place = Place::new();
    place.write(
        "wrong.yaml",
        "stages: {hello: {imag: alpine:3, run: echo hi}}\n",
    );
    let answer = call(place.path(), &[], &["exec", "wrong.yaml"]);
    assert_eq!(answer.code, Some(2), "{answer:#?}");
    assert!(answer.stderr.contains("wrong.yaml:1:18"), "{answer:#?}");
}

#[test]
fn one_stage_alone_can_be_run() {
    let place = Place::new();
    let text = "stages:\n  a: {image: alpine:3, run: echo first}\n  b: {needs: [a], image: alpine:3, run: echo second}\n";
    place.write("two.yaml", text);
    let answer = call(place.path(), &[], &["exec", "two.yaml", "--stage", "b"]).good();
    assert!(
        answer.stdout.contains("second") && !answer.stdout.contains("first"),
        "{answer:#?}"
    );
}

#[test]
fn a_stage_is_stopped_at_its_timeout() {
    let place = Place::new();
    let text = "stages: {slow: {image: alpine:3, timeout: 1s, run: sleep 600}}\n";
    place.write("slow.yaml", text);
    let begun = Instant::now();
    let answer = call(place.path(), &[], &["exec", "slow.yaml"]);
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    assert!(answer.stderr.contains("run timed_out: slow"), "{answer:#?}");
    assert!(begun.elapsed() < BOUND);
}

#[test]
fn every_signal_that_asks_it_to_end_leaves_no_container() {
    let place = Place::new();
    for (number, signal) in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .enumerate()
    {
        let dag = format!("stop-{}-{number}", std::process::id());
        let text = "stages: {hang: {image: alpine:3, run: sleep 600}}\n";
        let file = format!("{dag}.yaml");
        place.write(&file, text);
        let mut child = command(place.path(), &[], &["exec", &file])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let filter = format!("label=io.trainyard.dag={dag}");
        let containers = || docker(&["ps", "--all", "--quiet", "--filter", &filter]);
        until_true("its container is there", BOUND, || {
            !containers().trim().is_empty()
        });
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(1), "{signal}");
        assert_eq!(containers().trim(), "", "{signal}");
    }
}

#[test]
fn it_ends_with_a_table_and_names_each_stage_that_failed() {
    let place = Place::new();
    let text = "stages:\n  \
                good: {image: alpine:3, run: 'echo ''{\"auc\": 0.5}'' > \"$OUTPUTS/metrics.json\"', metrics: metrics.json, gate: [{metric: auc, min: 0.4}]}\n  \
                bad: {image: alpine:3, run: exit 3}\n  \
                worse: {image: alpine:3, run: exit 4}\n  \
                after: {image: alpine:3, needs: [bad], run: echo never}\n";
    place.write("dag.yaml", text);
    let answer = call(place.path(), &[], &["exec", "dag.yaml"]);
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    let (_, table) = answer.stderr.split_once("STAGE").unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[1][..2], ["good", "succeeded"], "{table}");
    assert_eq!(rows[1][3..], ["auc", "0.5"], "{table}");
    assert_eq!(rows[2], ["gate", "passed"], "{table}");
    assert_eq!(rows[3][..2], ["bad", "failed"], "{table}");
    assert_eq!(rows[4][..2], ["worse", "failed"], "{table}");
    assert_eq!(rows[5][..2], ["after", "upstream_failed"], "{table}");
    assert!(
        table.trim_end().ends_with("run failed: stages bad, worse"),
        "{table}"
    );
}

#[test]
fn outputs_are_copied_to_the_folder_that_is_asked_for() {
    let place = Place::new();
    let text = "stages: {make: {image: alpine:3, run: 'mkdir $OUTPUTS/d; echo 1 > $OUTPUTS/d/a; echo 2 > $OUTPUTS/b', outputs: {d: d, b: b}}}\n";
    place.write("dag.yaml", text);
    for _ in ["first", "again"] {
        let answer = call(place.path(), &[], &["exec", "dag.yaml", "--outputs", "out"]).good();
        assert!(
            answer.stderr.contains("2 outputs are in out"),
            "{answer:#?}"
        );
    }
    let read = |path| std::fs::read_to_string(place.join(path)).unwrap();
    assert_eq!(
        (read("out/make/d/a"), read("out/make/b")),
        ("1\n".into(), "2\n".into())
    );
}

#[test]
fn a_file_with_holes_reaches_the_stage() {
    let place = Place::new();
    let text = "stages: {look: {image: alpine:3, run: wc -c < index.db}}\n";
    place.write("dag.yaml", text);
    let file = std::fs::File::create(place.join("index.db")).unwrap();
    file.set_len(4 << 20).unwrap();
    let answer = call(place.path(), &[], &["exec", "dag.yaml"]).good();
    assert!(answer.stdout.contains("4194304"), "{answer:#?}");
}
