//! Fail points: a name for every commit to the database and every call to Docker, before and after it.
//!
//! A crash between two effects is where recovery has to be right, and chance rarely finds all of those places. In a
//! build with the feature `enabled` the environment says what happens at which of them, and how often; in any other
//! build a point costs nothing and does nothing.
//!
//! The wall clock of the process can be wrong there as well ([`CLOCK`]), and the process can stand for one of the next
//! version ([`NEXT_FORMAT`]).
//!
//! Points are one closed list, so that a test can go through all of them, and so that the program can print it. A
//! test of the workspace checks over the sources that no effect is without a point. These are the reasons for a crate
//! of our own: the crate `fail` lists only the points that are configured.

mod point;

#[cfg(feature = "enabled")]
mod clock;
#[cfg(feature = "enabled")]
mod plan;

use std::io;
#[cfg(feature = "enabled")]
use std::sync::LazyLock;
use std::time::SystemTime;

use futures_util::Stream;
#[cfg(feature = "enabled")]
use futures_util::{StreamExt as _, stream};

pub use self::point::{Point, Side};

/// A call with an effect outside of this process.
pub trait AtPoint: Future + Sized {
    /// The call, with a point before and after it. An injected failure looks like a connection that broke: before the
    /// call nothing has happened, after it everything has, and the caller cannot know which.
    fn at(self, point: Point) -> impl Future<Output = Self::Output>;
}

impl<F, T, E> AtPoint for F
where
    F: Future<Output = Result<T, E>>,
    E: From<io::Error>,
{
    #[cfg(not(feature = "enabled"))]
    #[inline]
    fn at(self, _: Point) -> impl Future<Output = Self::Output> {
        self
    }

    #[cfg(feature = "enabled")]
    async fn at(self, point: Point) -> Self::Output {
        plan::reach(point, Side::Before).await?;
        // Reached whatever the answer was.
        let answer = self.await;
        plan::reach(point, Side::After).await?;
        answer
    }
}

/// A call that is answered piece by piece.
pub trait Flow: Stream + Sized {
    /// The pieces, with a point before the first and one after the last.
    fn at(self, point: Point) -> impl Stream<Item = Self::Item>;
}

impl<S, T, E> Flow for S
where
    S: Stream<Item = Result<T, E>>,
    E: From<io::Error>,
{
    #[cfg(not(feature = "enabled"))]
    #[inline]
    fn at(self, _: Point) -> impl Stream<Item = Self::Item> {
        self
    }

    #[cfg(feature = "enabled")]
    fn at(self, point: Point) -> impl Stream<Item = Self::Item> {
        let reach = move |side| {
            // Only the failure is passed on.
            stream::once(plan::reach(point, side)).filter_map(|reached| {
                std::future::ready(reached.err().map(|error| Err(E::from(error))))
            })
        };
        reach(Side::Before).chain(self).chain(reach(Side::After))
    }
}

/// Reads what the environment asks for; a process should not start with half of it.
///
/// # Errors
/// The fault of the plan, or that this build supports no plan; for people.
pub fn check() -> Result<(), String> {
    #[cfg(feature = "enabled")]
    return plan::check().map_err(|bad| bad.to_string());
    #[cfg(not(feature = "enabled"))]
    match [PLAN, CLOCK, NEXT_FORMAT]
        .into_iter()
        .find(|name| std::env::var_os(name).is_some())
    {
        None => Ok(()),
        Some(name) => Err(format!(
            "{name} is set, and this build has no fail points; build it with `--features fail-points`"
        )),
    }
}

/// The time that this process sees where the host's clock shows `now`: the same, unless a file says
/// that its clock is wrong.
#[inline]
#[must_use]
pub fn clock_shown(now: SystemTime) -> SystemTime {
    #[cfg(feature = "enabled")]
    return clock::shown(now);
    #[cfg(not(feature = "enabled"))]
    now
}

/// Whether this process reads the format of stored documents after the latest one, as its next version may.
#[inline]
#[must_use]
pub fn reads_next_format() -> bool {
    #[cfg(feature = "enabled")]
    return *READS_NEXT_FORMAT;
    #[cfg(not(feature = "enabled"))]
    false
}

#[cfg(feature = "enabled")]
static READS_NEXT_FORMAT: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os(NEXT_FORMAT).is_some());

/// Every place that a plan can name, `store.finish.after`; `None` in a build without fail points.
#[must_use]
pub fn places() -> Option<Vec<String>> {
    let all = Point::ALL.iter();
    let places = all.flat_map(|point| Side::ALL.map(|side| format!("{point}.{side}")));
    cfg!(feature = "enabled").then(|| places.collect())
}

/// The variable with the plan: `store.finish.after=abort`, `docker.start_container.before=err@3` for the third time
/// only, `docker.logs.before=sleep:500` for 500 ms each time; several with `;` between them.
pub const PLAN: &str = "TRAINYARD_FAIL";

/// The variable with a file to which the process appends every place that it reaches, for the first nine times:
/// `store.finish.after@3`.
pub const REACHED: &str = "TRAINYARD_FAIL_REACHED";

/// The variable with a file that says by how many milliseconds the clock of this process is ahead of the
/// host's, as `-3600000` for one that is an hour behind; the file may change at any time.
pub const CLOCK: &str = "TRAINYARD_CLOCK";

/// The variable that makes the process read the next format, whose only new key it ignores.
pub const NEXT_FORMAT: &str = "TRAINYARD_NEXT_FORMAT";
