//! DAG files of a commit, read: on threads of their own, and for so long only.
//!
//! What somebody has pushed may be made to take long. Nobody else waits for it: neither the tasks of the
//! runtime nor, for more than moments, other repos. A file that takes too long has a fault that says so,
//! as one has that panics its parser, and is not read again until a commit changes it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::error;
use trainyard_core::text::without_nul;
use trainyard_forge::DagFileText;
use trainyard_store::DagAtCommit;

use crate::branch_trouble::BranchTrouble;
use crate::panics::panic_text;

/// Files that are read at the same time.
const FILES_AT_ONCE: usize = 4;

/// How long one file may take on a processor: a thousand times what is usual.
const FILE: Duration = Duration::from_secs(1);

/// How long it is waited for, on a machine that has other things to do.
const FILE_AT_MOST: Duration = Duration::from_secs(10);

/// How long the files of one commit may take.
const COMMIT: Duration = Duration::from_secs(30);

/// Reads DAG files. Clones share the threads.
#[derive(Debug, Clone)]
pub struct DagReader {
    threads: Arc<Semaphore>,
}

impl Default for DagReader {
    fn default() -> Self {
        Self::new()
    }
}

impl DagReader {
    /// With all its threads free.
    #[must_use]
    pub fn new() -> Self {
        Self {
            threads: Arc::new(Semaphore::new(FILES_AT_ONCE)),
        }
    }

    /// Reads the files of one commit.
    pub(crate) async fn read(
        &self,
        files: Vec<DagFileText>,
    ) -> Result<Vec<DagAtCommit>, BranchTrouble> {
        let end = Instant::now() + COMMIT;
        let mut read = Vec::with_capacity(files.len());
        for file in files {
            read.push(self.read_one(file, end, read_file).await?);
        }
        Ok(read)
    }

    async fn read_one(
        &self,
        file: DagFileText,
        end: Instant,
        parse: fn(&str, Result<String, String>) -> DagAtCommit,
    ) -> Result<DagAtCommit, BranchTrouble> {
        let path = file.path.clone();
        let too_long = |why: String| {
            error!(path, why, "a DAG file was given up");
            DagAtCommit {
                path: path.clone(),
                source: String::new(),
                dag: Err(unreadable(&path, &why)),
            }
        };
        if Instant::now() >= end {
            return Ok(too_long(format!(
                "the DAG files before this one took {} s to read; this one is not read",
                COMMIT.as_secs()
            )));
        }
        // The thread of a file that was given up is busy for as long as it is.
        let threads = Arc::clone(&self.threads).acquire_owned();
        let Ok(Ok(thread)) = tokio::time::timeout(COMMIT, threads).await else {
            return Err(BranchTrouble::Passing(format!(
                "no thread was free within {} s to read its DAG files",
                COMMIT.as_secs()
            )));
        };
        let reading = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            let before = processor_time();
            let read = parse(&file.path, file.text);
            (read, processor_time().saturating_sub(before))
        });
        match tokio::time::timeout(FILE_AT_MOST, reading).await {
            Ok(Ok((read, took))) if took <= FILE => Ok(read),
            Ok(Err(_)) => Err(BranchTrouble::Passing("the daemon is stopping".to_owned())),
            Ok(Ok(_)) | Err(_) => Ok(too_long(format!(
                "it takes longer than {} s to read",
                FILE.as_secs()
            ))),
        }
    }
}

/// What this thread has spent on a processor; other threads do not count.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Parses one DAG file of a commit.
#[must_use]
pub fn read_file(path: &str, text: Result<String, String>) -> DagAtCommit {
    let (source, dag) = match text {
        Ok(text) => {
            let dag = catch_unwind(AssertUnwindSafe(|| {
                let parsed = trainyard_dagfile::parse(path, &text);
                let faults = trainyard_dagfile::to_json(path, &parsed.diagnostics);
                parsed.dag.ok_or(faults)
            }))
            // A fault of ours; the other files go on.
            .unwrap_or_else(|panic| {
                let why = format!(
                    "reading it panicked, which is a bug: {}",
                    panic_text(&*panic)
                );
                error!(path, "{why}");
                Err(unreadable(path, &why))
            });
            (text, dag)
        }
        Err(why) => (String::new(), Err(unreadable(path, &why))),
    };
    DagAtCommit {
        path: path.to_owned(),
        source,
        dag,
    }
}

/// A diagnostic about a whole file, in the form of those that parsing makes.
fn unreadable(path: &str, why: &str) -> serde_json::Value {
    // A panic may quote anything, and no row takes a NUL.
    let why = without_nul(why);
    serde_json::json!([{
        "file": path, "severity": "error", "code": "unreadable", "message": why,
        "line": 1, "column": 1, "end_line": 1, "end_column": 1,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> DagFileText {
        DagFileText {
            path: path.to_owned(),
            text: Ok("stages: {a: {image: \"x:1\", run: \"true\"}}".to_owned()),
        }
    }

    fn spin(path: &str, _: Result<String, String>) -> DagAtCommit {
        let begun = processor_time();
        while processor_time().saturating_sub(begun) < FILE + Duration::from_millis(100) {}
        read_file(path, Err("never told".to_owned()))
    }

    #[tokio::test]
    async fn a_file_that_takes_too_long_has_a_fault_that_says_so() {
        let reader = DagReader::new();
        let end = Instant::now() + COMMIT;
        let read = reader
            .read_one(file("dags/slow.yaml"), end, spin)
            .await
            .unwrap();
        let fault = read.dag.unwrap_err().to_string();
        assert!(fault.contains("longer than 1 s"), "{fault}");
        let read = reader.read(vec![file("dags/good.yaml")]).await.unwrap();
        assert!(read[0].dag.is_ok(), "the next file is read");
    }

    #[tokio::test]
    async fn files_after_the_time_of_a_commit_are_not_read() {
        let reader = DagReader::new();
        let read = reader
            .read_one(file("dags/late.yaml"), Instant::now(), read_file)
            .await
            .unwrap();
        let fault = read.dag.unwrap_err().to_string();
        assert!(fault.contains("before this one took 30 s"), "{fault}");
    }
}
