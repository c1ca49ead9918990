//! The promises of the program, tested with a process of this machine: a kernel is all that it needs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use trainyard_init::{End, Nonce, OPEN, PROGRAM, REFUSED, Record, Unfit};

/// How long anything here may take on a busy machine.
const BOUND: Duration = Duration::from_secs(300);

/// A folder with the program, and the place of its latch.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(place.program(), PROGRAM).unwrap();
        fs::set_permissions(place.program(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(place.folder.path().join("run")).unwrap();
        place.lay_out_start(nonce().start_half());
        place
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("init")
    }

    fn latch(&self) -> PathBuf {
        self.folder.path().join("run/latch")
    }

    fn start(&self) -> PathBuf {
        self.folder.path().join("run/start")
    }

    fn lay_out_start(&self, content: &str) {
        fs::write(self.start(), content).unwrap();
    }

    fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.args([self.latch(), self.start()]);
        command.arg(nonce().as_str()).args(program);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, script: &str) -> Output {
        self.command(&["sh", "-c", script]).output().unwrap()
    }

    fn record(&self) -> Option<Record> {
        Record::parse(&fs::read(self.latch()).ok()?, Some(&nonce()))
    }
}

fn nonce() -> Nonce {
    Nonce::new(*b"only the daemon knows this nonce")
}

fn ended(code: i32) -> Record {
    Record::Ended(End {
        code,
        asked: false,
        out_of_memory: false,
    })
}

/// Waits until `holds`.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {BOUND:?}: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_second_start_runs_nothing_and_leaves_the_record_alone() {
    let place = Place::new();
    let first = place.run("echo ran; exit 3");
    assert_eq!(first.status.code(), Some(3));
    assert_eq!(first.stdout, b"ran\n");
    let second = place.run("echo ran; exit 3");
    assert_eq!(second.status.code(), Some(REFUSED));
    assert_eq!((second.stdout, second.stderr), (Vec::new(), Vec::new()));
    assert_eq!(place.record(), Some(ended(3)));
}

