//! The files that a program gets, and those that it leaves.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use trainyard_core::artifact::{ArtifactContent, ArtifactKind};
use trainyard_executor::blob::InMemory;
use trainyard_executor::conformance::{Candidate, check};
use trainyard_executor::{
    AttemptSpec, Attempts, Blob, Containers, ErrorKind, InputSpec, LocalFile, StageFolder,
};

use crate::place::{RealDocker, client, script, tree};

#[tokio::test]
async fn the_source_tree_is_the_working_directory() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let files = [
            ("bin/hello", "#!/bin/sh\necho hello from $(pwd)\n"),
            ("data/a.txt", "a\n"),
        ];
        let mut spec = kit.spec_of(script("./bin/hello\ncat data/a.txt\ntouch data/new"));
        spec.source = Some(tree(&files));
        let (handle, code) = kit.run(&executor, &spec).await;
        let printed = kit.printed(&executor, &handle).await;
        assert_eq!(
            (code, &*printed.stdout),
            (0, "hello from /workspace\na\n"),
            "{printed:?}"
        );
        kit
    })
    .await;
}

#[tokio::test]
async fn a_program_that_is_not_root_can_write_its_workspace_and_its_outputs() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let image = crate::building::build(
            &executor,
            &[("Dockerfile", "FROM trainyard-test/busybox:1\nUSER user\n")],
        )
        .await
        .unwrap();
        let text = "id -u\ntouch new\necho x >\"$OUTPUTS/x\"";
        let mut with_files = kit.spec_of(script(&format!("{text}\necho y >>note\ncat note")));
        with_files.source = Some(tree(&[("note", "n\n")]));
        let bare = kit.spec_of(script("id -u\ntouch new"));
        for (mut spec, expected) in [(with_files, "1000\nn\ny\n"), (bare, "1000\n")] {
            spec.image = image.id.clone();
            let (handle, code) = kit.run(&executor, &spec).await;
            let printed = kit.printed(&executor, &handle).await;
            assert_eq!((code, &*printed.stdout), (0, expected), "{printed:?}");
            executor.remove(&handle).await.unwrap();
        }
        crate::building::remove(&image).await;
        kit
    })
    .await;
}

#[tokio::test]
async fn inputs_are_read_only_and_a_folder_is_a_folder_again() {
    // Root's capabilities include writing to read-only files.
    check(RealDocker::with_capabilities(&[]).await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "cat \"$INPUTS/set/sub/b\"\nls -l \"$INPUTS/set/sub/b\" | cut -c 1-10\n\
                    if echo z >\"$INPUTS/set/new\"; then exit 9; fi";
        let mut spec = kit.spec_of(script(text));
        spec.inputs.push(set(tree(&[("a", "1"), ("sub/b", "2\n")])));
        // The folder's owner could write to it in spite of its mode, so only root is tested.
        spec.env.insert("USER".to_owned(), "root".to_owned());
        let (handle, code) = kit.run(&executor, &spec).await;
        let printed = kit.printed(&executor, &handle).await;
        assert_eq!(
            (code, &*printed.stdout),
            (0, "2\n-r--r--r--\n"),
            "{printed:?}"
        );
        kit
    })
    .await;
}

#[tokio::test]
async fn nothing_that_is_laid_out_is_dated_before_1980() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text =
            "[ -d \"$OUTPUTS\" ]\nfind . \"$INPUTS\" \"$OUTPUTS\" -exec stat -c '%Y %n' {} +";
        let mut spec = kit.spec_of(script(text));
        // Archives of tests have the time 0.
        spec.source = Some(tree(&[("a/b", "1")]));
        spec.inputs.push(set(tree(&[("sub/b", "2\n")])));
        let (handle, code) = kit.run(&executor, &spec).await;
        let printed = kit.printed(&executor, &handle).await;
        assert_eq!(code, 0, "{printed:?}");
        for line in printed.stdout.lines() {
            let (time, _) = line.split_once(' ').unwrap();
            assert!(time.parse::<u64>().unwrap() > 315_532_800, "{line}");
        }
        assert!(printed.stdout.contains("/trainyard/inputs/set/sub/b"));
        kit
    })
    .await;
}

