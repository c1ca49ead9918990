//! The log pump against a ledger that stores nothing for a while, in virtual time.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;
use trainyard_core::Timestamp;
use trainyard_core::artifact::{ArtifactContent, KeptOutput};
use trainyard_core::event::AttemptEnd;
use trainyard_core::id::AttemptId;
use trainyard_executor::{
    AttemptSpec, Containers, Error, Handle, Listed, LogCursor, LogFrame, LogStream, Status, Stream,
};
use trainyard_orchestrator::attempt::ledger::{FencedOff, Ledger};
use trainyard_orchestrator::attempt::log_lines::Batch;
use trainyard_orchestrator::attempt::log_pump::{LogEnd, LogPump};
use trainyard_orchestrator::attempt::mask::Masker;
use uuid::Uuid;

/// The size of a frame, as Docker sends them.
const FRAME: usize = 16 * 1024;

/// How long the rest of the log of an ended container may take.
const DRAIN: Duration = Duration::from_secs(30);

/// A Docker engine with one long log, that counts how far it was read.
struct Engine {
    frames: u64,
    read: &'static AtomicU64,
}

fn frame(number: u64) -> LogFrame {
    let text = format!("{number:0>width$}\n", width = FRAME - 1);
    LogFrame {
        stream: Stream::Stdout,
        at: Timestamp::from_timestamp(0, 0).unwrap_or_default(),
        bytes: Bytes::from(text),
        cursor: LogCursor {
            major: 0,
            minor: number as i64,
        },
    }
}

impl Containers for Engine {
    fn kind(&self) -> &'static str {
        "test"
    }

    async fn logs(&self, _: &Handle, after: Option<LogCursor>) -> Result<LogStream, Error> {
        let read = self.read;
        let from = after.map_or(0, |cursor| cursor.minor as u64);
        let frames = futures_util::stream::iter(from + 1..=self.frames).map(move |number| {
            read.fetch_max(number, Ordering::Relaxed);
            Ok(frame(number))
        });
        Ok(Box::pin(frames))
    }

    async fn create(&self, _: &AttemptSpec) -> Result<Handle, Error> {
        unreachable!("only the log is read")
    }

    async fn start(&self, _: &Handle) -> Result<(), Error> {
        unreachable!("only the log is read")
    }

    async fn inspect(&self, _: &Handle) -> Result<Option<Status>, Error> {
        unreachable!("only the log is read")
    }

    async fn wait(&self, _: &Handle) -> Result<Status, Error> {
        unreachable!("only the log is read")
    }

    async fn stop(&self, _: &Handle, _: Duration) -> Result<(), Error> {
        unreachable!("only the log is read")
    }

    async fn remove(&self, _: &Handle) -> Result<(), Error> {
        unreachable!("only the log is read")
    }

    async fn ping(&self) -> Result<(), Error> {
        unreachable!("only the log is read")
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        unreachable!("only the log is read")
    }
}

/// A ledger that stores nothing before a moment, and little at a time after it.
struct Slow {
    takes_from: Instant,
    each: Duration,
    kept: Mutex<Vec<u8>>,
}

impl Ledger for Slow {
    type Next = ();

    async fn append_log(&self, batch: Batch) -> Result<(), FencedOff> {
        tokio::time::sleep_until(self.takes_from).await;
        tokio::time::sleep(self.each).await;
        self.kept
            .lock()
            .map_err(|_| FencedOff)?
            .extend_from_slice(&batch.text);
        Ok(())
    }

    async fn created(&self, _: &Handle, _: &[String]) -> Result<(), FencedOff> {
        unreachable!("only the log is written")
    }

    async fn started(&self, _: Option<&str>, _: Option<Timestamp>) -> Result<(), FencedOff> {
        unreachable!("only the log is written")
    }

    async fn timeout_passed(&self) {
        unreachable!("only the log is written")
    }

    async fn keep(&self, _: &Path, _: &ArtifactContent) -> Result<(), String> {
        unreachable!("only the log is written")
    }

    async fn finished(&self, _: AttemptEnd, _: Vec<KeptOutput>) -> Result<(), FencedOff> {
        unreachable!("only the log is written")
    }

    async fn removed(&self) {
        unreachable!("only the log is written")
    }
}

/// The numbers of the frames that were kept, in order.
fn kept(ledger: &Slow) -> Vec<u64> {
    let kept = ledger.kept.lock().map(|kept| kept.clone());
    let text = String::from_utf8(kept.unwrap_or_default()).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_ledger_after_the_program_has_ended_costs_neither_memory_nor_the_end_of_the_log()
 {
    static READ: AtomicU64 = AtomicU64::new(0);
    let engine = Engine {
        frames: 2000,
        read: &READ,
    };
    let outage = 10 * DRAIN;
    let ledger = Slow {
        takes_from: Instant::now() + outage,
        // In all longer than the rest of a log may be silent.
        each: Duration::from_secs(2),
        kept: Mutex::default(),
    };
    let handle = Handle {
        attempt: AttemptId(Uuid::nil()),
        container: "c".to_owned(),
    };
    let gone = watch::Sender::new(true);
    let mut pump = LogPump::new(Masker::default(), None);
    let follow = pump.follow(&engine, &handle, &ledger, gone.subscribe(), DRAIN);
    let look = async {
        tokio::time::sleep(outage / 2).await;
        READ.load(Ordering::Relaxed)
    };
    let (end, read_in_the_outage) = tokio::join!(follow, look);
    assert!(
        read_in_the_outage * FRAME as u64 <= 1 << 20,
        "{read_in_the_outage} frames were read while nothing was taken"
    );
    assert_eq!(end, Ok(LogEnd::Whole));
    let expected: Vec<u64> = (1..=engine.frames).collect();
    assert_eq!(kept(&ledger), expected);
}
