//! `trainyard schema`

use clap::Args;

use crate::failure::Done;
use crate::output;

/// Print the JSON Schema of DAG files, for editors
#[derive(Debug, Args)]
pub(crate) struct Schema {}

impl Schema {
    #[expect(clippy::unused_self, reason = "all commands are called alike")]
    pub(crate) fn call(self) -> Done {
        output::json(&trainyard_dagfile::json_schema())
    }
}
