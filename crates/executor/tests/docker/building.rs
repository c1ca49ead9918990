//! Images built from a source tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use trainyard_core::id::RepoId;
use trainyard_core::render::RenderedImage;
use trainyard_core::stage::RelativePath;
use trainyard_executor::conformance::{Candidate, Kit, check};
use trainyard_executor::docker::Docker;
use trainyard_executor::{
    Attempts, Containers, Error, ErrorKind, ImageRequest, Limits, PreparedImage,
};
use uuid::Uuid;

use crate::place::{RealDocker, client, script, tree};

/// Builds the root of a tree of files.
pub(crate) async fn build(
    executor: &Docker,
    files: &[(&str, &str)],
) -> Result<PreparedImage, Error> {
    build_and_print(executor, files, &BTreeMap::new(), &|_| {}).await
}

/// Removes a built image, whatever its tags.
pub(crate) async fn remove(image: &PreparedImage) {
    let options = bollard::query_parameters::RemoveImageOptionsBuilder::default().force(true);
    client()
        .remove_image(&image.id, Some(options.build()), None)
        .await
        .unwrap();
}

async fn build_and_print(
    executor: &Docker,
    files: &[(&str, &str)],
    args: &BTreeMap<String, String>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<PreparedImage, Error> {
    let request = request(files, args);
    executor.prepare(&request, progress).await
}

/// A request to build the root of a tree of files, for no repo in particular and without limits.
pub(crate) fn request(files: &[(&str, &str)], args: &BTreeMap<String, String>) -> ImageRequest {
    ImageRequest {
        image: RenderedImage::Build {
            context: RelativePath::new(".").unwrap(),
            dockerfile: RelativePath::new("Dockerfile").unwrap(),
            args: args.clone(),
            target: None,
        },
        source: Some(tree(files)),
        repo: None,
        branch: None,
        limits: Limits::default(),
    }
}

/// A Dockerfile that no other test has, so that nothing is cached.
fn dockerfile(rest: &str) -> String {
    format!(
        "FROM trainyard-test/busybox:1\nLABEL test={}\n{rest}",
        Uuid::now_v7()
    )
}

#[tokio::test]
async fn the_same_content_is_built_once() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let dockerfile =
            dockerfile("ARG GREETING=hi\nCOPY . /app/\nRUN echo $GREETING >/greeting\n");
        let files = [
            ("Dockerfile", &*dockerfile),
            (".dockerignore", "*.csv\n"),
            ("a.txt", "a"),
        ];
        let said = Mutex::new(Vec::new());
        let say = |line: String| said.lock().unwrap().push(line);
        let none = BTreeMap::new();
        let (first, second) = tokio::join!(
            build_and_print(&executor, &files, &none, &say),
            build_and_print(&executor, &files, &none, &say),
        );
        let first = first.unwrap();
        assert_eq!(first, second.unwrap());
        let builds = |said: &Mutex<Vec<String>>| {
            let said = said.lock().unwrap();
            said.iter()
                .filter(|line| line.contains("FROM trainyard-test"))
                .count()
        };
        assert_eq!(builds(&said), 1, "at the same time: {said:?}");
        let later = kit.subject.make().await;
        let noise = [&files[..], &[("big.csv", "1,2,3")]].concat();
        assert_eq!(
            build_and_print(&later, &noise, &none, &say).await.unwrap(),
            first
        );
        assert_eq!(
            builds(&said),
            1,
            "later, with another file that is ignored: {said:?}"
        );
        let args = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
        let other = build_and_print(&later, &files, &args, &say).await.unwrap();
        assert_ne!(other, first, "another argument is another image");
        let mut spec = kit.spec_of(script("ls -A /app\ncat /greeting"));
        spec.image = other.id.clone();
        let (handle, _) = kit.run(&later, &spec).await;
        let printed = kit.printed(&later, &handle).await.stdout;
        assert!(printed.contains("a.txt\n"), "{printed}");
        assert!(
            printed.ends_with("hello\n") && !printed.contains(".csv"),
            "{printed}"
        );
        executor.remove(&handle).await.unwrap();
        for image in [first, other] {
            remove(&image).await;
        }
        kit
    })
    .await;
}

