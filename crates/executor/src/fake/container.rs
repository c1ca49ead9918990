//! One container of the fake: its state follows from when it was started and which calls came since.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;
use trainyard_core::Timestamp;
use trainyard_core::id::{AttemptId, Fence};

use super::script::{End, Program};
use crate::clock;
use crate::contract::{Handle, Listed, LogCursor, LogFrame, Status};
use crate::spec::{AttemptSpec, SpecHash};

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    Created,
    Running {
        started: Instant,
        since: Timestamp,
    },
    Exited {
        started: Instant,
        ended: Instant,
        since: Timestamp,
        code: i32,
        out_of_memory: bool,
    },
    Unknown,
    Vanished,
}

/// The next item of a log.
pub(super) enum Next {
    Frame(LogFrame),
    Wait(Option<Instant>),
    End,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) spec_hash: SpecHash,
    /// The fence of the claim that created it.
    fence: Fence,
    /// The highest fence of any create.
    pub(super) newest_fence: Fence,
    pub(super) program: Arc<Program>,
    pub(super) life: Life,
    /// Whether a wait is under way.
    pub(super) waited_for: bool,
    /// Its state was changed from outside.
    pub(super) changed: Arc<Notify>,
}

impl Container {
    pub(super) fn new(spec: &AttemptSpec, program: Program) -> Self {
        Self {
            spec_hash: spec.hash(),
            fence: spec.fence,
            newest_fence: spec.fence,
            program: Arc::new(program),
            life: Life::Created,
            waited_for: false,
            changed: Arc::new(Notify::new()),
        }
    }

    pub(super) fn start(&mut self, now: Instant) {
        self.life = Life::Running {
            started: now,
            since: clock::now(),
        };
        self.changed.notify_waiters();
        self.settle(now);
    }

    /// When it ends by itself, if it runs and ever ends.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        match self.life {
            Life::Running { started, .. } => self.program.length.map(|length| started + length),
            Life::Created | Life::Exited { .. } | Life::Unknown | Life::Vanished => None,
        }
    }

    /// Brings the state up to `now`.
    pub(super) fn settle(&mut self, now: Instant) {
        let (Life::Running { started, since }, Some(ended)) = (self.life.clone(), self.ends_at())
        else {
            return;
        };
        if ended <= now {
            self.life = match self.program.end {
                End::Exit {
                    code,
                    out_of_memory,
                } => Life::Exited {
                    started,
                    ended,
                    since,
                    code,
                    out_of_memory,
                },
                End::Vanish => Life::Vanished,
                End::Unknown => Life::Unknown,
            };
            self.changed.notify_waiters();
        }
    }

    /// Ends a running program from outside.
    pub(super) fn kill(&mut self, now: Instant, code: i32) {
        if let Life::Running { started, since } = self.life {
            self.life = Life::Exited {
                started,
                ended: now,
                since,
                code,
                out_of_memory: false,
            };
            self.changed.notify_waiters();
        }
    }

    pub(super) fn status(&self) -> Status {
        match self.life {
            Life::Created => Status::Created,
            Life::Running { since, .. } => Status::Running { since },
            Life::Exited {
                started,
                ended,
                since,
                code,
                out_of_memory,
            } => Status::Exited {
                code,
                out_of_memory,
                since,
                at: since + (ended - started),
            },
            Life::Unknown | Life::Vanished => Status::Unknown,
        }
    }

    pub(super) fn listed(&self, attempt: AttemptId) -> Listed {
        Listed {
            handle: Handle {
                attempt,
                container: format!("fake-{attempt}"),
            },
            fence: self.fence,
            spec_hash: self.spec_hash.clone(),
            status: match self.status() {
                status @ (Status::Created | Status::Running { .. }) => status,
                Status::Exited { .. } | Status::Unknown => Status::Unknown,
            },
        }
    }

    pub(super) fn next_frame(&self, read: usize, now: Instant) -> Next {
        let (started, since, until) = match self.life {
            Life::Created | Life::Vanished | Life::Unknown => return Next::End,
            Life::Running { started, since } => (started, since, None),
            Life::Exited {
                started,
                ended,
                since,
                ..
            } => (started, since, Some(ended)),
        };
        let Some(printed) = self.program.printed.get(read) else {
            return if until.is_some() {
                Next::End
            } else {
                Next::Wait(self.ends_at())
            };
        };
        let due = started + printed.after;
        match until {
            Some(until) if due > until => Next::End,
            None if due > now => Next::Wait(Some(due)),
            Some(_) | None => Next::Frame(LogFrame {
                stream: printed.stream,
                at: since + printed.after,
                bytes: printed.bytes.clone(),
                cursor: LogCursor {
                    major: i64::try_from(read + 1).unwrap_or(i64::MAX),
                    minor: 0,
                },
            }),
        }
    }
}
