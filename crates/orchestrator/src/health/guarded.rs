//! The executor as supervisors and loops call it.
//!
//! 1. Each call that says something about Docker is reported to the [`EngineWatch`]. No call is refused: an open
//!    breaker only keeps new attempts from being claimed.
//! 2. Calls that change something are made only during the caller's [`Tenure`]. After it, they do not return: their
//!    supervisor is about to be dropped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::stage::RelativePath;
use trainyard_executor::{
    AttemptSpec, Attempts, BlobSink, BuildImage, Containers, Error, Exit, Handle, ImageRequest,
    Listed, LogCursor, LogStream, PreparedImage, Proof, StageFolder, Status,
};

use crate::health::breaker::About;
use crate::health::engine_watch::EngineWatch;
use crate::health::lease::Tenure;

/// An executor whose calls are watched, and bound to a tenure.
#[derive(Debug, Clone)]
pub struct Guarded<E> {
    executor: E,
    watch: EngineWatch,
    /// The tenure of a supervisor; `None` for the loops, which belong to no attempt.
    tenure: Option<Tenure>,
}

impl<E> Guarded<E> {
    /// `executor`, reporting to `watch`.
    #[must_use]
    pub fn new(executor: E, watch: EngineWatch) -> Self {
        Self {
            executor,
            watch,
            tenure: None,
        }
    }

    /// The same for a supervisor, which may change something only during `tenure`.
    #[must_use]
    pub fn during(self, tenure: Tenure) -> Self {
        Self {
            tenure: Some(tenure),
            ..self
        }
    }

    /// Makes a call that only asks.
    async fn ask<T>(
        &self,
        about: About,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let result = call.await;
        self.watch.report(about, &result);
        result
    }

    /// Makes a call that changes something.
    async fn change<T>(
        &self,
        about: About,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if let Some(tenure) = &self.tenure {
            tenure.held().await;
        }
        self.ask(about, call).await
    }
}

impl<E: Containers> Containers for Guarded<E> {
    fn kind(&self) -> &'static str {
        self.executor.kind()
    }

    async fn engine_id(&self) -> Result<Option<String>, Error> {
        self.ask(About::Engine, self.executor.engine_id()).await
    }

    async fn create(&self, spec: &AttemptSpec) -> Result<Handle, Error> {
        self.change(About::Engine, self.executor.create(spec)).await
    }

    async fn start(&self, handle: &Handle) -> Result<(), Error> {
        self.change(about(handle), self.executor.start(handle))
            .await
    }

    async fn inspect(&self, handle: &Handle) -> Result<Option<Status>, Error> {
        self.ask(about(handle), self.executor.inspect(handle)).await
    }

    async fn wait(&self, handle: &Handle) -> Result<Status, Error> {
        self.ask(about(handle), self.executor.wait(handle)).await
    }

    async fn logs(&self, handle: &Handle, after: Option<LogCursor>) -> Result<LogStream, Error> {
        // Opening a log proves nothing: an error shows with the first frame.
        self.executor.logs(handle, after).await
    }

    async fn written(&self, handle: &Handle) -> Result<Option<u64>, Error> {
        // A slow count of files does not mean that Docker is away.
        self.executor.written(handle).await
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        self.change(about(handle), self.executor.stop(handle, grace))
            .await
    }

    async fn remove(&self, handle: &Handle) -> Result<(), Error> {
        self.change(about(handle), self.executor.remove(handle))
            .await
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        let listed = self.ask(About::Engine, self.executor.list()).await;
        if listed.is_ok() {
            self.watch.listed();
        }
        listed
    }

    async fn ping(&self) -> Result<(), Error> {
        self.ask(About::Engine, self.executor.ping()).await
    }

    async fn remove_networks(&self) -> Result<(), Error> {
        self.change(About::Engine, self.executor.remove_networks())
            .await
    }
}

impl<E: Attempts> Attempts for Guarded<E> {
    async fn prepare(
        &self,
        request: &ImageRequest,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        // An image belongs to no attempt: to make one ready twice changes nothing.
        self.ask(About::Engine, self.executor.prepare(request, progress))
            .await
    }

    fn starts_once(&self) -> bool {
        self.executor.starts_once()
    }

