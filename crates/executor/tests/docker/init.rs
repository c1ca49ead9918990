//! The init: a container that is started twice runs its program once, and an end counts by its record.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptionsBuilder, InspectContainerOptions,
    KillContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use futures_util::TryStreamExt;
use trainyard_core::render::RenderedCommand;
use trainyard_core::stage::PullPolicy;
use trainyard_executor::conformance::{Candidate, Kit, check};
use trainyard_executor::docker::Docker;
use trainyard_executor::{Attempts, Containers, Exit, Handle, Proof, Status};
use uuid::Uuid;

use crate::place::{IMAGE, RealDocker, client, script};

/// Waits for the end, reads the log, and then returns the proof: the order of a supervisor.
pub(crate) async fn proof(kit: &Kit<RealDocker>, executor: &Docker, handle: &Handle) -> Proof {
    let seen = seen(kit, executor, handle).await;
    kit.printed(executor, handle).await;
    executor.prove(handle, &seen).await.unwrap()
}

/// Docker's report of an end.
pub(crate) async fn seen(kit: &Kit<RealDocker>, executor: &Docker, handle: &Handle) -> Exit {
    match kit.end(executor, handle).await {
        Status::Exited {
            code,
            out_of_memory,
            ..
        } => Exit {
            code,
            out_of_memory,
        },
        other => panic!("it has not ended: {other:?}"),
    }
}

const fn ended(code: i32) -> Proof {
    Proof::Ended {
        exit: Exit {
            code,
            out_of_memory: false,
        },
        asked: false,
    }
}

#[tokio::test]
async fn a_container_that_is_started_again_runs_nothing_and_its_record_stands() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let spec = kit.spec_of(script("echo ran; exit 3"));
        let (handle, code) = kit.run(&executor, &spec).await;
        assert_eq!(code, 3);
        // A daemon that was paused before its call, or any person, may do this.
        client()
            .start_container(&handle.container, None)
            .await
            .unwrap();
        let seen = seen(&kit, &executor, &handle).await;
        assert_eq!(seen.code, 125, "Docker has forgotten the 3");
        assert_eq!(kit.printed(&executor, &handle).await.stdout, "ran\n");
        assert_eq!(executor.prove(&handle, &seen).await, Ok(ended(3)));
        // A daemon that has not read the log finds the record in the container.
        let other = kit.subject.make().await;
        assert_eq!(other.prove(&handle, &seen).await, Ok(ended(3)));
        kit
    })
    .await;
}

#[tokio::test]
async fn the_record_is_not_part_of_the_log() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let spec = kit.spec_of(script("echo out; printf 'half a line' >&2"));
        let (handle, _) = kit.run(&executor, &spec).await;
        let printed = kit.printed(&executor, &handle).await;
        assert_eq!(printed.stdout, "out\n");
        assert_eq!(printed.stderr, "half a line");
        kit
    })
    .await;
}

#[tokio::test]
async fn an_end_without_a_record_is_not_believed() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let spec = kit.spec_of(script("rm /trainyard/run/latch"));
        let (handle, code) = kit.run(&executor, &spec).await;
        assert_eq!(code, 0);
        let other = kit.subject.make().await;
        let seen = seen(&kit, &other, &handle).await;
        assert_eq!(other.prove(&handle, &seen).await, Ok(Proof::Unproved));
        kit
    })
    .await;
}

#[tokio::test]
async fn a_kill_from_outside_is_distinguished_from_the_program_s_own() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let spec = kit.spec_of(script("echo up; sleep 600"));
        let handle = kit.start(&executor, &spec).await;
        kit.first_frame(&executor, &handle).await;
        let options = KillContainerOptionsBuilder::default()
            .signal("KILL")
            .build();
        client()
            .kill_container(&handle.container, Some(options))
            .await
            .unwrap();
        assert_eq!(proof(&kit, &executor, &handle).await, Proof::Killed);
        kit
    })
    .await;
}

#[tokio::test]
async fn a_program_that_was_asked_to_stop_is_known_to_have_been_asked() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "trap 'exit 0' TERM; echo up; while true; do sleep 0.05; done";
        let handle = kit.start(&executor, &kit.spec_of(script(text))).await;
        kit.first_frame(&executor, &handle).await;
        executor
            .stop(&handle, Duration::from_secs(10))
            .await
            .unwrap();
        let expected = Proof::Ended {
            exit: Exit {
                code: 0,
                out_of_memory: false,
            },
            asked: true,
        };
        assert_eq!(proof(&kit, &executor, &handle).await, expected);
        kit
    })
    .await;
}

