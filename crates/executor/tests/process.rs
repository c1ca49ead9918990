//! Processes of this host: the promises of the contract, and what is particular to processes.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where something it relies on does"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use trainyard_core::id::InstanceId;
use trainyard_core::render::RenderedCommand;
use trainyard_executor::conformance::{Kit, MissingProgram, Program, Subject, shell_program};
use trainyard_executor::process::{Process, ProcessConfig};
use trainyard_executor::{ErrorKind, Executor, Status, conformance_tests};
use uuid::Uuid;

struct Here(TempDir);

impl Here {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn attempts(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path().join("attempts")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().display().to_string())
            .collect()
    }
}

impl Subject for Here {
    type Executor = Process;

    async fn make(&self) -> Process {
        Process::new(ProcessConfig {
            data_dir: self.0.path().to_owned(),
            env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        })
        .unwrap()
    }

    fn instance(&self) -> InstanceId {
        InstanceId(Uuid::nil())
    }

    fn image(&self) -> &str {
        "ignored"
    }

    fn program(&self, program: &Program<'_>) -> RenderedCommand {
        shell_program(program)
    }

    fn missing_program(&self) -> MissingProgram {
        MissingProgram::StartFails
    }
}

conformance_tests!(Here::new());

fn script(text: &str) -> RenderedCommand {
    RenderedCommand::Script(text.to_owned())
}

#[tokio::test]
async fn a_wrapper_that_was_killed_leaves_an_end_that_nobody_can_tell() {
    let kit = Kit::new(Here::new());
    let executor = kit.subject.make().await;
    // The program kills all of its session, so nothing is written down.
    let handle = kit
        .start(&executor, &kit.spec_of(script("kill -KILL 0")))
        .await;
    assert_eq!(kit.end(&executor, &handle).await, Status::Unknown);
    assert_eq!(
        kit.subject.make().await.inspect(&handle).await,
        Ok(Some(Status::Unknown))
    );
    executor.remove(&handle).await.unwrap();
}

#[tokio::test]
async fn a_program_named_like_a_word_of_the_shell_is_the_program() {
    let kit = Kit::new(Here::new());
    let executor = kit.subject.make().await;
    let command = RenderedCommand::Exec(vec!["true".to_owned(), "--version".to_owned()]);
    let (handle, code) = kit.run(&executor, &kit.spec_of(command)).await;
    let printed = kit.printed(&executor, &handle).await;
    assert_eq!(code, 0);
    assert!(
        printed.stdout.contains("coreutils"),
        "the shell's own prints nothing: {printed:?}"
    );
}

/// What a script prints and how it ends where `sh` is this program.
async fn run_by(sh: &str, text: &str) -> (i32, String) {
    let place = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(sh, place.path().join("sh")).unwrap();
    let kit = Kit::new(Here::new());
    let executor = kit.subject.make().await;
    let mut spec = kit.spec_of(script(text));
    let path = format!("{}:/usr/bin:/bin", place.path().display());
    spec.env.insert("PATH".to_owned(), path);
    let (handle, code) = kit.run(&executor, &spec).await;
    let printed = kit.printed(&executor, &handle).await;
    (code, printed.stdout + &printed.stderr)
}

#[tokio::test]
async fn a_program_that_fails_within_a_pipe_fails_the_script_where_the_shell_has_pipefail() {
    for sh in ["/bin/bash", "/bin/busybox"] {
        let (code, printed) = run_by(sh, "(exit 3) | cat\necho went on").await;
        assert_eq!((code, &*printed), (3, ""), "{sh}");
        let (code, printed) = run_by(sh, "true | cat\necho $0 $# \"a  b\"").await;
        assert_eq!((code, &*printed), (0, "sh 0 a  b\n"), "{sh}");
    }
}

#[tokio::test]
async fn a_shell_without_pipefail_is_reported_in_the_log_of_a_script_with_a_pipe() {
    let mut try_it = std::process::Command::new("/bin/dash");
    let tried = try_it.args(["-c", "set -o pipefail"]).output().unwrap();
    let (code, printed) = run_by("/bin/dash", "(exit 3) | cat\necho went on").await;
    // Since dash 0.5.13.
    if tried.status.success() {
        assert_eq!((code, &*printed), (3, ""));
    } else {
        assert_eq!(code, 0, "{printed}");
        assert!(
            printed.starts_with("went on\ntrainyard: `sh` of this image has no `pipefail`"),
            "{printed}"
        );
    }
    let (code, printed) = run_by("/bin/dash", "exit 3 || true").await;
    assert_eq!((code, &*printed), (3, ""), "no pipe, no word of it");
}