#[tokio::test]
async fn a_source_tree_that_cannot_be_read_leaves_no_container_behind() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let mut spec = kit.spec_of(script("true"));
        let whole = tree(&[("a", "1")]);
        let mut begin = Vec::new();
        let mut bytes = whole.open().unwrap().take(600);
        bytes.read_to_end(&mut begin).unwrap();
        let cut_off: Arc<dyn Blob> = Arc::new(InMemory::from(begin));
        for broken in [LocalFile::blob("/nowhere/source.tar"), cut_off] {
            spec.source = Some(broken);
            let error = executor.create(&spec).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Storage, "{error}");
            assert_eq!(executor.list().await, Ok(vec![]));
        }
        spec.source = Some(whole);
        let (_, code) = kit.run(&executor, &spec).await;
        assert_eq!(code, 0, "the next try is a fresh one");
        kit
    })
    .await;
}

#[tokio::test]
async fn a_container_that_a_crash_left_half_laid_out_is_completed_on_adoption() {
    check(RealDocker::new().await, |kit| async move {
        // The daemon dies between the creation and the layout: the same container without files.
        let mut spec = kit.spec_of(script("cat note"));
        spec.source = Some(tree(&[("note", "n\n")]));
        half_create(&spec).await;
        let executor = kit.subject.make().await;
        let (handle, code) = kit.run(&executor, &spec).await;
        assert_eq!(code, 0);
        assert_eq!(kit.printed(&executor, &handle).await.stdout, "n\n");
        kit
    })
    .await;
}

/// The input `set`, which is a folder.
fn set(blob: Arc<dyn Blob>) -> InputSpec {
    InputSpec {
        name: "set".parse().unwrap(),
        content: ArtifactContent {
            kind: ArtifactKind::Folder,
            sha256: "00".to_owned(),
            size: std::io::copy(&mut blob.open().unwrap(), &mut std::io::sink()).unwrap(),
        },
        blob,
    }
}

/// The container of a spec as Docker makes it, before its files are laid out.
async fn half_create(spec: &AttemptSpec) {
    let label = |name: &str, value: String| (format!("io.trainyard.{name}"), value);
    let body = ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: Some(["sh", "-eu", "-c"].map(str::to_owned).to_vec()),
        cmd: Some(vec!["cat note".to_owned()]),
        working_dir: Some("/workspace".to_owned()),
        labels: Some(HashMap::from([
            label("instance", spec.instance.to_string()),
            label("attempt", spec.attempt.to_string()),
            label("fence", spec.fence.to_string()),
            label("spec", spec.hash().to_string()),
        ])),
        ..ContainerCreateBody::default()
    };
    let name = format!("trainyard-{}", spec.attempt);
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let created = client().create_container(Some(options), body).await;
    created.unwrap();
}

#[tokio::test]
async fn outputs_with_links_and_modes_come_back_and_devices_do_not() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "cd \"$OUTPUTS\"\nmkdir -p good/sub bad out\necho 1 >plain\necho 1 >good/sub/a\n\
                    chmod 700 good/sub/a\nln good/sub/a good/same\nln -s sub/a good/latest\n\
                    mkfifo bad/pipe\nln -s /etc/passwd out/users\nln -s good link";
        let mut spec = kit.spec_of(script(text));
        spec.outputs = true;
        let (handle, code) = kit.run(&executor, &spec).await;
        assert_eq!(code, 0);
        let good = kit
            .collect(&executor, &handle, "good", 1 << 20)
            .await
            .unwrap();
        let (collected, bytes) = good.unwrap();
        assert_eq!(collected.kind, ArtifactKind::Folder);
        let members: Vec<String> = tar::Archive::new(&bytes[..])
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let kind = header.entry_type().as_byte() as char;
                let path = entry.path().unwrap().display().to_string();
                format!("{kind} {:o} {path}", header.mode().unwrap())
            })
            .collect();
        // One of the two names is the file, the other a link to it.
        assert_eq!(members.len(), 4, "{members:?}");
        assert!(members.contains(&"2 777 latest".to_owned()), "{members:?}");
        assert!(
            members.iter().any(|member| member.starts_with("0 755")),
            "{members:?}"
        );
        assert!(
            members.iter().any(|member| member.starts_with("1 644")),
            "{members:?}"
        );
        for (output, kind) in [
            ("good/sub/a", ArtifactKind::Executable),
            ("plain", ArtifactKind::File),
        ] {
            let file = kit.collect(&executor, &handle, output, 1 << 20).await;
            assert_eq!(file.unwrap().unwrap().0.kind, kind, "{output}");
        }
        for (output, culprit) in [("bad", "pipe"), ("out", "users")] {
            let error = kit
                .collect(&executor, &handle, output, 1 << 20)
                .await
                .unwrap_err();
            assert_eq!(error.kind, ErrorKind::OutputUnfit, "{output}: {error}");
            assert!(error.message.contains(culprit), "{error}");
        }
        kit
    })
    .await;
}

