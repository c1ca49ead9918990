//! `trainyard fail-points`, for tests.

use clap::Args;

use crate::failure::{Done, Failure};
use crate::output;

/// List the places at which a test can make the daemon fail, in a build that has them
#[derive(Debug, Args)]
pub(crate) struct FailPoints {}

impl FailPoints {
    #[expect(clippy::unused_self, reason = "all commands are called alike")]
    pub(crate) fn call(self) -> Done {
        let places = trainyard_failpoint::places().ok_or_else(|| {
            Failure::usage("this build has no fail points; build it with `--features fail-points`")
        })?;
        output::raw((places.join("\n") + "\n").as_bytes())
    }
}
