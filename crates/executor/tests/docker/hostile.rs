//! A hostile program tries to forge its own end: with its output, with files next to the record, and with the process
//! that started it. Class 15: it runs under an init whose records it cannot forge.

use std::time::{Duration, Instant};

use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, DownloadFromContainerOptionsBuilder,
    KillContainerOptionsBuilder, RemoveImageOptionsBuilder, RestartContainerOptionsBuilder,
};
use futures_util::TryStreamExt;
use trainyard_executor::conformance::{Candidate, Kit, check};
use trainyard_executor::docker::Docker;
use trainyard_executor::{Attempts, Containers, ErrorKind, Exit, Handle, Proof};

use crate::init::{proof, seen};
use crate::place::{RealDocker, client, script};

/// The most time that proving an end may take.
const SOON: Duration = Duration::from_secs(10);

/// Lines that look like records, for `printf`: of both versions, with all the nonces that a program can guess.
const FORGED: &str = r#"
forge() {
    printf '\036%-79s\n' 'trainyard-init 1 ended code=000 signal=00 asked=0 oom=0 errno=000'
    for nonce in '' ' nonce=' ' nonce=00000000000000000000000000000000' "$@"; do
        printf '\036%-111s\n' "trainyard-init 2 ended code=000 signal=00 asked=0 oom=0 errno=000$nonce"
    done
    printf '\036%-79s\n' 'trainyard-init 1 ended code=0 signal=0 asked=0 oom=0 errno=0 curl evil|sh'
}
"#;

fn ended(code: i32) -> Proof {
    Proof::Ended {
        exit: Exit {
            code,
            out_of_memory: false,
        },
        asked: false,
    }
}

async fn kill(handle: &Handle) {
    let options = KillContainerOptionsBuilder::default()
        .signal("KILL")
        .build();
    client()
        .kill_container(&handle.container, Some(options))
        .await
        .unwrap();
}

/// Starts a script and waits for its first output.
async fn started(kit: &Kit<RealDocker>, executor: &Docker, text: &str) -> Handle {
    let handle = kit.start(executor, &kit.spec_of(script(text))).await;
    kit.first_frame(executor, &handle).await;
    handle
}

#[tokio::test]
async fn class_15_a_printed_record_forges_no_end_and_hides_nothing() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = format!("{FORGED}\nforge >&2; forge; printf 'no newline' >&2; exit 3");
        let handle = kit.start(&executor, &kit.spec_of(script(&text))).await;
        assert_eq!(proof(&kit, &executor, &handle).await, ended(3));
        let printed = kit.printed(&executor, &handle).await;
        for said in [&printed.stdout, &printed.stderr] {
            assert_eq!(said.matches("ended code=000").count(), 4, "{said}");
            assert!(said.contains("curl evil|sh"), "{said}");
        }
        assert!(printed.stderr.ends_with("no newline"), "{printed:?}");
        kit
    })
    .await;
}

#[tokio::test]
async fn class_15_a_program_that_is_killed_has_not_ended_as_it_said_before() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = format!(
            "{FORGED}\ncd /trainyard/run; rm latch; forge | tr -d '\\036' >latch\n\
             forge | tail -n 3 | sed -n 1p | tr -d '\\036' >start\nforge >&2; sleep 600"
        );
        let handle = started(&kit, &executor, &text).await;
        kill(&handle).await;
        assert_eq!(proof(&kit, &executor, &handle).await, Proof::Unproved);
        // Nor for a daemon that only knows the content of the container.
        let other = kit.subject.make().await;
        let seen = seen(&kit, &other, &handle).await;
        assert_eq!(other.prove(&handle, &seen).await, Ok(Proof::Unproved));
        kit
    })
    .await;
}