#[tokio::test]
async fn a_failed_build_is_reported_in_a_line_and_leaves_no_container() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let before = all_containers().await;
        // The first step fails, so that Docker keeps nothing of it.
        let id = Uuid::now_v7();
        let dockerfile =
            format!("FROM trainyard-test/busybox:1\nRUN echo {id} about to fail && exit 7\n");
        let error = build(&executor, &[("Dockerfile", &dockerfile)])
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageBuild);
        assert!(error.message.contains("about to fail"), "{error}");
        assert!(error.message.contains('7'), "the exit code: {error}");
        assert_eq!(error.message.lines().count(), 1, "{error}");
        assert!(!error.is_transient());
        let left: Vec<String> = all_containers()
            .await
            .into_iter()
            .filter(|name| !before.contains(name))
            .collect();
        let ours = left
            .iter()
            .filter(|command| command.contains(&id.to_string()));
        assert_eq!(ours.count(), 0, "{left:?}");
        kit
    })
    .await;
}

async fn all_containers() -> Vec<String> {
    let options = bollard::query_parameters::ListContainersOptionsBuilder::default().all(true);
    let found = client()
        .list_containers(Some(options.build()))
        .await
        .unwrap();
    found
        .into_iter()
        .filter_map(|container| container.command)
        .collect()
}

#[tokio::test]
async fn a_build_whose_caller_stops_waiting_ends_and_has_printed_its_output_so_far() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let id = Uuid::now_v7().to_string();
        // The first step never ends, so that Docker keeps nothing of it.
        let dockerfile =
            format!("FROM trainyard-test/busybox:1\nRUN echo {id} $((6 * 7)) && yes\n");
        let printed = tokio::sync::Notify::new();
        let say = |line: String| {
            if line == format!("{id} 42") {
                printed.notify_one();
            }
        };
        let (files, none) = ([("Dockerfile", &*dockerfile)], BTreeMap::new());
        tokio::select! {
            built = build_and_print(&executor, &files, &none, &say) => panic!("{built:?}"),
            () = printed.notified() => {}
        }
        let ended = async {
            while all_containers()
                .await
                .iter()
                .any(|command| command.contains(&id))
            {
                tokio::task::yield_now().await;
            }
        };
        let patience = tokio::time::timeout(std::time::Duration::from_secs(300), ended);
        patience.await.expect("the container of the build is gone");
        kit
    })
    .await;
}

#[tokio::test]
async fn a_wrong_dockerfile_and_an_unknown_base_are_reported_in_words() {
    let containers = RealDocker::with_registries("public,localhost:1").await;
    check(containers, |kit| async move {
        let executor = kit.subject.make().await;
        let error = build(&executor, &[("Dockerfile", "FROMM x\n")])
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageBuild);
        assert!(error.message.contains("FROMM"), "{error}");
        let unknown = "FROM localhost:1/nowhere:1\n";
        let error = build(&executor, &[("Dockerfile", unknown)])
            .await
            .unwrap_err();
        assert!(error.message.contains("localhost:1"), "{error}");
        assert_eq!(
            error.kind,
            ErrorKind::ImagePull,
            "the registry may answer later: {error}"
        );
        let error = build(&executor, &[("a", "1")]).await.unwrap_err();
        assert!(error.message.contains("no `Dockerfile`"), "{error}");
        kit
    })
    .await;
}

#[tokio::test]
async fn built_images_are_listed_and_removed_unless_a_container_uses_them() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let first = dockerfile("");
        let used = build(&executor, &[("Dockerfile", &first)]).await.unwrap();
        let second = dockerfile("");
        let unused = build(&executor, &[("Dockerfile", &second)]).await.unwrap();
        let mut spec = kit.spec_of(script("true"));
        spec.image = used.id.clone();
        let (handle, _) = kit.run(&executor, &spec).await;
        let ids = |images: &[trainyard_executor::BuildImage]| -> Vec<String> {
            images.iter().map(|image| image.id.clone()).collect()
        };
        let listed = executor.build_images().await.unwrap();
        assert_eq!(listed.len(), 2, "{listed:?}");
        let oldest = listed[0].created;
        let nothing = BTreeSet::new();
        assert_eq!(
            executor.remove_unused_build_images(oldest, &nothing).await,
            Ok(vec![]),
            "too young"
        );
        let later = listed[1].created + std::time::Duration::from_secs(60);
        let wanted = BTreeSet::from([unused.id.clone()]);
        assert_eq!(
            executor.remove_unused_build_images(later, &wanted).await,
            Ok(vec![]),
            "one is wanted, one is used"
        );
        let removed = executor
            .remove_unused_build_images(later, &nothing)
            .await
            .unwrap();
        assert_eq!(ids(&removed), [unused.id]);
        executor.remove(&handle).await.unwrap();
        let removed = executor
            .remove_unused_build_images(later, &nothing)
            .await
            .unwrap();
        assert_eq!(ids(&removed), [used.id]);
        assert_eq!(executor.build_images().await, Ok(vec![]));
        kit
    })
    .await;
}

