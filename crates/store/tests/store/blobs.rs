//! The artifact store's folder.

use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use trainyard_core::artifact::{ArtifactContent, ArtifactKind, KeptOutput};
use trainyard_store::{Blobs, Error, Retention, Swept};

use crate::kit::*;

async fn put(blobs: &Blobs, content: &[u8]) -> String {
    let file = blobs.incoming().join(format!("new-{}", content.len()));
    tokio::fs::write(&file, content).await.unwrap();
    let sha256 = hex::encode(Sha256::digest(content));
    blobs
        .ingest(&file, &sha256, content.len() as u64)
        .await
        .unwrap();
    assert!(!file.exists());
    sha256
}

fn output(sha256: &str, size: u64) -> KeptOutput {
    KeptOutput {
        name: "model".parse().unwrap(),
        content: ArtifactContent {
            kind: ArtifactKind::File,
            sha256: sha256.to_owned(),
            size,
        },
    }
}

fn make_old(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "the age of a file is measured by the host's clock"
    )]
    let long_ago = SystemTime::now() - Duration::from_secs(48 * 3600);
    file.set_modified(long_ago).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_found_by_its_hash() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).await.unwrap();
    let sha256 = put(&blobs, b"model").await;
    let path = blobs.path_of(&sha256).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"model");
    assert_eq!(
        put(&blobs, b"model").await,
        sha256,
        "the same again is fine"
    );
    assert_eq!(blobs.path_of(&"0".repeat(64)), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_is_never_taken_for_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).await.unwrap();
    for hostile in [
        "../../etc/passwd",
        "",
        "ab",
        &"../".repeat(22)[..64],
        &"A".repeat(64),
    ] {
        assert_eq!(blobs.path_of(hostile), None, "{hostile}");
        let refused = blobs.ingest(Path::new("/dev/null"), hostile, 0).await;
        assert!(matches!(refused, Err(Error::Conflict { .. })), "{hostile}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_size_is_not_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).await.unwrap();
    let file = blobs.incoming().join("cut");
    std::fs::write(&file, b"cut sho").unwrap();
    let sha256 = "ab".repeat(32);
    assert!(blobs.ingest(&file, &sha256, 9).await.is_err());
    assert_eq!(blobs.path_of(&sha256), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_old_content_that_nothing_refers_to_is_swept() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).await.unwrap();
    let (used, old, young) = (
        put(&blobs, b"used").await,
        put(&blobs, b"old").await,
        put(&blobs, b"young").await,
    );
    let ids = place.dag(&chain("a", 1)).await;
    place.start(ids).await;
    let claim = place.claim_one().await;
    let mut end = finished(&claim, good());
    end.artifacts = vec![output(&used, 4)];
    place.store.finish_attempt(end, None).await.unwrap();
    for sha256 in [&used, &old] {
        make_old(&blobs.path_of(sha256).unwrap());
    }
    let leftover = blobs.incoming().join("leftover");
    std::fs::write(&leftover, b"x").unwrap();
    make_old(&leftover);

    let both = Swept { files: 2, bytes: 4 };
    assert_eq!(
        place
            .store
            .sweep_blobs(&blobs, Some(&Retention::default()))
            .await
            .unwrap(),
        both
    );
    assert!(blobs.path_of(&old).is_some());
    // With a newer run, the run that refers to the other file may be deleted.
    place.start(ids).await;
    let rule = Retention {
        runs_for: Duration::ZERO,
        runs_of_each_dag: 1,
        ..Retention::default()
    };
    let three = Swept { files: 3, bytes: 8 };
    let dry = place.store.sweep_blobs(&blobs, Some(&rule)).await.unwrap();
    assert_eq!(dry, three);
    assert_eq!(place.store.sweep_blobs(&blobs, None).await.unwrap(), both);
    assert_eq!(blobs.path_of(&old), None);
    assert!(!leftover.exists());
    assert!(blobs.path_of(&used).is_some() && blobs.path_of(&young).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_an_attempt_that_has_not_ended_is_kept_however_old_it_is() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).await.unwrap();
    place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    place
        .sql("update attempt set queued_at = queued_at - interval '3 days'")
        .await;
    let sha256 = put(&blobs, b"slow").await;
    make_old(&blobs.path_of(&sha256).unwrap());
    let swept = place.store.sweep_blobs(&blobs, None).await.unwrap();
    assert_eq!(swept, Swept::default());
    finish(&place.store, &claim, good()).await.unwrap();
    let swept = place.store.sweep_blobs(&blobs, None).await.unwrap();
    assert_eq!(swept, Swept { files: 1, bytes: 4 });
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_kept_while_one_of_its_owners_is_left() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).await.unwrap();
    let sha256 = put(&blobs, b"shared").await;
    let ids = place.dag(&chain("a", 1)).await;
    for _ in 0..2 {
        place.start(ids).await;
        let claim = place.claim_one().await;
        let mut end = finished(&claim, good());
        end.artifacts = vec![output(&sha256, 6)];
        place.store.finish_attempt(end, None).await.unwrap();
    }
    make_old(&blobs.path_of(&sha256).unwrap());
    let sweep = async || place.store.sweep_blobs(&blobs, None).await.unwrap().files;
    place.sql("delete from run where id = 1").await;
    assert_eq!(sweep().await, 0);
    place.sql("delete from run").await;
    assert_eq!(sweep().await, 1);
    assert_eq!(place.count("select count(*) from blob").await, 0);
}

/// An end that is not committed yet is as good as an owner.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_leaves_content_that_is_about_to_get_an_owner() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).await.unwrap();
    place
        .sql("insert into blob values (repeat('ab', 32), 3), (repeat('cd', 32), 3)")
        .await;
    let mut ending = place.raw.begin().await.unwrap();
    sqlx::raw_sql("update blob set size = size where sha256 = repeat('ab', 32)")
        .execute(&mut *ending)
        .await
        .unwrap();
    place.store.sweep_blobs(&blobs, None).await.unwrap();
    ending.commit().await.unwrap();
    let kept = place.text("select string_agg(sha256, '') from blob").await;
    assert_eq!(kept, "ab".repeat(32));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_comes_again_is_young_again() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).await.unwrap();
    let sha256 = put(&blobs, b"again").await;
    make_old(&blobs.path_of(&sha256).unwrap());
    put(&blobs, b"again").await;
    assert_eq!(
        place.store.sweep_blobs(&blobs, None).await.unwrap(),
        Swept::default()
    );
    assert!(blobs.path_of(&sha256).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_left_on_its_way_in_goes_when_its_successor_begins() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).await.unwrap();
    let other = blobs
        .incoming_of("other:/data")
        .await
        .unwrap()
        .join("output");
    let own = blobs.incoming_of("here:/data").await.unwrap();
    for file in [&other, &own.join("output")] {
        std::fs::write(file, "cut off").unwrap();
    }
    let again = blobs.incoming_of("here:/data").await.unwrap();
    assert_eq!(again, own);
    assert!(std::fs::read_dir(&own).unwrap().next().is_none());
    assert!(other.exists(), "another process may be at it");
}
