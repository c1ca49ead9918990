//! Metrics.

use trainyard_api::Metric;

use trainyard_core::text::short_commit;

use crate::view::screen::Screen;
use crate::view::table::{Rows, cell, moment};
use trainyard_present::quantity::number;

/// Metrics, of the newest runs first.
pub(crate) fn list(metrics: &[Metric], screen: Screen) -> String {
    let heads = [
        "RUN", "DAG", "STAGE", "METRIC", "VALUE", "COMMIT", "RUN MADE",
    ];
    let mut rows = Rows::new(&heads, screen)
        .right(0)
        .right(4)
        .moments(6)
        .names(&[1, 2, 3])
        .droppable(&[5, 6])
        .whole();
    for metric in metrics {
        rows.add(vec![
            cell(metric.run.to_string()),
            cell(&metric.dag),
            cell(&metric.stage),
            cell(&metric.name),
            cell(number(metric.value)),
            cell(short_commit(&metric.commit)),
            moment(metric.at, screen),
        ]);
    }
    rows.text("no metrics; a stage reports them with `metrics: metrics.json`")
}