#[tokio::test]
async fn class_14_a_build_does_not_make_docker_ask_an_address_for_it() {
    check(RealDocker::new().await, |kit| async move {
        let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = service.local_addr().unwrap().port();
        service.set_nonblocking(true).unwrap();
        let executor = kit.subject.make().await;
        let trigger = dockerfile(&format!("ONBUILD RUN true\n# {port}\n"));
        let with_trigger = build(&executor, &[("Dockerfile", &trigger)]).await;
        // A base image with such a trigger is made without the executor.
        let evil = made_with_trigger(&format!("ADD http://127.0.0.1:{port}/x /y")).await;
        for dockerfile in [
            dockerfile(&format!("ADD http://127.0.0.1:{port}/x /y")),
            dockerfile(&format!("ARG U=http://127.0.0.1:{port}/x\nADD $U /y")),
            dockerfile(&format!("ONBUILD ADD http://127.0.0.1:{port}/x /y")),
            format!("FROM 127.0.0.1:{port}/x"),
            dockerfile(&format!("COPY --from=127.0.0.1:{port}/x /a /b")),
            format!("FROM {evil}"),
        ] {
            let error = build(&executor, &[("Dockerfile", &dockerfile)])
                .await
                .unwrap_err();
            assert!(!error.is_transient(), "{dockerfile}: {error}");
        }
        let asked = service.accept().unwrap_err();
        assert_eq!(asked.kind(), std::io::ErrorKind::WouldBlock);
        remove(&with_trigger.unwrap()).await;
        let options = bollard::query_parameters::RemoveImageOptionsBuilder::default().build();
        client()
            .remove_image(&evil, Some(options), None)
            .await
            .unwrap();
        kit
    })
    .await;
}

/// An image that another user made, with a trigger for builds that start from it.
async fn made_with_trigger(trigger: &str) -> String {
    let name = format!("trainyard-test/trigger:{}", Uuid::now_v7());
    let (repo, tag) = name.split_once(':').unwrap();
    let body = bollard::models::ContainerCreateBody {
        image: Some(crate::place::IMAGE.to_owned()),
        cmd: Some(vec!["true".to_owned()]),
        ..Default::default()
    };
    let none = None::<bollard::query_parameters::CreateContainerOptions>;
    let made = client().create_container(none, body).await.unwrap();
    let options = bollard::query_parameters::CommitContainerOptionsBuilder::default()
        .container(&made.id)
        .repo(repo)
        .tag(tag)
        .changes(&format!("ONBUILD {trigger}"))
        .build();
    let config = bollard::models::ContainerConfig::default();
    client().commit_container(options, config).await.unwrap();
    let options = bollard::query_parameters::RemoveContainerOptionsBuilder::default().build();
    client()
        .remove_container(&made.id, Some(options))
        .await
        .unwrap();
    name
}

#[tokio::test]
async fn class_17_a_build_starts_from_no_image_by_the_beginning_of_its_id() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let secret = build(&executor, &[("Dockerfile", &dockerfile("")), ("a", "1")])
            .await
            .unwrap();
        let hex = secret.id.strip_prefix("sha256:").unwrap();
        for name in [&hex[..4], &hex[..12], hex, &secret.id] {
            for text in [
                format!("FROM {name}"),
                dockerfile(&format!("COPY --from={name} / /x")),
            ] {
                let built = build(&executor, &[("Dockerfile", &text)]).await;
                // A short name may be a number, and there is no stage of that number.
                let error = built.unwrap_err();
                assert_eq!(error.kind, ErrorKind::ImageBuild, "{text}: {error}");
            }
        }
        remove(&secret).await;
        kit
    })
    .await;
}

