//! Commands that read DAG files, and need neither a daemon nor Docker.

use std::io::Read;
use std::process::Stdio;

use crate::binary::Place;
use crate::daemon::Daemon;

const DIAMOND: &str = "\
stages:
  split: {image: alpine:3, run: echo}
  left: {needs: [split], image: alpine:3, run: echo}
  right: {needs: [split], build: tools, run: echo}
  join: {needs: [left, right], image: alpine:3, run: echo, if: params.full}
params: {full: {type: boolean, default: true}}
";

const WRONG: &str = "stages: {hello: {imag: alpine:3, run: echo hi}}\n";

#[test]
fn good_files_are_named_with_their_dags() {
    let place = Place::new();
    place.write("repo/dags/diamond.yaml", DIAMOND);
    place.write("repo/tools/Dockerfile", "FROM alpine:3\n");
    place.write(
        "repo/dags/other.yml",
        "name: second\nstages: {a: {image: x}}\n",
    );
    place.write("repo/dags/notes.txt", "no DAG file");
    place.write("repo/compose.yaml", "services: {}\n");
    let answer = place.call(&["validate", "repo"]);
    insta::assert_snapshot!(answer.whole(), @"
    exit code 0
    --- stdout
    repo/dags/diamond.yaml: DAG diamond, 4 stages
    repo/dags/other.yml: DAG second, 1 stage
    --- stderr
    ");
}

#[test]
fn faults_go_to_standard_error_with_their_places_and_exit_code_2() {
    let place = Place::new();
    place.write("dags/good.yaml", "stages: {a: {image: x}}\n");
    place.write("dags/wrong.yaml", WRONG);
    let answer = place.call(&["validate", "."]);
    assert_eq!(answer.code, Some(2));
    assert_eq!(answer.stdout, "./dags/good.yaml: DAG good, 1 stage\n");
    assert!(
        answer.stderr.contains("./dags/wrong.yaml:1:18")
            && answer.stderr.contains("did you mean `image`?")
            && answer.stderr.ends_with("1 file with faults\n"),
        "{}",
        answer.stderr
    );
}

#[test]
fn faults_are_data_for_programs() {
    let place = Place::new();
    place.write("good.yaml", "stages: {a: {image: x}}\n");
    place.write("wrong.yaml", WRONG);
    let answer = place.call(&["validate", "good.yaml", "wrong.yaml", "--output", "json"]);
    assert_eq!(answer.code, Some(2));
    assert_eq!(answer.stderr, "");
    let report: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(report["items"][0]["dag"], "good");
    assert_eq!(report["items"][0]["valid"], true);
    let wrong = &report["items"][1];
    assert_eq!(
        (&wrong["valid"], &wrong["file"]),
        (&false.into(), &"wrong.yaml".into())
    );
    let fault = wrong["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .find(|fault| fault["code"] == "unknown_key")
        .unwrap();
    assert_eq!((&fault["line"], &fault["column"]), (&1.into(), &18.into()));
}

#[test]
fn what_is_not_there_is_named() {
    let place = Place::new();
    place.write("empty/x.txt", "");
    let answer = place.call(&["validate", "nowhere.yaml"]);
    insta::assert_snapshot!(answer.whole(), @"
    exit code 2
    --- stdout
    --- stderr
    error[unreadable]: it cannot be read: No such file or directory (os error 2)
    --> nowhere.yaml
    1 file with faults
    ");
    let answer = place.call(&["validate", "empty"]);
    assert_eq!(answer.code, Some(2));
    assert_eq!(answer.stderr, "error: empty has no DAG files (*.yaml)\n");
}

#[test]
fn a_file_that_is_not_text_is_a_fault_of_the_file() {
    let place = Place::new();
    std::fs::write(place.path("x.yaml"), b"stages: \xff\xfe").unwrap();
    let answer = place.call(&["validate", "x.yaml"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("UTF-8"), "{}", answer.stderr);
}

fn git_init(folder: &std::path::Path) {
    let made = std::process::Command::new("git")
        .args(["init", "--quiet"])
        .current_dir(folder)
        .status();
    assert!(made.unwrap().success());
}

#[test]
fn validate_refuses_what_the_daemon_refuses_and_skips_what_it_skips() {
    let place = Place::new();
    place.write("dags/x.yaml", "stages: {a: {image: x}}\n");
    place.write("dags/x.yml", "stages: {a: {image: x}}\n");
    place.write("dags/y.yaml", "name: x\nstages: {a: {image: x}}\n");
    place.write("dags/.hidden.yaml", WRONG);
    place.write("elsewhere.yaml", "stages: {a: {image: x}}\n");
    for (link, to) in [
        ("l.yaml", "../elsewhere.yaml"),
        ("m.yaml", "/proc/self/mem"),
    ] {
        std::os::unix::fs::symlink(to, place.path("dags").join(link)).unwrap();
    }
    let answer = place.call(&["validate"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert_eq!(answer.stdout, "./dags/x.yaml: DAG x, 1 stage\n");
    let taken = "./dags/x.yaml defines a DAG named `x` already";
    assert_eq!(answer.stderr.matches(taken).count(), 2, "{answer:?}");
    let link = "it is a symbolic link; a DAG file is a file";
    assert_eq!(answer.stderr.matches(link).count(), 2, "{answer:?}");
    assert!(answer.stderr.contains("./dags/y.yaml:1:7"), "{answer:?}");
    assert!(
        answer.stderr.ends_with("4 files with faults\n"),
        "{answer:?}"
    );
    let answer = place.call(&["validate", "dags/y.yaml", "dags/x.yaml", "dags/x.yaml"]);
    assert!(answer.stdout.contains("dags/x.yaml: DAG x"), "{answer:?}");
    assert!(
        answer.stderr.ends_with("1 file with faults\n"),
        "{answer:?}"
    );
}

#[test]
fn a_pipe_or_a_device_in_place_of_a_dag_file_is_refused_and_not_waited_for() {
    let place = Place::new();
    let made = std::process::Command::new("mkfifo")
        .arg(place.path("a.yaml"))
        .status();
    assert!(made.unwrap().success());
    place.write("b.yaml", "stages: {a: {image: x}}\n");
    for command in ["validate", "graph", "exec"] {
        for file in ["a.yaml", "/dev/zero"] {
            let answer = place.call(&[command, file]);
            assert_eq!(answer.code, Some(2), "{answer:?}");
            assert!(
                answer.stderr.contains("a pipe or a device, not a file"),
                "{answer:?}"
            );
        }
    }
    let answer = place.call(&["validate", "a.yaml", "b.yaml"]);
    assert_eq!(answer.stdout, "b.yaml: DAG b, 1 stage\n");
}

#[test]
fn validate_in_a_subfolder_names_the_folder_that_the_daemon_reads() {
    let place = Place::new();
    place.write("repo/dags/top.yaml", "stages: {a: {image: x}}\n");
    place.write("repo/services/a/dags/svc.yaml", "stages: {a: {image: x}}\n");
    place.write("repo/src/train.py", "");
    git_init(&place.path("repo"));
    let answer = place.call(&["validate", "repo/services/a"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(
        answer.stdout.contains("dags/svc.yaml: DAG svc"),
        "{answer:?}"
    );
    assert!(
        answer
            .stderr
            .contains("a daemon does not read repo/services/a/dags: it reads the DAG files in"),
        "{answer:?}"
    );
    for folder in ["repo/src", "repo"] {
        let answer = place.call(&["validate", folder]);
        assert!(
            answer.stdout.contains("repo/dags/top.yaml: DAG top"),
            "{answer:?}"
        );
        assert_eq!(answer.stderr, "", "{answer:?}");
    }
}

#[test]
fn what_a_file_asks_of_its_repo_has_to_be_there() {
    let place = Place::new();
    place.write("repo/src/train.py", "");
    place.write("repo/image/Dockerfile.gpu", "FROM alpine:3\n");
    place.write("repo/empty/x", "");
    place.write(
        "repo/dags/a.yaml",
        "\
triggers: {push: {paths: [src, src/train.py, gone, \"src/**\"]}}
defaults: {build: nowhere}
stages:
  one: {run: echo}
  two: {build: {context: empty}, run: echo}
  three: {build: {context: image, dockerfile: Dockerfile.gpu}, run: echo}
  four: {build: {context: image, dockerfile: image/Dockerfile.gpu}, run: echo}
  five: {build: src/train.py, run: echo}
",
    );
    let answer = place.call(&["validate", "repo/dags/a.yaml", "--output", "json"]);
    assert_eq!(answer.code, Some(2));
    let report: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let faults = report["items"][0]["diagnostics"].as_array().unwrap();
    let said: Vec<String> = faults
        .iter()
        .map(|fault| format!("{} ({})", fault["message"], fault["help"]).replace('"', ""))
        .collect();
    insta::assert_snapshot!(said.join("\n"), @"
    the pattern `src` matches nothing: it names a folder, and only files are compared with it (write `src/**`)
    the repo has no folder `nowhere` to build from (a context is relative to the root of the repo, and what git ignores is not in it)
    the repo has no file `empty/Dockerfile` to build from (add it, or name another one: `build: {dockerfile: …}`)
    the repo has no file `image/image/Dockerfile.gpu` to build from (`dockerfile` is relative to the context, `image`)
    `src/train.py` is a file, and the context of a build is a folder (write `build: {context: FOLDER, dockerfile: FILE}`, the file relative to the folder)
    ");
}

#[test]
fn a_folder_that_git_ignores_is_not_in_the_repo() {
    let place = Place::new();
    place.write("repo/.gitignore", "image/\n");
    place.write("repo/image/Dockerfile", "FROM alpine:3\n");
    place.write("repo/kept/Dockerfile", "FROM alpine:3\n");
    place.write(
        "repo/dags/a.yaml",
        "stages: {a: {build: image, run: echo}, b: {build: kept, run: echo}}\n",
    );
    for is_repository in [false, true] {
        if is_repository {
            git_init(&place.path("repo"));
        }
        let answer = place.call(&["validate", "repo/dags/a.yaml"]);
        assert_eq!(answer.code, Some(2), "{answer:?}");
        assert!(
            answer.stderr.contains("no folder `image` to build from")
                && !answer.stderr.contains("`kept`"),
            "{answer:?}"
        );
    }
}

#[test]
fn a_pool_that_the_daemon_does_not_define_or_that_is_too_small_is_a_warning() {
    let daemon = Daemon::with(
        "GET /daemon",
        r#"{"version": "1", "instance": "i", "url": "http://t.example.org", "slots": 4, "pools": {"licence": 1, "gpu": 2}}"#,
    );
    let file = "stages: {a: {image: x, pools: [gup, licence]}, b: {image: x, pools: {gpu: 3}}}\n";
    daemon.place().write("a.yaml", file);
    let answer = daemon.call(&["validate", "a.yaml"]);
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert!(
        answer.stderr.contains(
            "warning[invalid_value]: the daemon at http://t.example.org defines no pool `gup`"
        ) && answer.stderr.contains("did you mean `gpu`?")
            && !answer.stderr.contains("`licence`"),
        "{}",
        answer.stderr
    );
    let too_small = "`gpu` has 2 slots at the daemon at http://t.example.org and the stage takes 3, so it would wait for ever";
    assert!(answer.stderr.contains(too_small), "{}", answer.stderr);
    let alone = daemon.place().call(&["validate", "a.yaml"]);
    assert_eq!(alone.code, Some(0));
    assert!(
        alone.stderr.contains("pools were not checked"),
        "{}",
        alone.stderr
    );
}

#[test]
fn validate_without_a_path_checks_the_current_folder() {
    let place = Place::new();
    place.write("dags/a.yaml", "stages: {a: {image: x, rum: y}}\n");
    let answer = place.call(&["validate"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.stderr.contains("dags/a.yaml:1:"), "{answer:?}");
}

#[test]
fn exec_says_that_pools_do_not_count() {
    let place = Place::new();
    place.write(
        "a.yaml",
        "stages: {a: {image: x, run: y, pools: {gpu: 1}}}\n",
    );
    let nowhere = [("DOCKER_HOST", "unix:///nowhere/docker.sock")];
    let answer = place.call_with("", &nowhere, &["exec", "a.yaml"]);
    assert!(
        answer.stderr.contains("pools (gpu) belong to a daemon"),
        "{answer:?}"
    );
}

#[test]
fn a_graph_is_drawn_for_every_reader() {
    let place = Place::new();
    place.write("diamond.yaml", DIAMOND);
    let mut all = place.call(&["graph", "diamond.yaml"]).whole();
    for format in ["dot", "mermaid", "json"] {
        let answer = place.call(&["graph", "diamond.yaml", "--format", format]);
        assert_eq!(answer.code, Some(0));
        all.push_str(&format!("\n{}", answer.stdout));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_graph_of_a_wrong_file_shows_its_faults() {
    let place = Place::new();
    place.write("wrong.yaml", WRONG);
    let answer = place.call(&["graph", "wrong.yaml"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("wrong.yaml:1:18"), "{answer:?}");
}

#[test]
fn the_schema_is_json_schema() {
    let answer = Place::new().call(&["schema"]);
    assert_eq!(answer.code, Some(0));
    let schema: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert!(schema["properties"]["stages"].is_object(), "{schema}");
}

#[test]
fn a_wrong_file_is_not_run() {
    let place = Place::new();
    place.write("wrong.yaml", WRONG);
    place.write("right.yaml", "stages: {a: {image: x}}\n");
    let answer = place.call(&["exec", "wrong.yaml"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("wrong.yaml:1:18"), "{answer:?}");
    let answer = place.call(&["exec", "right.yaml", "--stage", "b"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("`b`"), "{answer:?}");
    let answer = place.call(&["exec", "right.yaml", "-p", "a=1"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("`a`"), "{answer:?}");
}

#[test]
fn a_stage_that_needs_what_another_one_makes_is_not_run_alone() {
    let place = Place::new();
    place.write(
        "two.yaml",
        "stages:\n  a: {image: x, outputs: {model: m.bin}}\n  \
         b: {needs: [a], image: x, inputs: {m: a.model}}\n",
    );
    insta::assert_snapshot!(place.call(&["exec", "two.yaml", "--stage", "b"]).whole(), @"
    exit code 2
    --- stdout
    --- stderr
    error: stage `b` cannot run alone: it needs `a.model`, which other stages make; run the file without --stage
    ");
}

#[test]
fn a_parameter_of_exec_that_is_given_twice_is_refused() {
    let place = Place::new();
    let text = "params: {i: {type: integer}}\nstages: {a: {image: x}}\n";
    place.write("dag.yaml", text);
    let answer = place.call(&["exec", "dag.yaml", "-p", "i=5", "-p", "i=6"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(
        answer.stderr.contains("`i` is given more than once"),
        "{answer:?}"
    );
}

#[test]
fn an_engine_that_is_not_there_is_exit_code_3() {
    let place = Place::new();
    place.write("right.yaml", "stages: {a: {image: x}}\n");
    let nowhere = ("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let answer = place.call_with("", &[nowhere], &["exec", "right.yaml"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(
        answer.stderr.contains("/nonexistent/docker.sock")
            && answer.stderr.contains("trainyard doctor"),
        "{answer:?}"
    );
}

#[test]
fn a_reader_that_closes_the_pipe_early_is_not_an_error() {
    let place = Place::new();
    let mut child = place
        .command(&["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed before a byte was read: the command gets a broken pipe.
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(
        (child.wait().unwrap().code(), stderr.as_str()),
        (Some(0), "")
    );
}

#[test]
fn exec_reads_secrets_like_the_daemon_and_takes_an_empty_variable_as_not_set() {
    let place = Place::new();
    place.write(
        "say.yaml",
        "stages: {say: {image: alpine:3, secrets: [API_KEY], run: echo}}\n",
    );
    let exec = |value: &str| {
        let nowhere = "unix:///nonexistent/docker.sock";
        let variables = [("API_KEY", value)];
        let answer = place.call_with(
            "",
            &variables,
            &["exec", "say.yaml", "--docker-host", nowhere],
        );
        (answer.code, answer.stderr)
    };
    let (code, errors) = exec("");
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("secret API_KEY is not set"), "{errors}");
    let (code, errors) = exec("ab");
    assert_eq!(code, Some(3), "{errors}");
    assert!(
        errors.contains("API_KEY: shorter than 4 characters: it cannot be redacted"),
        "{errors}"
    );
    let (_, errors) = exec("long enough");
    assert!(!errors.contains("redacted"), "{errors}");
}