#[tokio::test]
async fn class_15_what_is_in_place_of_the_latch_keeps_no_attempt_from_ending() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let begun = "trainyard-init 2 begun code=000 signal=00 asked=0 oom=0 errno=000";
        let kinds = [
            (
                "large",
                "dd if=/dev/zero of=latch bs=1M count=3 2>/dev/null",
            ),
            ("sparse", "truncate -s 1099511627776 latch"),
            ("folder", "mkdir latch; touch latch/a latch/b"),
            ("link", "ln -s /etc/passwd latch"),
            ("circle", "ln -s latch latch"),
            ("circle of its folder", "cd ..; rm -rf run; ln -s run run"),
            (
                "file in place of its folder",
                "cd ..; rm -rf run; echo x >run",
            ),
            ("pipe", "mkfifo latch"),
            ("nothing", "true"),
            ("no rights", "echo x >latch; chmod 0 latch; chmod 0 ."),
            ("empty", "touch latch"),
            ("garbage", "head -c 500 /dev/urandom >latch"),
            (
                "another nonce",
                "echo \"$ENDED nonce=11111111111111111111111111111111\" >latch",
            ),
            ("no nonce", "echo \"$ENDED\" >latch"),
        ];
        for (kind, makes) in kinds {
            let text = format!(
                "ENDED='{}'\ncd /trainyard/run; rm latch; {makes}; echo up; sleep 600",
                begun.replace("begun", "ended")
            );
            let handle = started(&kit, &executor, &text).await;
            kill(&handle).await;
            let since = Instant::now();
            let proved = proof(&kit, &executor, &handle).await;
            assert_eq!(proved, Proof::Unproved, "{kind}");
            assert!(since.elapsed() < SOON, "{kind}: {:?}", since.elapsed());
            executor.remove(&handle).await.unwrap();
            // If it ends by itself, the init reports how, whatever is at that path.
            for code in [0, 1] {
                let text = text.replace("sleep 600", &format!("exit {code}"));
                let handle = kit.start(&executor, &kit.spec_of(script(&text))).await;
                let proved = proof(&kit, &executor, &handle).await;
                assert_eq!(proved, ended(code), "{kind}");
                executor.remove(&handle).await.unwrap();
            }
        }
        kit
    })
    .await;
}

#[tokio::test]
async fn class_15_a_program_that_removes_the_latch_runs_once_all_the_same() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "cd /trainyard/run; rm -f latch start; echo ran; \
                    head -c 32 /dev/zero | tr '\\0' 0 >start; sleep 600";
        let handle = started(&kit, &executor, text).await;
        kill(&handle).await;
        seen(&kit, &executor, &handle).await;
        for _ in 0..2 {
            let options = RestartContainerOptionsBuilder::default().t(1).build();
            client()
                .restart_container(&handle.container, Some(options))
                .await
                .unwrap();
            let seen = seen(&kit, &executor, &handle).await;
            assert_eq!(seen.code, 125, "the start was refused");
            // It did run, so it must not count as never run.
            assert_eq!(executor.prove(&handle, &seen).await, Ok(Proof::Unproved));
        }
        assert_eq!(kit.printed(&executor, &handle).await.stdout, "ran\n");
        kit
    })
    .await;
}

#[tokio::test]
async fn class_15_the_first_process_cannot_be_looked_into() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "for file in mem environ maps auxv syscall; do\n\
                        (: </proc/1/$file) 2>/dev/null && cat /proc/1/$file >/dev/null 2>&1 \
                            && echo \"open: $file\"\n\
                    done\n\
                    for link in fd/0 fd/3 cwd root exe; do\n\
                        ! readlink /proc/1/$link 2>/dev/null && ! (: <>/proc/1/$link) 2>/dev/null \
                            || echo \"open: $link\"\n\
                    done\n\
                    (: </proc/$$/mem) && echo 'its own memory'\n\
                    tr '\\0' '\\n' </proc/1/cmdline; ls /trainyard/run";
        let handle = kit.start(&executor, &kit.spec_of(script(text))).await;
        assert_eq!(proof(&kit, &executor, &handle).await, ended(0));
        let printed = kit.printed(&executor, &handle).await.stdout;
        let mut lines = printed.lines();
        assert_eq!(lines.next(), Some("its own memory"), "{printed}");
        let hidden = "-".repeat(64);
        assert!(lines.any(|line| line == hidden), "the nonce: {printed}");
        assert_eq!(lines.last(), Some("latch"), "{printed}");
        kit
    })
    .await;
}

#[tokio::test]
async fn class_15_a_program_that_signals_its_init_was_not_asked_to_stop() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "trap : TERM INT QUIT; kill -TERM 1; kill -INT 1; kill -QUIT 1; kill -KILL 1; \
                    kill -STOP 1; sleep 1; exit 4";
        let handle = kit.start(&executor, &kit.spec_of(script(text))).await;
        assert_eq!(proof(&kit, &executor, &handle).await, ended(4));
        kit
    })
    .await;
}

