//! Images built from a source tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use trainyard_core::render::RenderedImage;
use trainyard_core::stage::RelativePath;
use trainyard_executor::conformance::{Kit, Subject, check};
use trainyard_executor::docker::Docker;
use trainyard_executor::{Error, ErrorKind, Executor, ImageRequest, PreparedImage};
use uuid::Uuid;

use crate::place::{Containers, client, script, tree};

/// Builds the root of a tree of files.
pub(crate) async fn build(
    executor: &Docker,
    kit: &Kit<Containers>,
    files: &[(&str, &str)],
) -> Result<PreparedImage, Error> {
    build_told(executor, kit, files, &BTreeMap::new(), &|_| {}).await
}

/// Removes what was built, whatever its tags.
pub(crate) async fn remove(image: &PreparedImage) {
    let options = bollard::query_parameters::RemoveImageOptionsBuilder::default().force(true);
    client()
        .remove_image(&image.id, Some(options.build()), None)
        .await
        .unwrap();
}

async fn build_told(
    executor: &Docker,
    kit: &Kit<Containers>,
    files: &[(&str, &str)],
    args: &BTreeMap<String, String>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<PreparedImage, Error> {
    let request = ImageRequest {
        image: RenderedImage::Build {
            context: RelativePath::new(".").unwrap(),
            dockerfile: RelativePath::new("Dockerfile").unwrap(),
            args: args.clone(),
            target: None,
        },
        source: Some(tree(&kit.place(&Uuid::now_v7().to_string()), files)),
    };
    executor.prepare(&request, progress).await
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
    check(Containers::new().await, |kit| async move {
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
            build_told(&executor, &kit, &files, &none, &say),
            build_told(&executor, &kit, &files, &none, &say),
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
            build_told(&later, &kit, &noise, &none, &say).await.unwrap(),
            first
        );
        assert_eq!(
            builds(&said),
            1,
            "later, with another file that is ignored: {said:?}"
        );
        let args = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
        let other = build_told(&later, &kit, &files, &args, &say).await.unwrap();
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
async fn a_failed_build_carries_its_last_lines_and_leaves_no_container() {
    check(Containers::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let before = all_containers().await;
        // The first step fails, so that the engine keeps nothing of it.
        let id = Uuid::now_v7();
        let dockerfile =
            format!("FROM trainyard-test/busybox:1\nRUN echo {id} about to fail && exit 7\n");
        let error = build(&executor, &kit, &[("Dockerfile", &dockerfile)])
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageBuild);
        assert!(error.message.contains("about to fail"), "{error}");
        assert!(error.message.contains('7'), "the exit code: {error}");
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
async fn a_build_that_is_given_up_ends_and_has_said_what_it_did_so_far() {
    check(Containers::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let id = Uuid::now_v7().to_string();
        // The first step never ends, so that the engine keeps nothing of it.
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
            built = build_told(&executor, &kit, &files, &none, &say) => panic!("{built:?}"),
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
async fn a_wrong_dockerfile_and_an_unknown_base_are_told_in_words() {
    check(Containers::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let error = build(&executor, &kit, &[("Dockerfile", "FROMM x\n")])
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageBuild);
        assert!(error.message.contains("FROMM"), "{error}");
        let unknown = "FROM localhost:1/nowhere:1\n";
        let error = build(&executor, &kit, &[("Dockerfile", unknown)])
            .await
            .unwrap_err();
        assert!(error.message.contains("localhost:1"), "{error}");
        assert_eq!(
            error.kind,
            ErrorKind::ImagePull,
            "the registry may answer later: {error}"
        );
        let error = build(&executor, &kit, &[("a", "1")]).await.unwrap_err();
        assert!(error.message.contains("no `Dockerfile`"), "{error}");
        kit
    })
    .await;
}

#[tokio::test]
async fn built_images_are_listed_and_removed_unless_a_container_uses_them() {
    check(Containers::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let first = dockerfile("");
        let used = build(&executor, &kit, &[("Dockerfile", &first)])
            .await
            .unwrap();
        let second = dockerfile("");
        let unused = build(&executor, &kit, &[("Dockerfile", &second)])
            .await
            .unwrap();
        let mut spec = kit.spec_of(script("true"));
        spec.image = used.id.clone();
        let (handle, _) = kit.run(&executor, &spec).await;
        let ids = |images: &[trainyard_executor::docker::BuildImage]| -> Vec<String> {
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
