//! The commands of the README's quick start do what it says, in the order in which they stand there.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use trainyard_tests::cli::binary;
use trainyard_tests::place::Place;
use trainyard_tests::remote::git;
use trainyard_tests::scene::{BOUND, dag_file};
use trainyard_tests::wait::until_true;
use trainyard_tests::witness::Witness;

/// The commands in the README after these words.
fn commands(words: &str) -> &'static str {
    let page = include_str!("../../README.md");
    let (_, rest) = page.split_once(words).unwrap();
    let (_, block) = rest.split_once("```sh\n").unwrap();
    block.split_once("```").unwrap().0
}

/// A shell of a user whose home is `place`, which stops at the first command that fails.
fn shell(place: &Place) -> Child {
    let programs = binary();
    let path = format!(
        "{}:{}",
        programs.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    Command::new("bash")
        .args(["-euo", "pipefail", "-s"])
        .current_dir(place.path())
        .env_clear()
        .envs([("PATH", path.as_str()), ("NO_COLOR", "1")])
        .env("HOME", place.path())
        .envs(std::env::var_os("DOCKER_HOST").map(|host| ("DOCKER_HOST", host)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Says the last of its commands to a shell. Returns what it printed, once it has ended well.
#[track_caller]
fn finish(mut shell: Child, commands: &str) -> String {
    let mut input = shell.stdin.take().unwrap();
    input.write_all(commands.as_bytes()).unwrap();
    drop(input);
    let output = shell.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{said}\n{errors}",
        output.status
    );
    said
}

/// A repository in `folder` with one DAG, `churn`.
fn repository(folder: &Path, dag: &str) {
    std::fs::create_dir_all(folder.join("dags")).unwrap();
    std::fs::write(folder.join("dags/churn.yaml"), dag).unwrap();
    git(folder, &["init", "-q", "-b", "main"]);
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "-m", "Churn"]);
}

#[test]
fn two_daemons_of_the_readme_survive_the_loss_of_one_and_show_the_run() {
    let place = Place::new();
    let witness = Witness::new();
    let dag = dag_file("gated_training").replace("http://witness", witness.address());
    repository(&place.join("src/churn"), &dag);
    // Any free port, as other tests run at the same time.
    let daemons = commands("Two daemons that share one Postgres")
        .replace(
            "--data-dir a --repo",
            "--data-dir a --listen 127.0.0.1:0 --repo",
        )
        .replace("127.0.0.1:8081", "127.0.0.1:0");
    let (before, after) = daemons.split_once("kill -9 PID").unwrap();
    let (_, look) = commands("A daemon for your own repository")
        .split_once('\n')
        .unwrap();

    let mut shell = shell(&place);
    let input = shell.stdin.as_mut().unwrap();
    // The Postgres of a daemon that was killed goes on.
    let clean =
        "trap 'kill -INT %1 %2; wait; kill $(head -n 1 a/postgres/*/postmaster.pid)' EXIT\n";
    input
        .write_all(format!("{clean}{before}").as_bytes())
        .unwrap();
    until_true("the begin of the stage", BOUND, || {
        witness.count("started") > 0
    });
    witness.open("go");
    let said = finish(shell, &format!("kill -9 %1{after}{look}"));
    assert!(
        said.contains("succeeded") && said.contains("trained"),
        "{said}"
    );
    assert_eq!(witness.count("started"), 2, "once for each run: {said}");
}

#[test]
fn the_first_repository_of_the_readme_trains_its_model() {
    let place = Place::new();
    let said = finish(
        shell(&place),
        commands("A first repository with a model to train"),
    );
    assert!(said.contains("release"), "{said}");
    let folder = place.join("src/retrain");
    let page = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let (_, again) = page
        .split_once("trainyard exec dags/retrain.yaml -p ")
        .unwrap();
    let (again, _) = again.split_once('\n').unwrap();
    let again = format!("cd src/retrain; trainyard exec dags/retrain.yaml -p {again}");
    let _ = finish(shell(&place), &again);
    assert!(folder.join("results/train/model.joblib").exists());
}