#[tokio::test]
async fn an_output_may_be_a_link_to_something_in_the_outputs_folder() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "cd \"$OUTPUTS\"\nmkdir c\necho 9 >c/epoch9.ckpt\nln -s epoch9.ckpt c/last.ckpt\n\
                    ln -s c/last.ckpt best\nln -s \"$OUTPUTS/c/epoch9.ckpt\" whole\nln -s c folder\n\
                    ln -s \"$OUTPUTS/c/epoch9.ckpt\" c/whole";
        let mut spec = kit.spec_of(script(text));
        spec.outputs = true;
        let (handle, code) = kit.run(&executor, &spec).await;
        assert_eq!(code, 0);
        for output in ["c/last.ckpt", "best", "whole", "folder/last.ckpt"] {
            let file = kit.collect(&executor, &handle, output, 1 << 20).await;
            let (collected, bytes) = file.unwrap().unwrap();
            assert_eq!((collected.kind, &bytes[..]), (ArtifactKind::File, &b"9\n"[..]));
        }
        let folder = kit.collect(&executor, &handle, "folder", 1 << 20).await;
        let (collected, bytes) = folder.unwrap().unwrap();
        assert_eq!(collected.kind, ArtifactKind::Folder);
        let mut members = tar::Archive::new(&bytes[..]);
        let links: Vec<String> = members
            .entries()
            .unwrap()
            .filter_map(|entry| Some(entry.unwrap().link_name().unwrap()?.display().to_string()))
            .collect();
        assert_eq!(links, ["epoch9.ckpt", "epoch9.ckpt"]);
        kit
    })
    .await;
}

#[tokio::test]
async fn files_that_were_left_are_named_where_one_is_missing() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "mkdir \"$OUTPUTS/run\"; echo 1 >\"$OUTPUTS/run/models.bin\"; echo 2 >model.bin";
        let mut spec = kit.spec_of(script(text));
        spec.outputs = true;
        let (handle, code) = kit.run(&executor, &spec).await;
        assert_eq!(code, 0);
        let outputs = executor.files(&handle, StageFolder::Outputs).await;
        assert_eq!(outputs.unwrap(), ["run", "run/models.bin"]);
        let working = executor.files(&handle, StageFolder::Working).await;
        assert_eq!(working.unwrap(), ["model.bin"]);
        kit
    })
    .await;
}

#[tokio::test]
async fn a_large_output_comes_back_whole() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let mut spec = kit.spec_of(script(
            "head -c 50000000 /dev/urandom >\"$OUTPUTS/big\"\nsha256sum \"$OUTPUTS/big\" | cut -c 1-64",
        ));
        spec.outputs = true;
        let (handle, _) = kit.run(&executor, &spec).await;
        let expected = kit.printed(&executor, &handle).await.stdout;
        let collected = kit.collect(&executor, &handle, "big", 50_000_000).await;
        let (collected, _) = collected.unwrap().unwrap();
        assert_eq!((collected.size, &*collected.sha256), (50_000_000, expected.trim()));
        let error = kit.collect(&executor, &handle, "big", 49_999_999).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        kit
    })
    .await;
}
