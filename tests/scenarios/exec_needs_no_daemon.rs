//! `trainyard exec` runs one file here and now, with neither daemon nor database.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trainyard_tests::cli::{Answer, call, command};
use trainyard_tests::engine::docker;
use trainyard_tests::place::Place;
use trainyard_tests::remote::git;
use trainyard_tests::wait::until_true;

const BOUND: Duration = Duration::from_secs(300);

/// `trainyard exec` in a folder that is not the user's home.
fn exec(place: &Place, arguments: &[&str]) -> Answer {
    let home = place.join("home");
    let variables = [("HOME", home.to_str().unwrap())];
    call(place.path(), &variables, &[&["exec"], arguments].concat())
}

#[test]
fn the_smallest_file_runs() {
    let place = Place::new();
    place.write(
        "hello.yaml",
        "stages: {hello: {image: alpine:3, run: echo hi}}\n",
    );
    let answer = exec(&place, &["hello.yaml"]).good();
    assert!(answer.stdout.contains("hi"), "{answer:#?}");
}

#[test]
fn a_failed_stage_gives_exit_code_1_and_its_reason() {
    let place = Place::new();
    place.write(
        "fail.yaml",
        "stages: {hello: {image: alpine:3, run: exit 3}}\n",
    );
    let answer = exec(&place, &["fail.yaml"]);
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
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:7\nsize 9\n";
    place.write("rows.bin", pointer);
    let answer = exec(&place, &["dags/look.yaml"]).good();
    assert!(answer.stdout.contains("not committed"), "{answer:#?}");
    assert!(
        answer
            .stdout
            .contains("rows.bin is a pointer of Git LFS: its content is not in the source tree"),
        "{answer:#?}"
    );
}

#[test]
fn a_stage_has_the_commit_and_the_branch_that_are_checked_out() {
    let place = Place::new();
    let text = "stages: {where: {image: alpine:3, if: 'cause.branch == \"main\"', \
                run: 'echo $TRAINYARD_BRANCH at $TRAINYARD_COMMIT'}}\n";
    place.write("dags/where.yaml", text);
    git(place.path(), &["init", "-q", "-b", "main"]);
    git(place.path(), &["add", "-A"]);
    git(place.path(), &["commit", "-q", "-m", "first"]);
    let commit = git(place.path(), &["rev-parse", "HEAD"]);
    place.write("new.txt", "not committed\n");
    let answer = exec(&place, &["dags/where.yaml"]).good();
    assert!(
        answer
            .stdout
            .contains(&format!("main at {}", commit.trim())),
        "{answer:#?}"
    );
    let said = format!(
        "commit {} of branch main, with the files as they are",
        &commit[..10]
    );
    assert!(answer.stderr.contains(&said), "{answer:#?}");
}

#[test]
fn a_program_that_fails_within_a_pipe_fails_its_stage() {
    let place = Place::new();
    let text =
        "stages: {train: {image: alpine:3, checkout: false, run: \"(exit 3) | cat; echo on\"}}\n";
    place.write("dag.yaml", text);
    let answer = exec(&place, &["dag.yaml"]);
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    assert_eq!(answer.stdout, "", "{answer:#?}");
    let with_shell = text.replace("run:", "shell: [sh, -c], run:");
    place.write("dag.yaml", &with_shell);
    let answer = exec(&place, &["dag.yaml"]).good();
    assert!(answer.stdout.contains("on"), "{answer:#?}");
}

#[test]
fn a_wrong_file_gives_exit_code_2_and_where() {
    let place = Place::new();
    place.write(
        "wrong.yaml",
        "stages: {hello: {imag: alpine:3, run: echo hi}}\n",
    );
    let answer = exec(&place, &["wrong.yaml"]);
    assert_eq!(answer.code, Some(2), "{answer:#?}");
    assert!(answer.stderr.contains("wrong.yaml:1:18"), "{answer:#?}");
}