    async fn prove(&self, handle: &Handle, seen: &Exit) -> Result<Proof, Error> {
        self.ask(about(handle), self.executor.prove(handle, seen))
            .await
    }

    async fn collect(
        &self,
        handle: &Handle,
        output: &RelativePath,
        to: &Arc<dyn BlobSink>,
        limit: u64,
    ) -> Result<Option<ArtifactContent>, Error> {
        let collecting = self.executor.collect(handle, output, to, limit);
        self.ask(about(handle), collecting).await
    }

    async fn files(&self, handle: &Handle, folder: StageFolder) -> Result<Vec<String>, Error> {
        self.executor.files(handle, folder).await
    }

    async fn remove_unused_build_images(
        &self,
        before: Timestamp,
        wanted: &BTreeSet<String>,
    ) -> Result<Vec<BuildImage>, Error> {
        let removing = self.executor.remove_unused_build_images(before, wanted);
        self.change(About::Engine, removing).await
    }
}

fn about(handle: &Handle) -> About {
    About::Container(handle.attempt)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use tokio::time::{Instant, timeout};
    use trainyard_core::id::{AttemptId, DaemonId, Fence, InstanceId, RunId};
    use trainyard_executor::Limits;
    use trainyard_executor::fake::Fake;
    use uuid::Uuid;

    use super::*;
    use crate::health::lease::Lease;

    const LENGTH: Duration = Duration::from_secs(15);

    const LONG: Duration = Duration::from_secs(3600);

    /// The reports about Docker, in order.
    type Reports = Arc<Mutex<Vec<Option<String>>>>;

    fn guarded(fake: &Fake) -> (Guarded<Fake>, Reports) {
        let reports = Reports::default();
        let to = Arc::clone(&reports);
        let daemon = DaemonId(Uuid::nil());
        let watch = EngineWatch::new(daemon, None, move |what| to.lock().unwrap().push(what));
        (Guarded::new(fake.clone(), watch), reports)
    }

    fn spec() -> AttemptSpec {
        AttemptSpec {
            attempt: AttemptId(Uuid::nil()),
            instance: InstanceId(Uuid::nil()),
            repo: None,
            run: RunId(1),
            dag: "dag".parse().unwrap(),
            stage: "stage".parse().unwrap(),
            number: 1,
            fence: Fence(1),
            image: "any".to_owned(),
            command: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            source: None,
            inputs: Vec::new(),
            outputs: false,
            limits: Limits::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_its_tenure_a_supervisor_asks_docker_and_changes_nothing() {
        let fake = Fake::new();
        let lease = Lease::new(Instant::now(), LENGTH);
        let (guarded, _) = guarded(&fake);
        let guarded = guarded.during(lease.tenure());
        let handle = guarded.create(&spec()).await.unwrap();
        tokio::time::advance(LENGTH).await;
        // A new tenure is not the supervisor's.
        lease.renewed(Instant::now(), 2 * LONG);
        assert!(timeout(LONG, guarded.create(&spec())).await.is_err());
        assert!(timeout(LONG, guarded.start(&handle)).await.is_err());
        assert!(timeout(LONG, guarded.stop(&handle, LENGTH)).await.is_err());
        assert!(timeout(LONG, guarded.remove(&handle)).await.is_err());
        let status = guarded.inspect(&handle).await;
        assert_eq!(status, Ok(Some(Status::Created)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_docker_engine_is_reported_once_when_it_falls_silent_and_once_when_it_answers() {
        let fake = Fake::new();
        let (guarded, reports) = guarded(&fake);
        let handle = guarded.create(&spec()).await.unwrap();
        fake.set_silent(true);
        for _ in 0..10 {
            // Neither says that Docker is away.
            assert!(guarded.written(&handle).await.is_err());
            assert!(guarded.logs(&handle, None).await.is_err());
        }
        assert_eq!(*reports.lock().unwrap(), []);
        for _ in 0..10 {
            assert!(guarded.ping().await.is_err());
        }
        let silent = || Some("Docker does not answer".to_owned());
        assert_eq!(*reports.lock().unwrap(), [silent()]);
        fake.set_silent(false);
        guarded.list().await.unwrap();
        assert_eq!(*reports.lock().unwrap(), [silent(), None]);
    }
}
