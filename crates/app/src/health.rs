//! Whether the daemon can do its work.

use trainyard_store::FailingSyncs;

use crate::{App, Result};

impl App {
    /// The repos whose syncs fail; `None` where all succeed.
    pub async fn failing_syncs(&self) -> Result<Option<FailingSyncs>> {
        Ok(self.store().failing_syncs().await?)
    }

    /// The problems that keep this daemon from working fully, each in words.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let troubles = self.store().health().problems();
        troubles.iter().map(ToString::to_string).collect()
    }

    /// Sets the metrics that only the database knows.
    pub async fn count_for_metrics(&self) -> Result<()> {
        Ok(self.store().count_for_metrics().await?)
    }
}
