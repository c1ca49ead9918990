//! Helpers to write the promises with: specs, and reading logs and outputs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use trainyard_core::artifact::{ArtifactContent, ArtifactKind};
use trainyard_core::id::{AttemptId, Fence, RunId};
use trainyard_core::name::{DagName, InputName, StageName};
use trainyard_core::render::RenderedCommand;
use trainyard_core::stage::RelativePath;
use uuid::Uuid;

use super::{Candidate, Program};
use crate::blob::{BlobSink, InMemory};
use crate::contract::{Attempts, Containers, Handle, LogCursor, LogFrame, Status, Stream};
use crate::error::Error;
use crate::spec::{AttemptSpec, InputSpec, Limits};

/// Longer than anything in the suite takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A subject with all that one promise needs.
pub struct Kit<S: Candidate> {
    pub subject: S,
}

impl<S: Candidate> std::fmt::Debug for Kit<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kit").finish_non_exhaustive()
    }
}

/// The output of a program, by stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Printed {
    pub stdout: String,
    pub stderr: String,
}

impl<S: Candidate> Kit<S> {
    /// A kit around a subject.
    pub fn new(subject: S) -> Self {
        Self { subject }
    }

    /// A spec of a new attempt that runs a program, with nothing else.
    ///
    /// # Panics
    /// Never: the names are valid.
    pub fn spec(&self, program: &Program<'_>) -> AttemptSpec {
        self.spec_of(self.subject.program(program))
    }

    /// A spec of a new attempt that runs a command, with nothing else.
    ///
    /// # Panics
    /// Never: the names are valid.
    pub fn spec_of(&self, command: RenderedCommand) -> AttemptSpec {
        AttemptSpec {
            attempt: AttemptId(Uuid::now_v7()),
            instance: self.subject.instance(),
            repo: None,
            run: RunId(1),
            dag: DagName::new("suite").expect("a valid name"),
            stage: StageName::new("stage").expect("a valid name"),
            number: 1,
            fence: Fence(1),
            image: self.subject.image().to_owned(),
            command: Some(command),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            source: None,
            inputs: Vec::new(),
            outputs: false,
            limits: Limits::default(),
        }
    }

    pub fn add_secret(spec: &mut AttemptSpec, name: &str, value: &str) {
        spec.secrets
            .insert(name.to_owned(), SecretString::from(value.to_owned()));
    }

    /// Adds an input that is a file.
    ///
    /// # Panics
    /// If the name is invalid.
    pub fn add_input(spec: &mut AttemptSpec, name: &str, content: &str) {
        spec.inputs.push(InputSpec {
            name: InputName::new(name).expect("a valid name"),
            content: ArtifactContent {
                kind: ArtifactKind::File,
                sha256: hex::encode(Sha256::digest(content)),
                size: content.len() as u64,
            },
            blob: Arc::new(InMemory::from(content.as_bytes().to_vec())),
        });
    }

    /// Creates and starts.
    ///
    /// # Panics
    /// If either fails.
    pub async fn start(&self, executor: &S::Executor, spec: &AttemptSpec) -> Handle {
        let handle = executor.create(spec).await.expect("a created container");
        executor.start(&handle).await.expect("a started program");
        handle
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it fails or takes too long.
    pub async fn end(&self, executor: &S::Executor, handle: &Handle) -> Status {
        let waiting = tokio::time::timeout(PATIENCE, executor.wait(handle));
        waiting.await.expect("an end in time").expect("a known end")
    }

    /// Creates, starts, and waits for the exit code.
    ///
    /// # Panics
    /// If any of it fails.
    pub async fn run(&self, executor: &S::Executor, spec: &AttemptSpec) -> (Handle, i32) {
        let handle = self.start(executor, spec).await;
        match self.end(executor, &handle).await {
            Status::Exited { code, .. } => (handle, code),
            other => panic!("it did not end with a code: {other:?}"),
        }
    }

    /// The frames of a log after a cursor.
    ///
    /// # Panics
    /// If the log fails or does not end.
    pub async fn frames(
        &self,
        executor: &S::Executor,
        handle: &Handle,
        after: Option<LogCursor>,
    ) -> Vec<LogFrame> {
        let stream = executor.logs(handle, after).await.expect("an open log");
        let reading = stream.map(|frame| frame.expect("a frame")).collect();
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("the end of the log in time")
    }

    /// The first thing that a running program prints.
    ///
    /// # Panics
    /// If it prints nothing.
    pub async fn first_frame(&self, executor: &S::Executor, handle: &Handle) -> LogFrame {
        let mut log = executor.logs(handle, None).await.expect("an open log");
        let first = tokio::time::timeout(PATIENCE, log.next());
        first
            .await
            .expect("a frame in time")
            .expect("a first frame")
            .expect("a frame")
    }

    /// All that was printed.
    ///
    /// # Panics
    /// If the log fails or does not end.
    pub async fn printed(&self, executor: &S::Executor, handle: &Handle) -> Printed {
        joined(&self.frames(executor, handle, None).await)
    }
}

impl<S: Candidate<Executor: Attempts>> Kit<S> {
    /// Collects an output, and its bytes.
    ///
    /// # Errors
    /// The executor's error.
    ///
    /// # Panics
    /// If the path is invalid.
    pub async fn collect(
        &self,
        executor: &S::Executor,
        handle: &Handle,
        output: &str,
        limit: u64,
    ) -> Result<Option<(ArtifactContent, Vec<u8>)>, Error> {
        let kept = InMemory::default();
        let to: Arc<dyn BlobSink> = Arc::new(kept.clone());
        let path = RelativePath::new(output).expect("a valid path");
        let collected = executor.collect(handle, &path, &to, limit).await?;
        Ok(collected.map(|collected| (collected, kept.bytes())))
    }
}

/// Frames joined, by stream.
pub(super) fn joined(frames: &[LogFrame]) -> Printed {
    let of = |stream: Stream| -> String {
        let bytes: Vec<Bytes> = frames
            .iter()
            .filter(|frame| frame.stream == stream)
            .map(|frame| frame.bytes.clone())
            .collect();
        String::from_utf8_lossy(&bytes.concat()).into_owned()
    };
    Printed {
        stdout: of(Stream::Stdout),
        stderr: of(Stream::Stderr),
    }
}
