//! All containers of a fake engine, and how callers used them.

use std::collections::HashMap;

use tokio::time::Instant;
use trainyard_core::id::AttemptId;

use super::container::{Container, Life};
use super::script::{Call, Program};
use crate::contract::Handle;
use crate::error::{Error, ErrorKind};
use crate::spec::AttemptSpec;

#[derive(Default)]
pub(super) struct State {
    pub(super) containers: HashMap<AttemptId, Container>,
    /// How often each attempt's program ran; kept when its container is removed.
    pub(super) runs: HashMap<AttemptId, u32>,
    pub(super) trouble: HashMap<(AttemptId, Call), u32>,
    pub(super) misuse: Vec<String>,
}

impl State {
    pub(super) fn broken(&mut self, what: String) -> Error {
        let message = format!("the executor contract is broken: {what}");
        self.misuse.push(message.clone());
        Error::new(ErrorKind::Mismatch, message)
    }

    /// The call's container with its state brought up to now, unless the script disturbs the call.
    pub(super) fn reach(
        &mut self,
        call: Call,
        attempt: AttemptId,
    ) -> Result<Option<&mut Container>, Error> {
        self.disturb(call, attempt)?;
        // A call for a container that this engine never had finds nothing, as after Docker was replaced. Only to start
        // it, or to collect from it, breaks the contract.
        let needs_create = matches!(call, Call::Start | Call::Collect);
        if needs_create && !self.runs.contains_key(&attempt) {
            return Err(self.broken(format!("{call:?} of attempt {attempt} before its create")));
        }
        if let Some(container) = self.containers.get_mut(&attempt) {
            container.settle(Instant::now());
            if container.life == Life::Vanished {
                self.containers.remove(&attempt);
            }
        }
        Ok(self.containers.get_mut(&attempt))
    }

    pub(super) fn disturb(&mut self, call: Call, attempt: AttemptId) -> Result<(), Error> {
        match self.trouble.get_mut(&(attempt, call)) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(no_answer())
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn create(&mut self, spec: &AttemptSpec) -> Result<Handle, Error> {
        let attempt = spec.attempt;
        let handle = Handle {
            attempt,
            container: format!("fake-{attempt}"),
        };
        if let Some(found) = self.containers.get_mut(&attempt) {
            if found.spec_hash != spec.hash() {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!("a container of attempt {attempt} exists with another spec"),
                ));
            }
            if spec.fence < found.newest_fence {
                let newest = found.newest_fence;
                return Err(self.broken(format!(
                    "create of attempt {attempt} with fence {}, after one with fence {newest}: \
                     this supervisor was fenced off",
                    spec.fence
                )));
            }
            found.newest_fence = spec.fence;
            self.disturb(Call::Create, attempt)?;
            return Ok(handle);
        }
        if self.runs.contains_key(&attempt) {
            return Err(self.broken(format!("create of attempt {attempt} after its remove")));
        }
        let program =
            Program::read(spec).map_err(|problem| Error::new(ErrorKind::Start, problem))?;
        for (call, times) in &program.trouble {
            self.trouble.entry((attempt, *call)).or_insert(*times);
        }
        self.disturb(Call::Create, attempt)?;
        if program.image_missing {
            return Err(Error::new(
                ErrorKind::ImageNotFound,
                format!("the fake engine has no image `{}`", spec.image),
            ));
        }
        self.runs.insert(attempt, 0);
        self.containers
            .insert(attempt, Container::new(spec, program));
        Ok(handle)
    }

    pub(super) fn start(&mut self, attempt: AttemptId) -> Result<(), Error> {
        let container = self
            .reach(Call::Start, attempt)?
            .ok_or_else(|| gone(attempt))?;
        if container.life != Life::Created {
            return Ok(());
        }
        if let Some(problem) = &container.program.start_error {
            return Err(Error::new(ErrorKind::Start, problem.clone()));
        }
        container.start(Instant::now());
        *self.runs.entry(attempt).or_default() += 1;
        Ok(())
    }

    pub(super) fn remove(&mut self, attempt: AttemptId) -> Result<(), Error> {
        match self.reach(Call::Remove, attempt)? {
            Some(container) if matches!(container.life, Life::Running { .. }) => Err(self.broken(
                format!("remove of attempt {attempt} while it runs, without stop"),
            )),
            Some(_) | None => {
                self.containers.remove(&attempt);
                Ok(())
            }
        }
    }
}

pub(super) fn no_answer() -> Error {
    Error::new(ErrorKind::Unreachable, "the fake engine does not answer")
}

pub(super) fn gone(attempt: AttemptId) -> Error {
    Error::new(
        ErrorKind::Gone,
        format!("the fake engine has no container of attempt {attempt}"),
    )
}