#[tokio::test]
async fn class_17_equal_content_of_two_repos_is_two_images() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let dockerfile = dockerfile("");
        let files = [("Dockerfile", &*dockerfile)];
        let mut images = Vec::new();
        for _ in 0..2 {
            let mut request = request(&files, &BTreeMap::new());
            request.repo = Some(RepoId(Uuid::now_v7()));
            images.push(executor.prepare(&request, &|_| {}).await.unwrap());
        }
        assert_ne!(images[0].id, images[1].id);
        for image in &images {
            remove(image).await;
        }
        crate::networks::remove_all(&kit).await;
        kit
    })
    .await;
}

/// A step with another result each time it runs.
const RANDOM: &str = "RUN cat /proc/sys/kernel/random/uuid\n";

/// Builds for a branch of a repo, and returns the result of [`RANDOM`]; `None` where its step came from a cache.
async fn made_at_random(
    executor: &Docker,
    (repo, branch): (RepoId, &str),
    files: &[(&str, &str)],
) -> Result<(PreparedImage, Option<Uuid>), Error> {
    let mut wanted = request(files, &BTreeMap::new());
    wanted.repo = Some(repo);
    wanted.branch = Some(branch.to_owned());
    let said = Mutex::new(Vec::new());
    let say = |line: String| said.lock().unwrap().push(line);
    let image = executor.prepare(&wanted, &say).await?;
    let said = said.into_inner().unwrap();
    Ok((image, said.iter().find_map(|line| line.parse().ok())))
}

async fn remove_all(executor: &Docker, kit: &Kit<RealDocker>) {
    let built = executor.build_images().await.unwrap();
    let later = built.last().unwrap().created + std::time::Duration::from_secs(60);
    let nothing = BTreeSet::new();
    let removed = executor.remove_unused_build_images(later, &nothing).await;
    removed.unwrap();
    assert_eq!(executor.build_images().await, Ok(vec![]));
    crate::networks::remove_all(kit).await;
}

#[tokio::test]
async fn class_17_steps_belong_to_a_branch_of_a_repo() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let [one, other] = [Uuid::now_v7(), Uuid::now_v7()].map(RepoId);
        let text = dockerfile(&format!("{RANDOM}COPY a /a\n"));
        let mut made = BTreeSet::new();
        for of in [(one, "main"), (other, "main"), (one, "fix")] {
            for (content, is_first) in [("1", true), ("2", false)] {
                let files = [("Dockerfile", &*text), ("a", content)];
                let (_, random) = made_at_random(&executor, of, &files).await.unwrap();
                assert_eq!(random.is_some(), is_first, "{of:?}: {content}");
                made.extend(random);
            }
        }
        assert_eq!(made.len(), 3, "{made:?}");
        remove_all(&executor, &kit).await;
        kit
    })
    .await;
}

#[tokio::test]
async fn class_17_steps_that_are_built_by_hand_belong_to_a_checkout() {
    let text = dockerfile(&format!("{RANDOM}COPY a /a\n"));
    let (one, other) = (
        format!("/one/{}", Uuid::now_v7()),
        format!("/other/{}", Uuid::now_v7()),
    );
    let mut built = Vec::new();
    for (checkout, content, is_first) in
        [(&one, "1", true), (&other, "1", true), (&one, "2", false)]
    {
        // Each run by hand is an installation of its own.
        let containers = RealDocker::of_checkout(checkout).await;
        let kit = Kit::new(containers);
        let executor = kit.subject.make().await;
        let files = [("Dockerfile", &*text), ("a", content)];
        let said = Mutex::new(Vec::new());
        let say = |line: String| said.lock().unwrap().push(line);
        built.push(
            build_and_print(&executor, &files, &BTreeMap::new(), &say)
                .await
                .unwrap(),
        );
        let said = said.into_inner().unwrap();
        let is_random = |line: &String| line.parse::<Uuid>().is_ok();
        assert_eq!(said.iter().any(is_random), is_first, "{checkout}: {said:?}");
    }
    for image in &built {
        remove(image).await;
    }
}