#[tokio::test]
async fn a_record_that_the_engine_cuts_in_two_is_not_part_of_the_log() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        // Docker gives at most 16 KiB of a line at once.
        for length in [16 * 1024 - 100, 16 * 1024 - 60, 16 * 1024 - 1, 16 * 1024] {
            let text = format!("head -c {length} /dev/zero | tr '\\0' x >&2; exit 3");
            let handle = kit.start(&executor, &kit.spec_of(script(&text))).await;
            assert_eq!(proof(&kit, &executor, &handle).await, ended(3));
            let printed = kit.printed(&executor, &handle).await;
            assert!(
                printed.stderr == "x".repeat(length),
                "behind {length}: {}",
                &printed.stderr[length.min(printed.stderr.len())..]
            );
        }
        kit
    })
    .await;
}

#[tokio::test]
async fn class_15_what_changed_its_user_is_gone_before_the_record_is_written() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        // If it could read the record, it would find the nonce and print a record of its own after the true one.
        let waits = "trap \"\" TERM HUP; echo up; until grep -q \" ended \" /trainyard/run/latch; do :; done; cat /trainyard/run/latch";
        let text = format!(
            "su user -s /bin/sh -c 'setsid sh -c '\\''{waits}'\\'' >seen' &\n\
             until grep -q up seen; do :; done; exit 3"
        );
        let handle = kit.start(&executor, &kit.spec_of(script(&format!("umask 0; {text}")))).await;
        assert_eq!(proof(&kit, &executor, &handle).await, ended(3));
        let options = DownloadFromContainerOptionsBuilder::default().path("/workspace/seen").build();
        let archive = client().download_from_container(&handle.container, Some(options));
        let pieces: Vec<_> = archive.try_collect().await.unwrap();
        let archive = pieces.concat();
        let text = String::from_utf8_lossy(&archive);
        assert!(text.contains("up") && !text.contains("nonce="), "{text}");
        kit
    })
    .await;
}

#[tokio::test]
async fn class_15_an_image_that_brings_the_init_s_files_along_changes_nothing() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let record = "trainyard-init 2 ended code=000 signal=00 asked=0 oom=0 errno=000 \
                      nonce=00000000000000000000000000000000";
        let files = "RUN mkdir -p /trainyard/run /trainyard/init && touch /trainyard/init/init \
                     && chmod 755 /trainyard/init/init && touch /trainyard/run/start";
        for (dockerfile, what) in [
            (
                format!("{files}\nRUN echo '{record}' >/trainyard/run/latch\n"),
                "files",
            ),
            (format!("{files}\nVOLUME /trainyard\n"), "a volume"),
            (
                format!("{files}\nVOLUME /trainyard/run\nUSER user\n"),
                "a volume, no root",
            ),
            (
                "LABEL io.trainyard.init=1 io.trainyard.nonce=none\n".to_owned(),
                "labels",
            ),
            (
                "RUN mkdir /trainyard && ln -s /tmp /trainyard/run\n".to_owned(),
                "a link",
            ),
        ] {
            let dockerfile = format!("FROM trainyard-test/busybox:1\n{dockerfile}");
            let image = crate::building::build(&executor, &[("Dockerfile", &dockerfile)])
                .await
                .unwrap();
            let mut spec = kit.spec_of(script("echo ran; exit 3"));
            spec.image = image.id.clone();
            let handle = kit.start(&executor, &spec).await;
            assert_eq!(proof(&kit, &executor, &handle).await, ended(3), "{what}");
            assert_eq!(
                kit.printed(&executor, &handle).await.stdout,
                "ran\n",
                "{what}"
            );
            client()
                .start_container(&handle.container, None)
                .await
                .unwrap();
            assert_eq!(seen(&kit, &executor, &handle).await.code, 125, "{what}");
            executor.remove(&handle).await.unwrap();
            crate::building::remove(&image).await;
        }
        kit
    })
    .await;
}

#[tokio::test]
async fn class_17_an_image_that_stands_in_its_own_container_s_way_is_refused_and_not_tried_again() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        for (dockerfile, names) in [
            ("RUN touch /trainyard", "not a directory"),
            ("RUN ln -s /workspace /workspace", "too many links"),
            ("VOLUME /trainyard/init/init", "/trainyard/init/init"),
            ("VOLUME /proc", "/proc"),
            ("USER nosuch", "nosuch"),
        ] {
            let text = format!("FROM trainyard-test/busybox:1\n{dockerfile}\n");
            let image = crate::building::build(&executor, &[("Dockerfile", &text)])
                .await
                .unwrap();
            let mut spec = kit.spec_of(script("true"));
            spec.image = image.id.clone();
            let error = match executor.create(&spec).await {
                Ok(handle) => {
                    let error = executor.start(&handle).await.unwrap_err();
                    executor.remove(&handle).await.unwrap();
                    error
                }
                Err(error) => error,
            };
            assert_eq!(error.kind, ErrorKind::Start, "{dockerfile}: {error}");
            assert!(error.message.contains(names), "{dockerfile}: {error}");
            crate::building::remove(&image).await;
        }
        kit
    })
    .await;
}

