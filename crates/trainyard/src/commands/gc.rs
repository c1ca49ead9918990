//! `trainyard gc`

use clap::Args;

use crate::connection::Connection;
use crate::failure::Done;
use crate::output::OutputArgs;
use crate::view;

/// Remove now what retention does not keep; the daemon does it by itself from time to time
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Only count
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    connection: Connection,
}

impl Gc {
    pub(crate) async fn call(self) -> Done {
        let report = self.connection.client()?.gc(self.dry_run).await?;
        self.output.show(&report, || view::gc::report(&report))
    }
}