#[tokio::test]
async fn class_17_a_label_makes_no_steps_those_of_another_repo() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let [one, other] = [Uuid::now_v7(), Uuid::now_v7()].map(RepoId);
        let first = dockerfile("");
        let files = [("Dockerfile", &*first)];
        let (image, _) = made_at_random(&executor, (one, "main"), &files)
            .await
            .unwrap();
        let config = client()
            .inspect_image(&image.id)
            .await
            .unwrap()
            .config
            .unwrap();
        let (scope, name) = ("io.trainyard.build.scope", config.labels.unwrap());
        let text = dockerfile(RANDOM);
        let forged = format!("{text}LABEL {scope}={}\n", name[scope]);
        // A build whose last image has our labels, and one that fails before it gets them.
        for forged in [forged.clone(), format!("{forged}RUN exit 7\n")] {
            let files = [("Dockerfile", &*forged)];
            let _ = made_at_random(&executor, (other, "main"), &files).await;
        }
        let files = [("Dockerfile", &*text)];
        let (_, random) = made_at_random(&executor, (one, "main"), &files)
            .await
            .unwrap();
        assert!(random.is_some(), "the step of the other repo was taken");
        remove_all(&executor, &kit).await;
        kit
    })
    .await;
}

#[tokio::test]
async fn class_15_a_build_is_under_the_limits_of_its_stage() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let ask = "RUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
                   df -k /dev/shm | tail -1; true\n";
        // tail keeps a line without an end in memory.
        let eat = "RUN tail /dev/zero\n";
        let said = Mutex::new(Vec::new());
        let say = |line: String| said.lock().unwrap().push(line);
        let mut wanted = request(&[("Dockerfile", &dockerfile(ask))], &BTreeMap::new());
        wanted.limits.memory = Some(3 << 30);
        wanted.limits.shm = Some(8 << 20);
        let image = executor.prepare(&wanted, &say).await.unwrap();
        let said = said.into_inner().unwrap();
        assert!(said.contains(&(3u64 << 30).to_string()), "beyond 2 GiB: {said:?}");
        assert!(said.iter().any(|line| line.contains(" 8192 ")), "{said:?}");
        let mut wanted = request(&[("Dockerfile", &dockerfile(eat))], &BTreeMap::new());
        wanted.limits.memory = Some(32 << 20);
        let error = executor.prepare(&wanted, &|_| {}).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageBuild);
        assert!(error.message.contains("137"), "it was killed: {error}");
        remove(&image).await;
        kit
    })
    .await;
}

#[tokio::test]
async fn class_17_a_cache_of_buildkit_stays_and_belongs_to_a_branch_of_a_repo() {
    check(RealDocker::with_buildkit(false).await, |kit| async move {
        let executor = kit.subject.make().await;
        let repo = RepoId(Uuid::now_v7());
        let mut images = Vec::new();
        let count = "RUN --mount=type=cache,target=/c echo >>/c/n; echo seen $(wc -l </c/n)";
        // The frontend would be fetched, if any of its line were left.
        let first = format!("# syntax=docker/dockerfile:1\n{}", dockerfile(count));
        let second = dockerfile(&format!("{count} again"));
        for (branch, text, found) in [
            ("main", &first, "seen 1"),
            ("main", &second, "seen 2 again"),
            // Neither the cache, nor the step, nor the image is shared.
            ("other", &first, "seen 1"),
        ] {
            let mut wanted = request(&[("Dockerfile", text)], &BTreeMap::new());
            wanted.repo = Some(repo);
            wanted.branch = Some(branch.to_owned());
            let said = Mutex::new(Vec::new());
            let say = |line: String| said.lock().unwrap().push(line);
            images.push(executor.prepare(&wanted, &say).await.unwrap());
            let said = said.into_inner().unwrap();
            assert!(said.contains(&found.to_owned()), "{branch}: {said:?}");
        }
        for image in &images {
            remove(image).await;
        }
        crate::networks::remove_all(&kit).await;
        kit
    })
    .await;
}

