//! One container.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use trainyard_core::Timestamp;
use trainyard_core::id::{AttemptId, Fence};
use trainyard_executor::{AttemptSpec, LogCursor, LogFrame, SpecHash, Stream};

use crate::behaviour::Behaviour;

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    Created,
    Running {
        since: Timestamp,
        /// Its state afterwards, if the latch prevents its program.
        held_back: Option<Box<Life>>,
    },
    Exited {
        code: i32,
        out_of_memory: bool,
        since: Timestamp,
        at: Timestamp,
        /// Whether the init could still write down how the program ended.
        marker: bool,
    },
}

pub(crate) struct Container {
    pub(crate) attempt: AttemptId,
    /// The fence of the claim that created it.
    pub(crate) fence: Fence,
    pub(crate) spec_hash: SpecHash,
    pub(crate) behaviour: Arc<Behaviour>,
    pub(crate) life: Life,
    /// Counts its starts and ends, so that what was to end it earlier finds that it is too late.
    pub(crate) generation: u32,
    pub(crate) started_by: Option<Fence>,
    pub(crate) asked_to_end: bool,
    pub(crate) asked_by: Option<Fence>,
    pub(crate) laid_out: bool,
    pub(crate) changed: Arc<Notify>,
    /// Until when Docker says that it has no such container.
    pub(crate) overlooked_until: Option<Instant>,
    first_since: Timestamp,
    first_at: Option<Timestamp>,
}

/// The next part of a log.
pub(crate) enum NextFrame {
    Frame(LogFrame),
    /// Nothing yet; something may come so much later.
    Wait(Option<Duration>),
    End,
}

impl Container {
    pub(crate) fn new(spec: &AttemptSpec, behaviour: Behaviour) -> Self {
        Self {
            attempt: spec.attempt,
            fence: spec.fence,
            spec_hash: spec.hash(),
            behaviour: Arc::new(behaviour),
            life: Life::Created,
            generation: 0,
            started_by: None,
            asked_to_end: false,
            asked_by: None,
            laid_out: !needs_files(spec),
            changed: Arc::new(Notify::new()),
            overlooked_until: None,
            first_since: Timestamp::UNIX_EPOCH,
            first_at: None,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    pub(crate) fn runs_program(&self) -> bool {
        matches!(
            self.life,
            Life::Running {
                held_back: None,
                ..
            }
        )
    }

    pub(crate) fn since(&self) -> Timestamp {
        match &self.life {
            Life::Created => self.first_since,
            Life::Running { since, .. } | Life::Exited { since, .. } => *since,
        }
    }

    pub(crate) fn start(&mut self, now: Timestamp, by: Option<Fence>) {
        self.generation += 1;
        self.started_by = by;
        self.first_since = now;
        self.first_at = None;
        self.life = Life::Running {
            since: now,
            held_back: None,
        };
        self.changed.notify_waiters();
    }

    /// Runs without its program, and says what it was before.
    pub(crate) fn run_again(&mut self, now: Timestamp) -> Life {
        self.generation += 1;
        let before = self.life.clone();
        self.life = Life::Running {
            since: now,
            held_back: Some(Box::new(before.clone())),
        };
        self.changed.notify_waiters();
        before
    }

    /// Its state after a kill from outside.
    pub(crate) fn killed(&self, code: i32) -> Life {
        match &self.life {
            Life::Running {
                held_back: Some(before),
                ..
            } => (**before).clone(),
            Life::Running { since, .. } | Life::Exited { since, .. } => Life::Exited {
                code,
                out_of_memory: false,
                since: *since,
                at: *since,
                marker: false,
            },
            Life::Created => Life::Created,
        }
    }

    /// It ends so, now: by the time of Docker, a second end is the one that shows.
    pub(crate) fn end(&mut self, mut exited: Life, now: Timestamp) {
        self.generation += 1;
        if let Life::Exited { at, .. } = &mut exited {
            *at = now;
        }
        self.first_at.get_or_insert(now);
        self.life = exited;
        self.changed.notify_waiters();
    }

    /// The program's own exit code, where it had the time to exit.
    pub(crate) fn own_exit(&self) -> Option<i32> {
        match &self.life {
            Life::Exited {
                code, marker: true, ..
            } => Some(*code),
            Life::Created | Life::Running { .. } | Life::Exited { .. } => None,
        }
    }

    fn ran(&self, now: Timestamp) -> Duration {
        let until = self.first_at.unwrap_or(now);
        (until - self.first_since).to_std().unwrap_or_default()
    }

    /// All that it has printed in the end.
    pub(crate) fn printed(&self) -> Vec<u8> {
        let ran = self.ran(self.first_since);
        let pieces = self.behaviour.printed(ran);
        pieces.flat_map(|(_, piece)| piece).copied().collect()
    }

    /// The log's frame number `read`.
    pub(crate) fn frame(&self, read: usize, now: Timestamp) -> NextFrame {
        if self.life == Life::Created {
            return NextFrame::End;
        }
        let ran = self.ran(now);
        match (self.behaviour.printed(ran).nth(read), self.first_at) {
            (Some((after, piece)), _) => NextFrame::Frame(LogFrame {
                stream: Stream::Stdout,
                at: self.first_since + *after,
                bytes: Bytes::copy_from_slice(piece),
                cursor: LogCursor {
                    major: i64::try_from(read + 1).unwrap_or(i64::MAX),
                    minor: 0,
                },
            }),
            (None, Some(_)) => NextFrame::End,
            (None, None) => {
                let next = self.behaviour.prints.get(read).map(|(at, _)| *at);
                NextFrame::Wait(next.map(|at| at.saturating_sub(ran)))
            }
        }
    }
}

/// Whether files have to be laid out in it before it may be started.
pub(crate) fn needs_files(spec: &AttemptSpec) -> bool {
    spec.outputs || spec.source.is_some() || !spec.inputs.is_empty()
}
