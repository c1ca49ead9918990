//! The artifact store: its folder, and what is swept.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::stream::TryStreamExt as _;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use trainyard_core::artifact::{ArtifactContent, ArtifactKind, KeptOutput};
use trainyard_store::{ALL_BYTES, BlobEntry, BlobFolder, Blobs, Error, Retention, Swept};

use crate::kit::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A folder of content, and one for what is to come into it.
struct Folder {
    blobs: BlobFolder,
    incoming: PathBuf,
    root: TempDir,
}

impl Folder {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let blobs = BlobFolder::open(root.path()).await.unwrap();
        let incoming = blobs.incoming_of("here:/data").await.unwrap();
        Self {
            blobs,
            incoming,
            root,
        }
    }

    async fn put(&self, content: &[u8]) -> String {
        put(&self.blobs, &self.incoming, content).await
    }

    /// The file of content that is there.
    fn file(&self, sha256: &str) -> PathBuf {
        let file = self.root.path().join(&sha256[..2]).join(&sha256[2..4]);
        file.join(sha256)
    }

    fn make_old(&self, sha256: &str) {
        make_old(&self.file(sha256));
    }

    async fn has(&self, sha256: &str) -> bool {
        self.blobs.size(sha256).await.unwrap().is_some()
    }
}

fn hash(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

async fn put(blobs: &dyn Blobs, incoming: &Path, content: &[u8]) -> String {
    let sha256 = hash(content);
    let file = incoming.join(format!("{sha256}-new"));
    tokio::fs::write(&file, content).await.unwrap();
    let size = content.len() as u64;
    blobs.put(&file, &sha256, size).await.unwrap();
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

async fn read(blobs: &dyn Blobs, sha256: &str, range: std::ops::Range<u64>) -> Vec<u8> {
    let mut opened = blobs.open(sha256, range).await.unwrap().expect("content");
    let mut read = Vec::new();
    opened.bytes.read_to_end(&mut read).await.unwrap();
    read
}

async fn listed(blobs: &dyn Blobs, older_than: Duration) -> Vec<BlobEntry> {
    blobs.list(older_than).try_collect().await.unwrap()
}

/// What every implementation promises, over an empty one. `incoming` is a folder from which it takes files.
async fn keeps_the_promises_of_blobs(blobs: &dyn Blobs, incoming: &Path) {
    let sha256 = put(blobs, incoming, b"model").await;
    assert_eq!(put(blobs, incoming, b"model").await, sha256, "again");
    assert_eq!(blobs.size(&sha256).await.unwrap(), Some(5));
    assert_eq!(read(blobs, &sha256, ALL_BYTES).await, b"model");
    assert_eq!(read(blobs, &sha256, 1..3).await, b"od");
    assert_eq!(read(blobs, &sha256, 3..9).await, b"el");
    assert_eq!(read(blobs, &sha256, 7..9).await, b"");
    let opened = blobs.open(&sha256, 1..3).await.unwrap();
    assert_eq!(opened.expect("content").size, 5);
    let mut blocking = Vec::new();
    let mut bytes = blobs.open_blocking(&sha256).unwrap();
    bytes.read_to_end(&mut blocking).unwrap();
    assert_eq!(blocking, b"model");

    let file = incoming.join("cut-short");
    std::fs::write(&file, b"cut sho").unwrap();
    let unknown = "ab".repeat(32);
    let refused = blobs.put(&file, &unknown, 9).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })));
    let above = "../".repeat(22);
    let upper = "A".repeat(64);
    for hostile in ["../../etc/passwd", "/etc/passwd", "", "ab", &above, &upper] {
        let refused = blobs.put(&file, hostile, 7).await;
        assert!(matches!(refused, Err(Error::Conflict { .. })), "{hostile}");
        assert!(!blobs.remove_old(&above, Duration::ZERO).await.unwrap());
    }
    for missing in [&unknown, "../../etc/passwd", "", &upper] {
        assert_eq!(blobs.size(missing).await.unwrap(), None, "{missing}");
        let opened = blobs.open(missing, ALL_BYTES).await.unwrap();
        assert!(opened.is_none(), "{missing}");
        let opened = blobs.open_blocking(missing).err().unwrap();
        assert_eq!(opened.kind(), ErrorKind::NotFound, "{missing}");
    }

    std::fs::remove_file(&file).unwrap();
    let (name, size) = (sha256.clone(), 5);
    let entry = BlobEntry { name, size };
    assert_eq!(listed(blobs, Duration::ZERO).await, [entry]);
    assert_eq!(listed(blobs, DAY).await, []);
    assert!(!blobs.remove_old(&sha256, DAY).await.unwrap());
    assert_eq!(blobs.size(&sha256).await.unwrap(), Some(5));
    assert!(blobs.remove_old(&sha256, Duration::ZERO).await.unwrap());
    assert!(!blobs.remove_old(&sha256, Duration::ZERO).await.unwrap());
    assert_eq!(blobs.size(&sha256).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_the_promises_of_blobs() {
    let folder = Folder::new().await;
    keeps_the_promises_of_blobs(&folder.blobs, &folder.incoming).await;
}

/// A sweep finds content that is old, and it comes again before or while it is removed.
#[tokio::test(flavor = "multi_thread")]
async fn content_that_comes_again_while_it_is_removed_stays() {
    let folder = Folder::new().await;
    // Another daemon on the same folder.
    let other = BlobFolder::open(folder.root.path()).await.unwrap();
    let sha256 = folder.put(b"again").await;
    for _ in 0..200 {
        folder.make_old(&sha256);
        let (removed, _) = tokio::join!(other.remove_old(&sha256, DAY), folder.put(b"again"));
        removed.unwrap();
        assert!(folder.has(&sha256).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_old_content_that_nothing_refers_to_is_swept() {
    let place = Place::new().await;
    let folder = Folder::new().await;
    let (used, old, young) = (
        folder.put(b"used").await,
        folder.put(b"old").await,
        folder.put(b"young").await,
    );
    let ids = place.dag(&chain("a", 1)).await;
    place.start(ids).await;
    let claim = place.claim_one().await;
    let mut end = finished(&claim, good());
    end.artifacts = vec![output(&used, 4)];
    place.store.finish_attempt(end, None).await.unwrap();
    for sha256 in [&used, &old] {
        folder.make_old(sha256);
    }
    let leftover = folder.incoming.join("leftover");
    std::fs::write(&leftover, b"x").unwrap();
    make_old(&leftover);

    let both = Swept { files: 2, bytes: 4 };
    assert_eq!(
        place
            .store
            .sweep_blobs(&folder.blobs, Some(&Retention::default()))
            .await
            .unwrap(),
        both
    );
    assert!(folder.has(&old).await);
    // With a newer run, the run that refers to the other file may be deleted.
    place.start(ids).await;
    let rule = Retention {
        runs_for: Duration::ZERO,
        runs_of_each_dag: 1,
        ..Retention::default()
    };
    let three = Swept { files: 3, bytes: 8 };
    let dry = place
        .store
        .sweep_blobs(&folder.blobs, Some(&rule))
        .await
        .unwrap();
    assert_eq!(dry, three);
    assert_eq!(
        place.store.sweep_blobs(&folder.blobs, None).await.unwrap(),
        both
    );
    assert!(!folder.has(&old).await);
    assert!(!leftover.exists());
    assert!(folder.has(&used).await && folder.has(&young).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_an_attempt_that_has_not_ended_is_kept_however_old_it_is() {
    let place = Place::new().await;
    let folder = Folder::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    place
        .sql("update attempt set queued_at = queued_at - interval '3 days'")
        .await;
    let sha256 = folder.put(b"slow").await;
    folder.make_old(&sha256);
    let swept = place.store.sweep_blobs(&folder.blobs, None).await.unwrap();
    assert_eq!(swept, Swept::default());
    finish(&place.store, &claim, good()).await.unwrap();
    let swept = place.store.sweep_blobs(&folder.blobs, None).await.unwrap();
    assert_eq!(swept, Swept { files: 1, bytes: 4 });
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_kept_while_one_of_its_owners_is_left() {
    let place = Place::new().await;
    let folder = Folder::new().await;
    let sha256 = folder.put(b"shared").await;
    let ids = place.dag(&chain("a", 1)).await;
    for _ in 0..2 {
        place.start(ids).await;
        let claim = place.claim_one().await;
        let mut end = finished(&claim, good());
        end.artifacts = vec![output(&sha256, 6)];
        place.store.finish_attempt(end, None).await.unwrap();
    }
    folder.make_old(&sha256);
    let sweep = async || {
        place
            .store
            .sweep_blobs(&folder.blobs, None)
            .await
            .unwrap()
            .files
    };
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
    let folder = Folder::new().await;
    place
        .sql("insert into blob values (repeat('ab', 32), 3), (repeat('cd', 32), 3)")
        .await;
    let mut ending = place.raw.begin().await.unwrap();
    sqlx::raw_sql("update blob set size = size where sha256 = repeat('ab', 32)")
        .execute(&mut *ending)
        .await
        .unwrap();
    place.store.sweep_blobs(&folder.blobs, None).await.unwrap();
    ending.commit().await.unwrap();
    let kept = place.text("select string_agg(sha256, '') from blob").await;
    assert_eq!(kept, "ab".repeat(32));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_comes_again_is_young_again() {
    let place = Place::new().await;
    let folder = Folder::new().await;
    let sha256 = folder.put(b"again").await;
    folder.make_old(&sha256);
    folder.put(b"again").await;
    assert_eq!(
        place.store.sweep_blobs(&folder.blobs, None).await.unwrap(),
        Swept::default()
    );
    assert!(folder.has(&sha256).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_left_on_its_way_in_goes_when_its_successor_begins() {
    let folder = Folder::new().await;
    let other = folder.blobs.incoming_of("other:/data").await.unwrap();
    let files = [other.join("output"), folder.incoming.join("output")];
    for file in &files {
        std::fs::write(file, "cut off").unwrap();
    }
    let again = folder.blobs.incoming_of("here:/data").await.unwrap();
    assert_eq!(again, folder.incoming);
    assert!(!files[1].exists());
    assert!(files[0].exists(), "another process may be at it");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_missing_or_cut_short_violates_an_invariant() {
    let place = Place::new().await;
    let folder = Folder::new().await;
    let [whole, cut, gone] = [&b"whole"[..], b"cut", b"gone"].map(hash);
    folder.put(b"whole").await;
    folder.put(b"cut").await;
    std::fs::write(folder.file(&cut), "cu").unwrap();
    place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    let mut end = finished(&claim, good());
    end.artifacts = vec![output(&whole, 5), output(&cut, 3), output(&gone, 4)];
    for (name, kept) in ["a", "b", "c"].iter().zip(&mut end.artifacts) {
        kept.name = name.parse().unwrap();
    }
    place.store.finish_attempt(end, None).await.unwrap();
    let violation = place.store.check_blobs(&folder.blobs).await.unwrap();
    let mut rows = violation.expect("two are not whole").rows;
    let mut expected = [
        format!(r#"{{"sha256":"{cut}","size":3,"stored":2}}"#),
        format!(r#"{{"sha256":"{gone}","size":4,"stored":null}}"#),
    ];
    rows.sort();
    expected.sort();
    assert_eq!(rows, expected);
}
