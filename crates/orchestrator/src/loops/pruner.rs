//! The pruner: retention. Removes data that is older than the configured rules keep, in small batches.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use trainyard_core::id::RepoId;
use trainyard_executor::{AnyExecutor, Attempts};
use trainyard_forge::Git;
use trainyard_store::{Blobs, Retention, Role, Store};

use crate::attempt::sources::Sources;
use crate::health::leadership::Leadership;

/// The time between two passes.
const TICK: Duration = Duration::from_secs(3600);

/// The first pass waits until the daemon's start is over.
const FIRST: Duration = Duration::from_secs(60);

/// Removes everything that retention does not keep.
#[derive(Debug)]
pub struct Pruner {
    pub store: Store,
    pub blobs: Arc<dyn Blobs>,
    /// Leftover source archives.
    pub sources: Sources,
    /// Mirrors: those of repos that were removed.
    pub git: Git,
    /// Images that were built for stages.
    pub executor: AnyExecutor,
    pub rule: Retention,
    /// Whether this daemon prunes the shared data.
    pub leadership: Leadership,
}

impl Pruner {
    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut wake = self.store.wakes().prune.subscribe();
        let mut wait = FIRST;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = wake.woken() => {}
                () = shutdown.cancelled() => return,
            }
            wait = TICK;
            self.pass().await;
        }
    }

    /// Removes once. Errors are logged: the next pass retries.
    pub async fn pass(&self) {
        if self.leadership.leads(Role::Pruner) {
            self.rows().await;
            self.artifacts().await;
        }
        // These are the daemon's own.
        self.source_archives().await;
        self.mirrors().await;
        self.images().await;
    }

    async fn rows(&self) {
        match self.store.prune(&self.rule, false).await {
            Ok(report) if report.is_empty() => {}
            Ok(report) => info!(?report, "old runs, logs and deliveries were removed"),
            Err(problem) => {
                error!(error = %problem, "old data could not be removed; will retry later")
            }
        }
    }

    async fn artifacts(&self) {
        match self.store.sweep_blobs(&*self.blobs, None).await {
            Ok(swept) if swept.files == 0 => {}
            Ok(swept) => info!(
                files = swept.files,
                bytes = swept.bytes,
                "unused artifacts were removed"
            ),
            Err(problem) => error!(error = %problem, "unused artifacts could not be removed"),
        }
    }

    async fn source_archives(&self) {
        match self.sources.prune().await {
            Ok((0, _)) => {}
            Ok((files, bytes)) => info!(files, bytes, "source archives were removed"),
            Err(problem) => error!(error = %problem, "source archives could not be removed"),
        }
    }

    /// Removes the mirrors of repos that another daemon removed, or that were removed just before this one ended. A repo
    /// that is added after the mirrors are listed has none among them.
    async fn mirrors(&self) {
        let removed = async {
            let mirrored = self.git.mirrored_repos().await.map_err(in_words)?;
            let mirrored: Vec<RepoId> = mirrored.into_iter().collect();
            let gone = self.store.removed_repos(&mirrored).await;
            for repo in gone.map_err(in_words)? {
                self.git.remove(repo).await.map_err(in_words)?;
                info!(%repo, "the mirror of a removed repo was removed");
            }
            Ok::<_, String>(())
        };
        if let Err(problem) = removed.await {
            error!(error = %problem, "mirrors of removed repos could not be removed; will retry");
        }
    }

    /// An image whose last use was long ago may be requested again between the two calls below. Then its container
    /// holds it, or its attempt ends `errored` and the next one builds it again.
    async fn images(&self) {
        let kept = match self.store.kept_images(&self.rule).await {
            Ok(kept) => kept,
            Err(problem) => {
                error!(error = %problem, "could not list unused images; will retry later");
                return;
            }
        };
        let removed = self
            .executor
            .remove_unused_build_images(kept.since, &kept.used);
        match removed.await {
            Ok(images) if images.is_empty() => {}
            Ok(images) => {
                let bytes: u64 = images.iter().map(|image| image.size).sum();
                info!(
                    images = images.len(),
                    bytes, "unused built images were removed"
                );
            }
            Err(problem) => error!(error = %problem, "unused built images could not be removed"),
        }
    }
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
