//! Long answers: waiting for an end, and following a log. They break where Docker goes down or
//! the connection does, and some fall silent for good.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use trainyard_executor::{Error, ErrorKind, LogCursor, LogFrame, LogStream};

use crate::engine::{Engine, Id, NextFrame, Refusal};
use crate::network::misfortune;
use crate::process::{Peer, Process};

/// How a long answer fares.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// It falls silent for good after so long.
    hangs: Option<Duration>,
    /// It breaks off after so long.
    breaks: Option<Duration>,
}

impl Fate {
    fn draw(engine: &Engine) -> Self {
        let world = &engine.world;
        let after = |strikes: bool| strikes.then(|| world.draw(|random| random.millis(0, 8_000)));
        Self {
            hangs: after(world.strikes(|weather| weather.hang)),
            breaks: after(world.strikes(|weather| weather.lose_answer)),
        }
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::Unreachable, "the connection broke")
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::NotFound => Error::new(ErrorKind::Gone, "no such container"),
        Refusal::Down | Refusal::Conflict | Refusal::Refused | Refusal::Broken => broken(),
    }
}

async fn after(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Passes when `change` has come, or so much time; not where the connection breaks.
async fn next_change(
    engine: &Engine,
    process: &Process,
    fate: Fate,
    change: impl Future<Output = ()>,
    wait: Option<Duration>,
) -> Result<(), Error> {
    tokio::select! {
        biased;
        () = engine.broken.notified() => Err(broken()),
        () = process.broken.notified() => {
            if engine.world.draw(|random| random.chance(300)) {
                std::future::pending::<()>().await;
            }
            Err(broken())
        }
        () = after(fate.hangs) => std::future::pending().await,
        () = after(fate.breaks) => Err(broken()),
        () = change => Ok(()),
        () = after(wait) => Ok(()),
    }
}

/// Waits until a container does not run.
pub(super) async fn until_it_stops(
    engine: &Engine,
    process: &Arc<Process>,
    id: Id,
) -> Result<(), Error> {
    misfortune(&engine.world, process).await;
    let fate = Fate::draw(engine);
    loop {
        if process.is_cut_off(Peer::Engine) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            return Err(broken());
        }
        let seen = engine.see(id, |container, _| {
            let running = container.is_running();
            running.then(|| Arc::clone(&container.changed).notified_owned())
        });
        match seen {
            Ok(Some(changed)) => next_change(engine, process, fate, changed, None).await?,
            outcome => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                return outcome.map(drop).map_err(refused);
            }
        }
    }
}

/// The log after a cursor.
pub(super) fn log(
    engine: Arc<Engine>,
    process: Arc<Process>,
    id: Id,
    after: Option<LogCursor>,
) -> LogStream {
    let read = after.map_or(0, |cursor| {
        usize::try_from(cursor.major).unwrap_or_default()
    });
    let fate = Fate::draw(&engine);
    let reader = Reader {
        engine,
        process,
        id,
        read,
        fate,
    };
    Box::pin(stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(frame)) => Some((Ok(frame), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))
}

struct Reader {
    engine: Arc<Engine>,
    process: Arc<Process>,
    id: Id,
    read: usize,
    fate: Fate,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<LogFrame>, Error> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        loop {
            if self.process.is_cut_off(Peer::Engine) {
                return Err(broken());
            }
            if self.fate.hangs == Some(Duration::ZERO) {
                std::future::pending::<()>().await;
            }
            let seen = self.engine.see(self.id, |container, now| {
                let changed = Arc::clone(&container.changed).notified_owned();
                (container.frame(self.read, now), changed)
            });
            match seen.map_err(refused)? {
                (NextFrame::Frame(frame), _) => {
                    self.read += 1;
                    return Ok(Some(frame));
                }
                (NextFrame::End, _) => return Ok(None),
                (NextFrame::Wait(wait), changed) => {
                    next_change(&self.engine, &self.process, self.fate, changed, wait).await?;
                }
            }
        }
    }
}
