//! One connection through the proxy: two pumps, and the state that faults leave it in.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::Shared;
use super::address::Stream;
use super::rule::Action;
use super::wire::{Cutter, Dialogue, Direction, Unit};

/// How much is read at a time.
const READ: usize = 64 * 1024;

/// Why a connection ends before its peers end it.
enum End {
    /// Closed in order, or as a cut wire is seen: both look the same to a peer that waits.
    Closed,
    Reset,
}

/// The effect of faults on the connection as a whole.
#[derive(Debug)]
struct Condition {
    dialogue: Dialogue,
    /// The exchange whose answer is dropped.
    drop_answer_to: Option<u64>,
    black_hole: bool,
    budget: Option<u64>,
}

struct Connection {
    number: u64,
    shared: Arc<Shared>,
    condition: Mutex<Condition>,
}

/// Serves a client until either side or a fault ends it.
pub(super) async fn serve(client: Stream, number: u64, shared: Arc<Shared>) {
    let connection = Connection {
        number,
        condition: Mutex::new(Condition {
            dialogue: Dialogue::new(shared.protocol),
            drop_answer_to: None,
            black_hole: false,
            budget: None,
        }),
        shared: Arc::clone(&shared),
    };
    let mut cut = shared.cut.subscribe();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let work = connection.run(&mut from_client, &mut to_client);
    let end = tokio::select! {
        end = work => end,
        // An error means that the proxy itself is gone.
        _ = cut.changed() => End::Reset,
    };
    let client = from_client.unsplit(to_client);
    match end {
        End::Closed => drop(client),
        End::Reset => client.reset(),
    }
}

impl Connection {
    async fn run(
        &self,
        from_client: &mut ReadHalf<Stream>,
        to_client: &mut WriteHalf<Stream>,
    ) -> End {
        match self.strike(None) {
            None | Some(Action::Pass) => {}
            Some(Action::Delay { by, jitter }) => self.wait(by, jitter).await,
            Some(Action::CutAfter(bytes)) => self.condition().budget = Some(bytes),
            Some(Action::BlackHole) => {
                self.condition().black_hole = true;
                return swallow(from_client).await;
            }
            Some(Action::HangUp | Action::Reset) => return End::Reset,
            Some(Action::DropAnswer) => self.condition().drop_answer_to = Some(1),
        }
        let Ok(upstream) = Stream::connect(&self.shared.upstream).await else {
            // The upstream is missing: the client sees its connection end.
            return End::Reset;
        };
        let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
        let requests = self.pump(Direction::Request, from_client, &mut to_upstream);
        let answers = self.pump(Direction::Answer, &mut from_upstream, to_client);
        match tokio::try_join!(requests, answers) {
            Ok(_) => End::Closed,
            Err(end) => end,
        }
    }

    /// Passes on what comes one way until its end.
    async fn pump(
        &self,
        direction: Direction,
        from: &mut ReadHalf<Stream>,
        to: &mut WriteHalf<Stream>,
    ) -> Result<(), End> {
        let mut cutter = Cutter::new(direction);
        let mut buffer = vec![0; READ];
        loop {
            let count = from.read(&mut buffer).await.map_err(|_| End::Reset)?;
            if count == 0 {
                let rest = cutter.remainder();
                if !self.condition().black_hole {
                    self.forward(&rest, to).await?;
                    // The other direction may go on; a peer that is gone cannot be notified.
                    let _ = to.shutdown().await;
                }
                return Ok(());
            }
            let units = cutter.cut(&buffer[..count], &mut self.condition().dialogue);
            for unit in units {
                self.pass(direction, unit, to).await?;
            }
        }
    }

    async fn pass(
        &self,
        direction: Direction,
        unit: Unit,
        to: &mut WriteHalf<Stream>,
    ) -> Result<(), End> {
        if self.condition().black_hole {
            return Ok(());
        }
        match self.strike(Some((direction, &unit))) {
            None | Some(Action::Pass) => {}
            Some(Action::Delay { by, jitter }) => self.wait(by, jitter).await,
            Some(Action::CutAfter(bytes)) => self.condition().budget = Some(bytes),
            Some(Action::BlackHole) => {
                self.condition().black_hole = true;
                return Ok(());
            }
            Some(Action::HangUp) => {
                self.forward(&unit.bytes, to).await?;
                return Err(End::Closed);
            }
            Some(Action::Reset) => return Err(End::Reset),
            Some(Action::DropAnswer) => {
                self.condition().drop_answer_to = Some(unit.exchange);
            }
        }
        let dropped = direction == Direction::Answer
            && self.condition().drop_answer_to == Some(unit.exchange);
        if !dropped {
            return self.forward(&unit.bytes, to).await;
        }
        if unit.concludes {
            Err(End::Closed)
        } else {
            Ok(())
        }
    }

    async fn forward(&self, bytes: &[u8], to: &mut WriteHalf<Stream>) -> Result<(), End> {
        let (passing, cut) = {
            let mut condition = self.condition();
            match &mut condition.budget {
                None => (bytes.len(), false),
                Some(budget) => {
                    let passing = bytes
                        .len()
                        .min(usize::try_from(*budget).unwrap_or(usize::MAX));
                    *budget -= passing as u64;
                    (passing, *budget == 0)
                }
            }
        };
        to.write_all(&bytes[..passing])
            .await
            .map_err(|_| End::Closed)?;
        if cut { Err(End::Closed) } else { Ok(()) }
    }

    async fn wait(&self, by: std::time::Duration, jitter: std::time::Duration) {
        let wait = self.shared.book().dice().between(by, by + jitter);
        tokio::time::sleep(wait).await;
    }

    fn strike(&self, passing: Option<(Direction, &Unit)>) -> Option<Action> {
        self.shared.book().strike(self.number, passing)
    }

    fn condition(&self) -> std::sync::MutexGuard<'_, Condition> {
        self.condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads and answers nothing until the client closes the connection.
async fn swallow(from: &mut ReadHalf<Stream>) -> End {
    let mut buffer = vec![0; READ];
    while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    End::Closed
}
