//! docs/metrics.md lists exactly the metrics that exist.

use std::collections::BTreeSet;

use trainyard_daemon::telemetry::record_metrics;
use trainyard_store::fleet::metrics::{ALL, FREE_BYTES, Kind};

const PAGE: &str = include_str!("../../../docs/metrics.md");

fn documented() -> BTreeSet<String> {
    let table = PAGE
        .split_once("<!-- metrics:begin -->")
        .and_then(|(_, rest)| rest.split_once("<!-- metrics:end -->"))
        .map(|(table, _)| table)
        .expect("the page has its table");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(str::to_owned).collect()
}

#[test]
fn the_page_has_every_figure_with_what_it_says() {
    let known = ALL.iter().map(|figure| {
        let kind = match figure.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let label = figure
            .label
            .map_or(String::new(), |(name, _)| format!(" `{name}`"));
        let (name, says) = (figure.name, figure.says);
        format!("| `{name}` | {kind} |{label} | {says} |")
    });
    assert_eq!(documented(), known.collect());
}

#[test]
fn every_figure_is_shown_before_anything_has_happened() {
    let render = record_metrics().expect("the only recorder of this process");
    // The disks are known only once the daemon has checked them.
    FREE_BYTES.set_for("data", 1.0);
    let text = render.call();
    let shown: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let known: BTreeSet<&str> = ALL.iter().map(|figure| figure.name).collect();
    assert_eq!(shown, known, "{text}");
    assert!(
        text.contains("trainyard_attempts_finished_total{outcome=\"lost\"} 0"),
        "{text}"
    );
}
