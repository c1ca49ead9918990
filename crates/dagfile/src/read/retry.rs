//! `retry` and `resources`, which stages and defaults share.

use std::time::Duration;

use trainyard_core::outcome::Outcome;
use trainyard_core::retry::Retry;
use trainyard_core::stage::Resources;

use super::FileReader;
use crate::document;
use crate::tree::Node;

/// The most attempts, and the most lost ones that are replaced.
const ATTEMPTS_AT_MOST: i64 = 100;

const WAITS: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);

impl FileReader<'_> {
    /// Reads `retry` over the values that hold without it.
    pub(super) fn retry(&mut self, node: &Node, below: &Retry) -> Retry {
        let mut retry = below.clone();
        let Some(fields) = self.fields(node, "`retry`", document::Retry::FORM) else {
            return retry;
        };
        let mut count = |key: &str, least: i64| {
            let node = fields.get(key)?;
            let number = self.integer(node, &format!("`{key}`"), least..=ATTEMPTS_AT_MOST)?;
            u32::try_from(number).ok()
        };
        retry.attempts = count("attempts", 1).unwrap_or(retry.attempts);
        retry.lost = count("lost", 0).unwrap_or(retry.lost);
        if let Some(node) = fields.get("on") {
            let choices = Retry::CHOICES.map(|outcome| (outcome.as_str(), outcome));
            let named = self.list_or_one(node, "`on`");
            retry.on = named
                .into_iter()
                .filter_map(|node| self.one_of::<Outcome>(node, "an outcome to retry on", &choices))
                .collect();
        }
        let mut wait = |key: &str| self.duration(fields.get(key)?, &format!("`{key}`"), WAITS);
        let (backoff, max) = (wait("backoff"), wait("max"));
        retry.backoff = backoff.unwrap_or(retry.backoff);
        retry.max = max.unwrap_or(retry.max).max(retry.backoff);
        if let Some(node) = fields.get("factor")
            && let Some(factor) = self.number(node, "`factor`")
        {
            if (1.0..=100.0).contains(&factor) {
                retry.factor = factor;
            } else {
                self.invalid(
                    &node.span,
                    format!("`factor` must be from 1 to 100, not {factor}"),
                );
            }
        }
        if let (Some(backoff), Some(max), Some(node)) = (backoff, max, fields.get("max"))
            && max < backoff
        {
            self.invalid(&node.span, "`max` is shorter than `backoff`".to_owned());
        }
        retry
    }

    /// Reads `resources` over the values that hold without it.
    pub(super) fn resources(&mut self, node: &Node, below: &Resources) -> Resources {
        let mut resources = below.clone();
        let Some(fields) = self.fields(node, "`resources`", document::Resources::FORM) else {
            return resources;
        };
        if let Some(node) = fields.get("cpus")
            && let Some(cpus) = self.number(node, "`cpus`")
        {
            if (0.01..=1024.0).contains(&cpus) {
                resources.cpus = Some(cpus);
            } else {
                self.invalid(
                    &node.span,
                    format!("`cpus` must be from 0.01 to 1024, not {cpus}"),
                );
            }
        }
        let mut size = |key: &str, least: u64| {
            self.size(fields.get(key)?, &format!("`{key}`"), least..=16 << 40)
        };
        resources.memory = size("memory", Resources::LEAST_MEMORY).or(resources.memory);
        resources.shm = size("shm", 1 << 10).or(resources.shm);
        if let Some(node) = fields.get("pids") {
            let pids = self.integer(node, "`pids`", 1..=4_194_304);
            resources.pids = pids
                .and_then(|pids| u32::try_from(pids).ok())
                .or(resources.pids);
        }
        resources
    }
}
