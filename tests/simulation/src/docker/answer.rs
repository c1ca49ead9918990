//! Docker's answers, in the terms of the executor's contract.

use trainyard_executor::{Error, ErrorKind, Handle, Status};

use crate::engine::{Container, Id, Life, Refusal};
use crate::network::Silence;

/// Why a call brought nothing.
pub(super) enum Trouble {
    Silent,
    Said(Refusal),
}

impl From<Silence> for Trouble {
    fn from(_: Silence) -> Self {
        Self::Silent
    }
}

impl Trouble {
    pub(super) fn into_error(self) -> Error {
        let (kind, message) = match self {
            Self::Silent => (ErrorKind::Unreachable, "no answer"),
            Self::Said(Refusal::Down) => (ErrorKind::Unreachable, "connection refused"),
            Self::Said(Refusal::NotFound) => (ErrorKind::Gone, "no such container"),
            Self::Said(Refusal::Refused) => (ErrorKind::Start, "the program cannot be started"),
            Self::Said(Refusal::Conflict | Refusal::Broken) => (ErrorKind::Engine, "it broke"),
        };
        Error::new(kind, message)
    }
}

pub(super) fn id_of(handle: &Handle) -> Result<Id, Error> {
    let gone = |_| Error::new(ErrorKind::Gone, "no container has such an id");
    handle.container.parse().map_err(gone)
}

/// The meaning of a container's state. With the init in it, an exit code 0 counts with its marker only.
pub(super) fn status(container: &Container, init: bool) -> Status {
    match &container.life {
        Life::Created => Status::Created,
        Life::Running { since, .. } => Status::Running { since: *since },
        Life::Exited {
            code: 0,
            marker: false,
            ..
        } if init => Status::Unknown,
        Life::Exited {
            code,
            out_of_memory,
            since,
            at,
            ..
        } => Status::Exited {
            code: *code,
            out_of_memory: *out_of_memory,
            since: *since,
            at: *at,
        },
    }
}