#[tokio::test]
async fn every_process_is_asked_to_stop_and_has_the_grace_whatever_stands_before_it() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        // A daemon in a session of its own, a stopped program, and one that the stage's shell waits for.
        let text = "\
            setsid sh -c 'trap \"sleep 1; echo daemon; exit 0\" TERM; touch d; while :; do sleep 0.05; done' &\n\
            sh -c 'trap \"echo stopped; exit 0\" TERM; touch s; kill -STOP $$; while :; do sleep 0.05; done' &\n\
            sh -c 'trap \"echo child; exit 7\" TERM; until [ -e d ] && [ -e s ]; do sleep 0.05; done; echo up; \
            while :; do sleep 0.05; done'\n\
            echo behind";
        let handle = kit.start(&executor, &kit.spec_of(script(text))).await;
        kit.first_frame(&executor, &handle).await;
        let grace = Duration::from_secs(60);
        executor.stop(&handle, grace).await.unwrap();
        let proved = proof(&kit, &executor, &handle).await;
        let Proof::Ended { exit, asked: true } = proved else {
            panic!("{proved:?}");
        };
        assert_eq!(exit.code, 143, "the shell has no trap");
        let printed = kit.printed(&executor, &handle).await.stdout;
        let said: BTreeSet<&str> = printed.lines().collect();
        assert_eq!(said, BTreeSet::from(["up", "child", "stopped", "daemon"]));
        kit
    })
    .await;
}

#[tokio::test]
async fn a_program_that_the_kernel_does_not_execute_is_known_as_such() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let files = [("crlf", "#!/bin/sh\r\ntrue\r\n"), ("other", "#!/no/such\n")];
        let source = crate::place::tree(&files);
        for (program, words) in [
            (
                "no-such",
                "no such program; it was searched for in PATH, `/opt/tool:$PATH`",
            ),
            ("./crlf", "carriage return"),
            ("./other", "its interpreter"),
        ] {
            let mut spec = kit.spec_of(RenderedCommand::Exec(vec![program.to_owned()]));
            spec.source = Some(source.clone());
            spec.env
                .insert("PATH".to_owned(), "/opt/tool:$PATH".to_owned());
            let handle = kit.start(&executor, &spec).await;
            let Proof::Unfit(why) = proof(&kit, &executor, &handle).await else {
                panic!("{program} did run");
            };
            let expected = format!("`{program}` was not run: ");
            assert!(why.starts_with(&expected) && why.contains(words), "{why}");
            let said = kit.printed(&executor, &handle).await.stderr;
            assert!(
                said.starts_with(&format!("trainyard: `{program}`: ")),
                "{said}"
            );
            executor.remove(&handle).await.unwrap();
        }
        kit
    })
    .await;
}

#[tokio::test]
async fn a_container_of_a_daemon_without_an_init_counts_by_the_engine_s_word() {
    check(RealDocker::without_init().await, |kit| async move {
        let older = kit.subject.make().await;
        let (handle, _) = kit.run(&older, &kit.spec_of(script("exit 3"))).await;
        let mut config = crate::place::config();
        config.instance = kit.subject.instance();
        let newer = Docker::connect(config).await.unwrap();
        let seen = seen(&kit, &newer, &handle).await;
        assert_eq!(newer.prove(&handle, &seen).await, Ok(ended(3)));
        kit
    })
    .await;
}

#[tokio::test]
async fn an_image_with_nothing_but_a_program_runs_under_any_user() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let image = bare_image("1234:1234").await;
        let prepared = crate::images::prepare(&image, PullPolicy::Never)
            .await
            .unwrap();
        let mut spec = kit.spec_of(script(""));
        let command = ["/busybox", "id", "-u"].map(str::to_owned).to_vec();
        spec.command = Some(RenderedCommand::Exec(command));
        spec.image = prepared.id;
        let handle = kit.start(&executor, &spec).await;
        let proved = proof(&kit, &executor, &handle).await;
        let printed = kit.printed(&executor, &handle).await;
        assert_eq!((proved, printed.stdout.as_str()), (ended(0), "1234\n"));
        executor.remove(&handle).await.unwrap();
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        client()
            .remove_image(&image, Some(options), None)
            .await
            .unwrap();
        kit
    })
    .await;
}

