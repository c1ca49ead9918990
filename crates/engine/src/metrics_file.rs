//! The metrics file of a stage: a flat JSON object of numbers.

use std::collections::BTreeMap;

use trainyard_core::name::MetricName;

/// The largest metrics file, in bytes.
pub const LARGEST: u64 = 1024 * 1024;

/// The most metrics of one attempt.
pub const METRICS_AT_MOST: usize = 1_000;

/// The most characters of a wrong value that are shown.
const SHOWN_AT_MOST: usize = 100;

/// Reads a metrics file.
///
/// # Errors
/// What is wrong with it, as a sentence part that names the key at fault.
pub fn read(bytes: &[u8]) -> Result<BTreeMap<MetricName, f64>, String> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| format!("is not JSON: {error}"))?;
    let serde_json::Value::Object(fields) = value else {
        return Err("is not a JSON object, as in {\"auc\": 0.93}".to_owned());
    };
    if fields.len() > METRICS_AT_MOST {
        return Err(format!(
            "has {} metrics, {METRICS_AT_MOST} are permitted",
            fields.len()
        ));
    }
    let read = |(name, value): (String, serde_json::Value)| {
        let metric = MetricName::new(name.as_str()).map_err(|error| error.to_string())?;
        let number = value
            .as_f64()
            .filter(|number| number.is_finite())
            .ok_or_else(|| {
                format!(
                    "holds `{name}`, which is {} and not a number",
                    short(&value)
                )
            })?;
        Ok((metric, number))
    };
    fields.into_iter().map(read).collect()
}

/// A value as it is shown: it can be as large as the file.
fn short(value: &serde_json::Value) -> String {
    let mut text = value.to_string();
    if let Some((end, _)) = text.char_indices().nth(SHOWN_AT_MOST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_object_of_numbers_is_read() {
        let metrics = read(br#"{"auc": 0.93, "rows": 569}"#).unwrap();
        assert_eq!(metrics[&MetricName::new("auc").unwrap()], 0.93);
        assert_eq!(metrics[&MetricName::new("rows").unwrap()], 569.0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let problem = |text: &str| read(text.as_bytes()).unwrap_err();
        assert!(problem("auc=1").starts_with("is not JSON"));
        assert!(problem("[1]").contains("not a JSON object"));
        assert!(problem(r#"{"auc": "good"}"#).contains("`auc`"));
        assert!(problem(r#"{"auc": {"x": 1}}"#).contains("`auc`"));
        let large = problem(&format!(r#"{{"auc": "{}"}}"#, "ä".repeat(100_000)));
        assert!(large.len() < 300 && large.contains("`auc`"), "{large}");
        assert!(problem(&"[".repeat(100_000)).starts_with("is not JSON"));
        assert!(problem(r#"{"": 1}"#).contains("metric name"));
        assert!(problem(r#"{"a\u0000b": 1}"#).starts_with(r"`a\0b` is not"));
    }
}