#[tokio::test]
async fn steps_that_buildkit_built_before_are_not_built_again() {
    check(RealDocker::with_buildkit(false).await, |kit| async move {
        let executor = kit.subject.make().await;
        // BuildKit remembers steps for longer than this test.
        let said_once = format!("of {}", Uuid::new_v4());
        let text = dockerfile(&format!(
            "RUN --mount=type=tmpfs,target=/t echo {said_once}\nCOPY a /a\n"
        ));
        let mut images = Vec::new();
        let said = Mutex::new(Vec::new());
        let say = |line: String| said.lock().unwrap().push(line);
        for content in ["1", "2"] {
            let files = [("Dockerfile", &*text), ("a", content)];
            let none = BTreeMap::new();
            images.push(
                build_and_print(&executor, &files, &none, &say)
                    .await
                    .unwrap(),
            );
        }
        assert_ne!(images[0].id, images[1].id);
        let said = said.into_inner().unwrap();
        let printed = said.iter().filter(|line| **line == said_once);
        assert_eq!(printed.count(), 1, "{said:?}");
        assert!(
            said.iter().any(|line| line.starts_with("CACHED")),
            "{said:?}"
        );
        for image in &images {
            remove(image).await;
        }
        kit
    })
    .await;
}

#[tokio::test]
async fn class_15_a_build_of_buildkit_has_no_way_out_where_stages_have_none() {
    check(RealDocker::with_buildkit(true).await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = dockerfile(
            "RUN --mount=type=tmpfs,target=/t echo links: $(ls /sys/class/net); exit 7\n",
        );
        let said = Mutex::new(Vec::new());
        let say = |line: String| said.lock().unwrap().push(line);
        let files = [("Dockerfile", &*text)];
        let built = build_and_print(&executor, &files, &BTreeMap::new(), &say).await;
        let error = built.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageBuild);
        assert!(error.message.contains("exit code: 7"), "{error}");
        assert_eq!(error.message.lines().count(), 1, "{error}");
        let said = said.into_inner().unwrap();
        assert!(said.contains(&"links: lo".to_owned()), "{said:?}");
        kit
    })
    .await;
}

#[tokio::test]
async fn class_17_buildkit_is_used_only_where_the_operator_allows_it() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = dockerfile("RUN --mount=type=tmpfs,target=/t true\n");
        let built = build(&executor, &[("Dockerfile", &text)]).await;
        let error = built.unwrap_err();
        assert_eq!(
            error.message,
            "Dockerfile:3:1: RUN --mount needs BuildKit, which is not allowed here. The operator can allow it with \
             docker.buildkit = true in the daemon's configuration"
        );
        kit
    })
    .await;
}

#[tokio::test]
async fn class_17_an_image_whose_steps_took_more_of_the_disk_than_they_may_is_removed() {
    let containers = RealDocker::with_build_layers(4 << 20).await;
    check(containers, |kit| async move {
        let executor = kit.subject.make().await;
        // An option of `RUN` is for BuildKit.
        for option in ["", "--mount=type=cache,target=/cache "] {
            let step = |file| format!("RUN {option}dd if=/dev/zero of=/{file} bs=1M count=3\n");
            let small = dockerfile(&step("a"));
            let image = build(&executor, &[("Dockerfile", &small)]).await;
            remove(&image.unwrap()).await;
            let large = dockerfile(&(step("a") + &step("b")));
            let error = build(&executor, &[("Dockerfile", &large)])
                .await
                .unwrap_err();
            assert_eq!(error.kind, ErrorKind::ImageBuild, "{error}");
            assert!(
                error.message.contains("take 6 MiB") && error.message.contains("limits.layer"),
                "{error}"
            );
            let left = executor.build_images().await.unwrap();
            assert!(left.is_empty(), "{left:?}");
        }
        kit
    })
    .await;
}

#[tokio::test]
async fn class_17_a_step_that_writes_more_than_it_may_is_ended_while_it_runs() {
    let containers = RealDocker::with_build_layers(4 << 20).await;
    check(containers, |kit| async move {
        let executor = kit.subject.make().await;
        let id = Uuid::now_v7().to_string();
        // Each step is within the limit.
        let text = format!(
            "FROM trainyard-test/busybox:1\nRUN echo {id}; dd if=/dev/zero of=/a bs=1M count=3\n\
             RUN dd if=/dev/zero of=/b bs=1M count=3; tail -f /dev/null\n"
        );
        let error = build(&executor, &[("Dockerfile", &text)])
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageBuild, "{error}");
        assert!(
            error.message.contains("its steps have written 6 MiB"),
            "{error}"
        );
        kit
    })
    .await;
}