#[test]
fn one_stage_alone_can_be_run() {
    let place = Place::new();
    let text = "stages:\n  a: {image: alpine:3, run: echo first}\n  b: {needs: [a], image: alpine:3, run: echo second}\n";
    place.write("two.yaml", text);
    let answer = exec(&place, &["two.yaml", "--stage", "b"]).good();
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
    let answer = exec(&place, &["slow.yaml"]);
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    assert!(
        answer.stderr.contains("run timed_out: stage slow"),
        "{answer:#?}"
    );
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
    let answer = exec(&place, &["dag.yaml"]);
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
        let answer = exec(&place, &["dag.yaml", "--outputs", "out"]).good();
        assert!(
            answer.stderr.contains("copied 2 outputs to out"),
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
    let answer = exec(&place, &["dag.yaml"]).good();
    assert!(answer.stdout.contains("4194304"), "{answer:#?}");
}

#[test]
fn an_image_without_a_run_runs_its_own_command_in_its_own_folder() {
    let place = Place::new();
    place.write("dag.yaml", "stages: {own: {build: {context: image}}}\n");
    place.write(
        "image/Dockerfile",
        "FROM alpine:3\nWORKDIR /app\nRUN echo 'pwd; ls -d $INPUTS $OUTPUTS' > go\nCMD [\"sh\", \"./go\"]\n",
    );
    let answer = exec(&place, &["dag.yaml"]).good();
    for line in ["/app\n", "/trainyard/inputs\n", "/trainyard/outputs\n"] {
        assert!(answer.stdout.contains(line), "{line}: {answer:#?}");
    }
}

#[test]
fn a_program_that_cannot_be_run_is_reported_and_costs_one_attempt() {
    let place = Place::new();
    let text = "stages:\n  \
                crlf: {image: alpine:3, command: [./crlf.sh]}\n  \
                shell: {image: alpine:3, run: ./crlf.sh}\n  \
                long: {image: alpine:3, run: 'true', env: {LARGE}}\n  \
                refused: {image: alpine:3, run: mknod x b 8 0}\n";
    let large: Vec<String> = (0..32)
        .map(|number| format!("V{number}: \"{}\"", "${{ params.part }}".repeat(2)))
        .collect();
    let text = text.replace("LARGE", &large.join(", "));
    let part = "x".repeat(32_000);
    let params = format!("params: {{part: {{type: string, default: {part}}}}}\n");
    place.write("dag.yaml", &(params + &text));
    let script = place.write("crlf.sh", "#!/bin/sh\r\ntrue\r\n");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(script, executable).unwrap();
    let answer = exec(&place, &["dag.yaml"]);
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    for words in [
        "crlf: failed: `./crlf.sh` was not run: its first line ends with a carriage return",
        "long: failed: the program cannot be started: its variables and its command are too long",
    ] {
        assert!(answer.stderr.contains(words), "{words}: {answer:#?}");
    }
    for words in [
        "shell   | exit code 127 means",
        "refused | the kernel refused an operation",
    ] {
        assert!(answer.stdout.contains(words), "{words}: {answer:#?}");
    }
    assert!(!answer.stderr.contains("attempt"), "{answer:#?}");
}

#[test]
fn a_daemon_s_data_and_a_home_folder_are_no_source_tree() {
    let place = Place::new();
    place.write("home/notes.txt", "private\n");
    place.write("home/project/.trainyard/token", "secret\n");
    let text = "stages: {look: {image: alpine:3, run: find . -type f}}\n";
    place.write("home/dag.yaml", text);
    place.write("home/project/dag.yaml", text);
    let home = place.join("home");
    let home = [("HOME", home.to_str().unwrap())];
    for file in ["home/dag.yaml", "home/project/dag.yaml"] {
        let answer = call(place.path(), &home, &["exec", file]).good();
        let files: Vec<&str> = answer.stdout.lines().collect();
        assert_eq!(files, ["./dag.yaml"], "{answer:#?}");
        let is_said = answer.stderr.contains("stages get only the DAG file");
        assert_eq!(is_said, file == "home/dag.yaml", "{answer:#?}");
    }
}