#[test]
fn a_start_is_the_first_one_only_with_the_file_that_was_laid_out_for_it() {
    let place = Place::new();
    // All that a program can do to be run again.
    let script = "rm -f run/latch; echo ran";
    let run = || {
        let mut command = place.command(&["sh", "-c", script]);
        command.current_dir(place.folder.path()).output().unwrap()
    };
    assert_eq!(run().stdout, b"ran\n");
    let nothing = |what: &str| {
        let output = run();
        assert_eq!(output.status.code(), Some(REFUSED), "{what}");
        assert_eq!((output.stdout, output.stderr), (vec![], vec![]), "{what}");
    };
    nothing("no file");
    for forged in ["", "0", &"0".repeat(32), &"0".repeat(64)] {
        place.lay_out_start(forged);
        nothing(forged);
    }
    fs::remove_file(place.start()).unwrap();
    fs::create_dir(place.start()).unwrap();
    nothing("a folder");
    fs::remove_dir(place.start()).unwrap();
    nix::unistd::mkfifo(&place.start(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    nothing("a pipe without a writer");
}

#[test]
fn a_latch_that_the_image_brought_along_is_none() {
    let place = Place::new();
    fs::write(place.latch(), "trainyard-init 2 begun").unwrap();
    assert_eq!(place.run("exit 3").status.code(), Some(3));
    assert_eq!(place.record(), Some(ended(3)));
}

#[test]
fn the_program_cannot_read_the_nonce() {
    let place = Place::new();
    let script = "tr '\\0' '\\n' </proc/$PPID/cmdline; env; cat run/latch; ls run";
    let mut command = place.command(&["sh", "-c", script]);
    let output = command.current_dir(place.folder.path()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let whole = nonce();
    assert!(printed.contains("trainyard-init 2 begun"), "{printed}");
    for half in whole.as_str().as_bytes().chunks(32) {
        let half = str::from_utf8(half).unwrap();
        assert!(!printed.contains(half), "{printed}");
    }
    assert!(printed.lines().all(|line| line != "start"), "{printed}");
}

#[test]
fn the_end_is_recorded_in_the_latch_and_on_standard_error() {
    let place = Place::new();
    let output = place.run("printf half >&2");
    let (marked, record) = Record::find(&output.stderr, Some(&nonce())).unwrap();
    assert_eq!(&output.stderr[..marked.start], b"half");
    assert_eq!(record, ended(0));
    assert_eq!(place.record(), Some(ended(0)));
}

#[test]
fn a_program_that_is_killed_with_its_init_leaves_no_end() {
    let place = Place::new();
    let mut child = place.command(&["sleep", "60"]).spawn().unwrap();
    until("it has begun", || place.record() == Some(Record::Begun));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(place.record(), Some(Record::Begun));
    let again = place.run("echo ran");
    assert_eq!((again.status.code(), again.stdout), (Some(REFUSED), vec![]));
}

#[test]
fn signals_reach_the_program_and_being_asked_to_end_is_recorded() {
    let place = Place::new();
    let script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let child = place.command(&["sh", "-c", script]).spawn().unwrap();
    until("it has begun", || place.record() == Some(Record::Begun));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    // As often as it takes: the shell may not have its trap yet, and then dies of the first.
    kill(pid, Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let Some(Record::Ended(end)) = place.record() else {
        panic!("{:?}", place.record());
    };
    assert!(end.asked);
    assert_eq!(output.status.code(), Some(end.code));
}

#[test]
fn a_death_by_a_signal_is_reported_as_shells_do() {
    let place = Place::new();
    let output = place.run("kill -SEGV $$");
    assert_eq!(output.status.code(), Some(139));
    assert_eq!(place.record(), Some(ended(139)));
}

#[test]
fn orphans_are_reaped_while_the_program_goes_on() {
    let place = Place::new();
    // The inner shell leaves a child behind; the outer waits until that is gone, not a zombie.
    let script = "sh -c 'true & echo $!' > orphan; read pid < orphan; \
                  while [ -e /proc/$pid ]; do sleep 0.02; done; echo reaped";
    let mut command = place.command(&["timeout", "20", "sh", "-c", script]);
    let output = command.current_dir(place.folder.path()).output().unwrap();
    assert_eq!(output.stdout, b"reaped\n");
}

#[test]
fn sockets_among_the_outputs_are_named_and_links_are_not_followed() {
    use std::os::unix::net::UnixListener;

    let place = Place::new();
    let outputs = place.folder.path().join("outputs");
    fs::create_dir_all(outputs.join("cache/inner")).unwrap();
    fs::create_dir(place.folder.path().join("elsewhere")).unwrap();
    for path in ["outputs/s", "outputs/cache/inner/app.sock", "elsewhere/t"] {
        UnixListener::bind(place.folder.path().join(path)).unwrap();
    }
    std::os::unix::fs::symlink("../elsewhere", outputs.join("link")).unwrap();
    for number in 0..500 {
        fs::write(
            outputs.join(format!("a-file-with-a-longer-name-{number}")),
            "",
        )
        .unwrap();
    }
    let mut command = place.command(&["true"]);
    let output = command.env("OUTPUTS", &outputs).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let (marked, record) = Record::find(&output.stderr, Some(&nonce())).unwrap();
    assert_eq!(record, ended(0));
    let said = str::from_utf8(&output.stderr[..marked.start]).unwrap();
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    let kept = "is a socket and is not kept: outputs hold files, folders and links among them";
    assert_eq!(
        lines,
        [
            format!("trainyard: `$OUTPUTS/cache/inner/app.sock` {kept}"),
            format!("trainyard: `$OUTPUTS/s` {kept}"),
        ]
    );
}

#[test]
fn a_program_is_searched_in_the_path_and_named_where_it_is_missing() {
    let place = Place::new();
    let output = place.command(&["no-such-program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("`no-such-program`: the image has no such program"),
        "{said}"
    );
    assert_eq!(place.record(), Some(Record::Unrun(Unfit::Missing)));

    let place = Place::new();
    let mut command = place.command(&["true"]);
    let output = command.env("PATH", "/nowhere::/bin").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_file_that_the_kernel_does_not_execute_is_reported_with_the_cause() {
    let elf_of_no_machine = b"\x7fELF\x02\x01\x01".as_slice();
    for (content, mode, code, words, why) in [
        (
            &b"not a program"[..],
            0o755,
            126,
            "exec format error: it is neither",
            Unfit::Format,
        ),
        (
            elf_of_no_machine,
            0o755,
            126,
            "another architecture",
            Unfit::Format,
        ),
        (
            b"#!/bin/sh\ntrue",
            0o644,
            126,
            "`chmod +x`",
            Unfit::Permission,
        ),
        (
            b"#! /usr/bin/python9 -u\n",
            0o755,
            127,
            "interpreter `/usr/bin/python9` is not in the image",
            Unfit::WithoutInterpreter,
        ),
        (
            b"#!/bin/sh\r\ntrue\r\n",
            0o755,
            127,
            "(CRLF)",
            Unfit::CarriageReturn,
        ),
    ] {
        let place = Place::new();
        let file = place.folder.path().join("train");
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let output = place.command(&[file.to_str().unwrap()]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{words}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(words), "{said}");
        assert_eq!(place.record(), Some(Record::Unrun(why)), "{words}");
        // In the search of the path as well.
        let place = Place::new();
        let mut command = place.command(&["train"]);
        let output = command
            .env("PATH", file.parent().unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(words), "{said}");
    }
}

/// The program's output, without the marks of open lines.
fn without_marks(printed: &[u8]) -> Vec<u8> {
    let mut whole = printed.to_vec();
    while let Some(at) = whole.windows(OPEN.len()).position(|bytes| bytes == OPEN) {
        whole.drain(at..at + OPEN.len());
    }
    whole
}

#[test]
fn a_line_that_stays_open_is_marked_and_goes_on_behind_the_mark() {
    let place = Place::new();
    let mut command = place.command(&["sh", "-c", "printf '10%%\\r'; read go; echo 'done'"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut printed = child.stdout.take().unwrap();
    let open = [b"10%\r", OPEN].concat();
    let mut first = vec![0; open.len()];
    printed.read_exact(&mut first).unwrap();
    assert_eq!(first, open);
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut rest = Vec::new();
    printed.read_to_end(&mut rest).unwrap();
    child.wait().unwrap();
    assert_eq!(rest, b"done\n");
}

#[test]
fn a_character_is_not_cut_in_two_by_a_mark() {
    let place = Place::new();
    let output = place.run("printf '\\303'; sleep 0.7; printf '\\274\\n'");
    assert_eq!(output.stdout, "ü\n".as_bytes());
}

#[test]
fn all_that_is_printed_is_passed_on_up_to_the_end() {
    let place = Place::new();
    let output = place.run("seq 1 200000; seq 1 200000 | tr '\\n' ' ' >&2; printf last");
    let numbers: Vec<String> = (1..=200_000).map(|number| number.to_string()).collect();
    let expected = numbers.join("\n") + "\nlast";
    assert!(without_marks(&output.stdout) == expected.as_bytes());
    let (record, _) = Record::find(&output.stderr, Some(&nonce())).unwrap();
    let expected = numbers.join(" ") + " ";
    assert!(without_marks(&output.stderr[..record.start]) == expected.as_bytes());
}

#[test]
fn signals_are_passed_on_while_no_reader_takes_what_is_printed() {
    let place = Place::new();
    let script = "trap 'echo > run/asked; exit 7' TERM; head -c 300000 /dev/zero & echo > run/ready; \
                  while :; do sleep 0.05; done";
    let mut command = place.command(&["sh", "-c", script]);
    let child = command.current_dir(place.folder.path()).spawn().unwrap();
    let is_there = |name: &str| place.folder.path().join("run").join(name).exists();
    until("it has its trap", || is_there("ready"));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    until("the signal came", || is_there("asked"));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn without_a_place_for_the_latch_nothing_is_run_and_it_says_why() {
    let place = Place::new();
    let mut command = Command::new(place.program());
    command.arg("/proc/none/latch").arg(place.start());
    command.args([nonce().as_str(), "echo", "ran"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(REFUSED));
    assert!(output.stdout.is_empty());
    let (_, record) = Record::find(&output.stderr, Some(&nonce())).unwrap();
    let enoent = 2;
    assert_eq!(record, Record::Never { errno: enoent });
}

#[test]
fn the_program_is_small_and_needs_no_library() {
    // An ELF file with a program interpreter would need one in the image.
    let place = Place::new();
    let headers = Command::new("readelf")
        .arg("-l")
        .arg(place.program())
        .output()
        .unwrap();
    let headers = String::from_utf8_lossy(&headers.stdout).into_owned();
    assert!(
        headers.contains("LOAD") && !headers.contains("INTERP"),
        "{headers}"
    );
    assert!(PROGRAM.len() < 64 * 1024, "{}", PROGRAM.len());
}
