//! The report of a garbage collection.

use trainyard_api::GcReport;
use trainyard_core::measure::in_units;

use crate::view::detail::Detail;

pub(crate) fn report(report: &GcReport) -> String {
    let mut detail = Detail::default();
    detail.line("runs", report.runs.to_string());
    detail.line("logs of runs that stay", report.logs.to_string());
    detail.line("webhook deliveries", report.deliveries.to_string());
    detail.line("DAG versions", report.dag_versions.to_string());
    let files = format!(
        "{} ({})",
        report.artifact_files,
        in_units(report.artifact_bytes)
    );
    detail.line("artifact files", files);
    detail.text(if report.dry_run {
        "would remove"
    } else {
        "removed"
    })
}