#[tokio::test]
async fn class_12_outputs_that_cannot_be_kept_are_refused_at_once_and_by_name() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let mut spec = kit.spec_of(script(
            "cd \"$OUTPUTS\"; mkfifo pipe; ln -s loop loop; ln -s /etc/passwd link; ln -s gone dangles\n\
             mkdir in; ln -s ../../inputs/raw in/link\n\
             mkdir up; ln -s .. up/out; mkdir pipes; mkfifo pipes/p; truncate -s 1099511627776 sparse\n\
             mkdir -p chain/x/a; ln -s ../.. chain/x/a/y; ln -s x/a/y/../evil chain/z\n\
             mkdir s; truncate -s 1099511627776 s/sparse\n\
             mkdir deep; cd deep; n=$(head -c 200 /dev/zero | tr '\\0' d)\n\
             for level in $(seq 30); do mkdir $n; cd -P $n; done; echo lost >file",
        ));
        spec.outputs = true;
        let (handle, code) = kit.run(&executor, &spec).await;
        assert_eq!(code, 0);
        for (output, kind, says) in [
            (
                "pipe",
                ErrorKind::OutputUnfit,
                "it is a named pipe",
            ),
            ("loop", ErrorKind::OutputUnfit, "in a circle"),
            (
                "loop/x",
                ErrorKind::OutputUnfit,
                "it is reached by links in a circle",
            ),
            (
                "link",
                ErrorKind::OutputUnfit,
                "it is a symbolic link to `/etc/passwd`, which is outside of $OUTPUTS",
            ),
            (
                "in/link",
                ErrorKind::OutputUnfit,
                "it is a symbolic link to `../../inputs/raw`, which is outside of $OUTPUTS",
            ),
            (
                "dangles",
                ErrorKind::OutputUnfit,
                "it is a symbolic link to `gone` in $OUTPUTS, which does not exist",
            ),
            (
                "up",
                ErrorKind::OutputUnfit,
                "`out` in it is a symbolic link that leads out",
            ),
            (
                "pipes",
                ErrorKind::OutputUnfit,
                "`p` in it is a named pipe",
            ),
            (
                "chain",
                ErrorKind::OutputUnfit,
                "`z` in it is a symbolic link with `..`",
            ),
            (
                "deep",
                ErrorKind::OutputUnfit,
                "has a path of more than 3072 bytes",
            ),
            ("sparse", ErrorKind::TooLarge, "larger than"),
            ("s", ErrorKind::TooLarge, "larger than"),
        ] {
            let since = Instant::now();
            let refused = kit.collect(&executor, &handle, output, 1 << 30).await;
            let error = refused.expect_err(output);
            assert_eq!(error.kind, kind, "{output}: {error}");
            assert!(error.message.contains(says), "{output}: {error}");
            assert!(since.elapsed() < SOON, "{output}: {:?}", since.elapsed());
        }
        kit
    })
    .await;
}

#[tokio::test]
async fn variables_and_scripts_that_the_kernel_does_not_pass_are_refused_in_words() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let mut spec = kit.spec_of(script("true"));
        Kit::<RealDocker>::add_secret(&mut spec, "KEY", &"k".repeat(200_000));
        let error = executor.create(&spec).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Start);
        assert!(
            error.message.contains("its variable `KEY` is too long"),
            "{error}"
        );
        // The image's part is known only when it is started.
        let (base, _) = kit.run(&executor, &kit.spec_of(script("true"))).await;
        let options = CommitContainerOptionsBuilder::default()
            .container(&base.container)
            .build();
        let config = ContainerConfig {
            env: Some(vec![format!("V={}", "v".repeat(200_000))]),
            ..ContainerConfig::default()
        };
        let image = client().commit_container(options, config).await.unwrap();
        let mut spec = kit.spec_of(script("echo ran"));
        spec.image = image.id.clone();
        let handle = kit.start(&executor, &spec).await;
        let Proof::NeverRan(why) = proof(&kit, &executor, &handle).await else {
            panic!("it did run");
        };
        assert!(why.contains("the variables of its image"), "{why}");
        executor.remove(&handle).await.unwrap();
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        client()
            .remove_image(&image.id, Some(options), None)
            .await
            .unwrap();
        kit
    })
    .await;
}
