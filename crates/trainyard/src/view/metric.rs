//! Metrics.

use trainyard_api::Metric;

use crate::view::quantity::{commit, moment, number};
use crate::view::table::{Rows, cell};

/// Metrics, of the newest runs first.
pub(crate) fn list(metrics: &[Metric], width: Option<u16>) -> String {
    let heads = [
        "RUN",
        "DAG",
        "STAGE",
        "METRIC",
        "VALUE",
        "COMMIT",
        "RUN MADE (UTC)",
    ];
    let mut rows = Rows::new(&heads, width).right(0).right(4);
    for metric in metrics {
        rows.add(vec![
            cell(metric.run.to_string()),
            cell(&metric.dag),
            cell(&metric.stage),
            cell(&metric.name),
            cell(number(metric.value)),
            cell(commit(&metric.commit)),
            cell(moment(metric.at)),
        ]);
    }
    rows.text("no metrics; a stage reports them with `metrics: metrics.json`")
}
