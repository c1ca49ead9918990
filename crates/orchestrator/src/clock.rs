//! The one place where the orchestrator reads a clock.
//!
//! Decisions take their time from Postgres. This clock only stamps events outside of any transaction: the end of an
//! attempt that Docker cannot date, and the lines that Trainyard itself adds to a log.
//!
//! It is the host's clock, unless the caller replaced it with [`under`]: a simulation whose hosts disagree on the
//! time, or a test in which the clock jumps.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;
use trainyard_core::Timestamp;

tokio::task_local! {
    static CLOCK: Clock;
}

/// A clock to replace the host's. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock that returns what `read` does.
    pub fn new(read: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Runs `work` under this clock; tasks that it spawns do not see it.
pub fn under<F: Future>(clock: Clock, work: F) -> impl Future<Output = F::Output> {
    CLOCK.scope(clock, work)
}

/// The moment of the call.
#[must_use]
pub fn now() -> Timestamp {
    CLOCK.try_with(|clock| (clock.0)()).unwrap_or_else(|_| {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the module that the ban points to"
        )]
        let now = SystemTime::now();
        trainyard_failpoint::clock_shown(now).into()
    })
}

/// Returns at a moment of the monotonic clock; never where there is none.
pub(crate) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