#[tokio::test]
async fn a_script_that_begins_with_a_dash_is_no_option_of_the_shell() {
    for sh in ["/bin/bash", "/bin/busybox", "/bin/dash"] {
        let (code, printed) = run_by(sh, "-z").await;
        assert_eq!(code, 127, "{sh}: {printed}");
        assert!(printed.contains("-z:"), "{sh}: {printed}");
    }
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    let kit = Kit::new(Here::new());
    let executor = kit.subject.make().await;
    let spec = kit.spec_of(script("sleep 1000 &\necho $!"));
    let (handle, code) = kit.run(&executor, &spec).await;
    assert_eq!(code, 0);
    let pid = kit
        .printed(&executor, &handle)
        .await
        .stdout
        .trim()
        .to_owned();
    let running = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains("(sleep)") && !stat.contains(") Z ")
    };
    for _ in 0..1000 {
        if !running() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("process {pid} is still there");
}

#[tokio::test]
async fn nothing_of_the_daemon_s_environment_reaches_a_program() {
    let kit = Kit::new(Here::new());
    let executor = kit.subject.make().await;
    let command = RenderedCommand::Exec(vec!["env".to_owned()]);
    let (handle, _) = kit.run(&executor, &kit.spec_of(command)).await;
    let printed = kit.printed(&executor, &handle).await.stdout;
    let mut names: Vec<&str> = printed
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    names.sort_unstable();
    // The wrapper's shell sets the working directory.
    names.retain(|name| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_"));
    assert_eq!(names, ["INPUTS", "OUTPUTS", "PATH"]);
}

#[tokio::test]
async fn the_source_tree_is_the_working_directory_and_inputs_are_read_only() {
    let kit = Kit::new(Here::new());
    let executor = kit.subject.make().await;
    let source = kit.place("source.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&source).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(9);
    header.set_mode(0o755);
    archive
        .append_data(&mut header, "bin/hello", &b"echo hi\n#"[..])
        .unwrap();
    archive.into_inner().unwrap();
    let mut spec = kit.spec_of(script("sh ./bin/hello\nstat -c %a \"$INPUTS/raw\""));
    spec.source = Some(source);
    kit.add_input(&mut spec, "raw", "1");
    let (handle, code) = kit.run(&executor, &spec).await;
    assert_eq!(code, 0);
    assert_eq!(kit.printed(&executor, &handle).await.stdout, "hi\n444\n");
    executor.remove(&handle).await.unwrap();
    assert_eq!(
        kit.subject.attempts(),
        Vec::<String>::new(),
        "nothing is left"
    );
}

#[tokio::test]
async fn a_link_that_leads_out_of_the_outputs_is_not_followed() {
    let kit = Kit::new(Here::new());
    let executor = kit.subject.make().await;
    let text = "ln -s /etc \"$OUTPUTS/out\"\nmkdir \"$OUTPUTS/dir\"\n\
                ln -s /etc/passwd \"$OUTPUTS/dir/users\"";
    let mut spec = kit.spec_of(script(text));
    spec.outputs = true;
    let (handle, _) = kit.run(&executor, &spec).await;
    for output in ["out", "out/passwd", "dir"] {
        let error = kit
            .collect(&executor, &handle, output, 1 << 20)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::OutputUnfit, "{output}: {error}");
    }
}

#[tokio::test]
async fn secrets_are_not_left_on_the_disk_once_the_program_runs() {
    let kit = Kit::new(Here::new());
    let executor = kit.subject.make().await;
    let mut spec = kit.spec(&Program::Hang);
    Kit::<Here>::add_secret(&mut spec, "TOKEN", "hush-hush");
    let handle = kit.start(&executor, &spec).await;
    let folder = kit
        .subject
        .0
        .path()
        .join("attempts")
        .join(&handle.container);
    assert!(!holds(&folder, "hush-hush"));
    executor.stop(&handle, Duration::ZERO).await.unwrap();
}

fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        path.is_file() && String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(text)
    })
}

#[tokio::test]
async fn a_stage_without_a_command_is_refused_in_words() {
    let kit = Kit::new(Here::new());
    let executor = kit.subject.make().await;
    let mut spec = kit.spec(&Program::Hang);
    spec.command = None;
    let error = executor.create(&spec).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Start);
    assert!(error.message.contains("`run:` or `command:`"), "{error}");
}
