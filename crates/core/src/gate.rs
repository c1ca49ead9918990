//! Gates: conditions on a stage's own metrics that must hold for downstream stages to go on.

use std::collections::BTreeMap;

use crate::name::MetricName;

/// One condition of a gate. At least one bound is set; both bounds are inclusive.
#[derive(Debug, Clone, PartialEq)]
pub struct GateRule {
    /// The metric that must keep within the bounds.
    pub metric: MetricName,
    /// The smallest value that passes.
    pub min: Option<f64>,
    /// The largest value that passes.
    pub max: Option<f64>,
}

/// The rules that do not hold, one sentence part per rule; empty when the gate holds.
///
/// A metric that was not reported counts as refused: a gate that cannot be evaluated does not hold.
#[must_use]
pub fn refusals(rules: &[GateRule], metrics: &BTreeMap<MetricName, f64>) -> Vec<String> {
    rules
        .iter()
        .filter_map(|rule| {
            let Some(value) = metrics.get(&rule.metric) else {
                return Some(format!("{} was not reported", rule.metric));
            };
            if let Some(min) = rule.min
                && (value.is_nan() || *value < min)
            {
                return Some(format!(
                    "{} = {value} is below the minimum {min}",
                    rule.metric
                ));
            }
            if let Some(max) = rule.max
                && (value.is_nan() || *value > max)
            {
                return Some(format!(
                    "{} = {value} is above the maximum {max}",
                    rule.metric
                ));
            }
            None
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(pairs: &[(&str, f64)]) -> BTreeMap<MetricName, f64> {
        pairs
            .iter()
            .map(|(name, value)| (MetricName::new(*name).unwrap(), *value))
            .collect()
    }

    fn rule(min: Option<f64>, max: Option<f64>) -> GateRule {
        GateRule {
            metric: MetricName::new("auc").unwrap(),
            min,
            max,
        }
    }

    #[test]
    fn bounds_are_inclusive() {
        let rules = [rule(Some(0.85), Some(0.99))];
        assert!(refusals(&rules, &metrics(&[("auc", 0.85)])).is_empty());
        assert!(refusals(&rules, &metrics(&[("auc", 0.99)])).is_empty());
    }

    #[test]
    fn a_refusal_names_the_number_and_the_bound() {
        assert_eq!(
            refusals(&[rule(Some(0.85), None)], &metrics(&[("auc", 0.71)])),
            ["auc = 0.71 is below the minimum 0.85"]
        );
        assert_eq!(
            refusals(&[rule(None, Some(0.5))], &metrics(&[("auc", 0.71)])),
            ["auc = 0.71 is above the maximum 0.5"]
        );
    }

    #[test]
    fn a_missing_or_undefined_number_never_passes() {
        assert_eq!(
            refusals(&[rule(Some(0.0), None)], &metrics(&[])),
            ["auc was not reported"]
        );
        assert_eq!(
            refusals(&[rule(Some(0.0), None)], &metrics(&[("auc", f64::NAN)])).len(),
            1
        );
    }
}
