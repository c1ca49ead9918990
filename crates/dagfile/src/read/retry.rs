//! `retry` and `resources`, which stages and defaults share.

use std::time::Duration;

use trainyard_core::outcome::Outcome;
use trainyard_core::retry::Retry;
use trainyard_core::stage::Resources;

use super::fields::{self, Fields};
use super::{keys, unsupported};
use crate::diagnostic::Sink;
use crate::tree::Node;

/// The most attempts, and the most lost ones that are replaced.
const ATTEMPTS_AT_MOST: i64 = 100;

const WAITS: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);

/// Reads `retry` over the values that hold without it.
pub(super) fn retry(node: &Node, below: &Retry, sink: &mut Sink<'_>) -> Retry {
    let mut retry = below.clone();
    let Some(fields) = Fields::of(node, "`retry`", keys::RETRY, sink) else {
        return retry;
    };
    let mut count = |key: &str, least: i64| {
        let node = fields.get(key)?;
        let number = fields::integer(node, &format!("`{key}`"), least..=ATTEMPTS_AT_MOST, sink)?;
        u32::try_from(number).ok()
    };
    retry.attempts = count("attempts", 1).unwrap_or(retry.attempts);
    retry.lost = count("lost", 0).unwrap_or(retry.lost);
    if let Some(node) = fields.get("on") {
        let choices = Retry::CHOICES.map(|outcome| (outcome.as_str(), outcome));
        let named = fields::list_or_one(node, "`on`", sink);
        retry.on = named
            .into_iter()
            .filter_map(|node| {
                fields::one_of::<Outcome>(node, "an outcome to retry on", &choices, sink)
            })
            .collect();
    }
    let mut wait = |key: &str| fields::duration(fields.get(key)?, &format!("`{key}`"), WAITS, sink);
    let (backoff, max) = (wait("backoff"), wait("max"));
    retry.backoff = backoff.unwrap_or(retry.backoff);
    retry.max = max.unwrap_or(retry.max).max(retry.backoff);
    if let Some(node) = fields.get("factor")
        && let Some(factor) = fields::number(node, "`factor`", sink)
    {
        if (1.0..=100.0).contains(&factor) {
            retry.factor = factor;
        } else {
            fields::invalid(
                &node.span,
                format!("`factor` must be from 1 to 100, not {factor}"),
                sink,
            );
        }
    }
    if let (Some(backoff), Some(max), Some(node)) = (backoff, max, fields.get("max"))
        && max < backoff
    {
        fields::invalid(
            &node.span,
            "`max` is shorter than `backoff`".to_owned(),
            sink,
        );
    }
    retry
}

/// Reads `resources` over the values that hold without it.
pub(super) fn resources(node: &Node, below: &Resources, sink: &mut Sink<'_>) -> Resources {
    let mut resources = below.clone();
    let Some(fields) = Fields::of(node, "`resources`", keys::RESOURCES, sink) else {
        return resources;
    };
    if let Some(node) = fields.get("cpus")
        && let Some(cpus) = fields::number(node, "`cpus`", sink)
    {
        if (0.01..=1024.0).contains(&cpus) {
            resources.cpus = Some(cpus);
        } else {
            fields::invalid(
                &node.span,
                format!("`cpus` must be from 0.01 to 1024, not {cpus}"),
                sink,
            );
        }
    }
    let mut size = |key: &str, least: u64| {
        fields::size(
            fields.get(key)?,
            &format!("`{key}`"),
            least..=16 << 40,
            sink,
        )
    };
    resources.memory = size("memory", 6 << 20).or(resources.memory);
    resources.shm = size("shm", 1 << 10).or(resources.shm);
    if let Some(node) = fields.get("pids") {
        let pids = fields::integer(node, "`pids`", 1..=4_194_304, sink);
        resources.pids = pids
            .and_then(|pids| u32::try_from(pids).ok())
            .or(resources.pids);
    }
    unsupported::resources(&fields, sink);
    resources
}