#[tokio::test]
async fn the_volume_of_another_version_and_the_loader_that_a_crash_left_go_once_they_are_old() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let client = client();
        let labels = HashMap::from([("io.trainyard.init.volume".to_owned(), String::new())]);
        let name = format!("trainyard-init-{}", Uuid::now_v7().simple());
        let volume = VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(labels.clone()),
            ..VolumeCreateRequest::default()
        };
        client.create_volume(volume).await.unwrap();
        let loader = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            cmd: Some(vec!["true".to_owned()]),
            labels: Some(labels),
            host_config: Some(HostConfig {
                binds: Some(vec![format!("{name}:/init")]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let loader = client
            .create_container(None::<CreateContainerOptions>, loader)
            .await
            .unwrap();
        let inspect = || client.inspect_container(&loader.id, None::<InspectContainerOptions>);
        let made = inspect().await.unwrap().created.unwrap();
        let nothing = BTreeSet::new();
        let remove = |before| executor.remove_unused_build_images(before, &nothing);
        let young = made - Duration::from_mins(1);
        assert_eq!(remove(young).await, Ok(vec![]));
        client.inspect_volume(&name).await.expect("too young");
        inspect().await.expect("too young");
        assert_eq!(remove(made + Duration::from_secs(1)).await, Ok(vec![]));
        client.inspect_volume(&name).await.expect_err("it is old");
        inspect().await.expect_err("it is old");
        kit
    })
    .await;
}

#[tokio::test]
async fn the_volume_that_a_prune_removed_is_filled_again_for_the_container_that_needs_it() {
    // One that no other test needs, and, as it has no label, that no test removes as an old one.
    let name = format!("trainyard-test-init-{}", Uuid::now_v7().simple());
    let volume = VolumeCreateRequest {
        name: Some(name.clone()),
        ..VolumeCreateRequest::default()
    };
    client().create_volume(volume).await.unwrap();
    let remove = || async {
        let options = RemoveVolumeOptionsBuilder::default().build();
        client().remove_volume(&name, Some(options)).await
    };
    let containers = RealDocker::with_init_volume(&name).await;
    check(containers, |kit| async {
        let executor = kit.subject.make().await;
        // From now on it counts as filled.
        let (first, _) = kit.run(&executor, &kit.spec_of(script("true"))).await;
        executor.remove(&first).await.unwrap();
        // As `docker volume prune` does; for the next container Docker makes the volume again, empty.
        remove().await.unwrap();
        let second = kit.spec_of(script("exit 3"));
        let handle = executor.create(&second).await.unwrap();
        let error = executor.start(&handle).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert_eq!(executor.start(&handle).await, Ok(()));
        assert_eq!(proof(&kit, &executor, &handle).await, ended(3));
        executor.remove(&handle).await.unwrap();
        kit
    })
    .await;
    remove().await.unwrap();
}

#[tokio::test]
async fn daemons_that_fill_the_volume_of_an_engine_at_the_same_time_do_no_harm() {
    let name = format!("trainyard-test-init-{}", Uuid::now_v7().simple());
    let containers = RealDocker::with_init_volume(&name).await;
    check(containers, |kit| async {
        let mut daemons = Vec::new();
        for _ in 0..8 {
            daemons.push((kit.subject.make().await, kit.spec_of(script("true"))));
        }
        let made = daemons
            .iter()
            .map(|(executor, spec)| async { executor.create(spec).await });
        let made = futures_util::future::join_all(made).await;
        for ((executor, _), handle) in daemons.iter().zip(made) {
            executor.remove(&handle.unwrap()).await.unwrap();
        }
        kit
    })
    .await;
    let options = RemoveVolumeOptionsBuilder::default().build();
    client().remove_volume(&name, Some(options)).await.unwrap();
}

/// An image with one static program in it: no shell by name, no /tmp, no /etc.
async fn bare_image(user: &str) -> String {
    let name = format!("trainyard-test/bare-{}", Uuid::now_v7());
    let busybox = crate::place::busybox();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(busybox.len() as u64);
    header.set_mode(0o755);
    archive
        .append_data(&mut header, "busybox", busybox.as_slice())
        .unwrap();
    let options = CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo(&name)
        .tag("1")
        .changes(vec![format!("USER {user}")])
        .build();
    let body = bollard::body_full(archive.into_inner().unwrap().into());
    let made = client().create_image(Some(options), Some(body), None);
    made.try_collect::<Vec<_>>().await.unwrap();
    format!("{name}:1")
}
