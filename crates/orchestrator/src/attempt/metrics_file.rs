//! The metrics file of a stage: a flat JSON object of numbers.
//!
//! A training that diverged writes `NaN` or `Infinity`, which are not JSON, but Python's `json` writes them all the
//! same. They are read here so that messages can name them. All errors of a file are reported at once, and the valid
//! numbers are kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::Value;
use trainyard_core::name::MetricName;
use trainyard_core::text::shortened;

use crate::attempt::mask::Masker;

/// The largest metrics file, in bytes.
pub const LARGEST: u64 = 1024 * 1024;

/// The most metrics of one attempt.
pub const METRICS_AT_MOST: usize = 1_000;

/// The most errors of a file that are listed one by one.
const NAMED_AT_MOST: usize = 10;

/// Begins the strings that stand for numbers that JSON does not have. In a file it can only be written as an escape.
const NOT_FINITE: char = '\0';

/// The content of a metrics file.
#[derive(Debug, Default)]
pub struct MetricsRead {
    pub metrics: BTreeMap<MetricName, f64>,
    /// Its errors: sentence parts that follow the file's name.
    pub fault: Option<String>,
}

/// Reads a metrics file. Strings in it are redacted before they are shortened: half a secret would not be recognized.
#[must_use]
pub fn read(bytes: &[u8], masker: &Masker) -> MetricsRead {
    let fields = match fields(bytes) {
        Ok(fields) => fields,
        Err(fault) => {
            return MetricsRead {
                fault: Some(fault),
                ..MetricsRead::default()
            };
        }
    };
    let mut metrics = BTreeMap::new();
    let mut faults = Vec::new();
    for (name, value) in fields {
        match metric(&name, &value, masker) {
            Ok((metric, number)) => {
                if metrics.insert(metric, number).is_some() {
                    faults.push(format!("has metric `{name}` twice"));
                }
            }
            Err(fault) => faults.push(fault),
        }
    }
    MetricsRead {
        metrics,
        fault: all_of(faults),
    }
}

fn all_of(mut faults: Vec<String>) -> Option<String> {
    let more = faults.len().saturating_sub(NAMED_AT_MOST);
    if more > 0 {
        faults.truncate(NAMED_AT_MOST);
        faults.push(format!("has {more} more that are not valid"));
    }
    (!faults.is_empty()).then(|| faults.join(", "))
}

fn metric(name: &str, value: &Value, masker: &Masker) -> Result<(MetricName, f64), String> {
    if name.is_empty() {
        return Err("has a metric with an empty name".to_owned());
    }
    let metric = MetricName::new(name).map_err(|error| match masker.mask(name.as_bytes()) {
        Cow::Borrowed(_) => format!("has an invalid name: {error}"),
        Cow::Owned(_) => "has an invalid name, with a secret in it".to_owned(),
    })?;
    if let Some(number) = value.as_f64() {
        return Ok((metric, number));
    }
    let is = match value {
        Value::String(text) => match text.strip_prefix(NOT_FINITE) {
            Some(word) => format!("{word}, not a finite number"),
            None => format!(
                "the text {:?}, not a number",
                shortened(&masker.mask_text(text)).to_string()
            ),
        },
        Value::Array(_) => "a list, not a number".to_owned(),
        Value::Object(inner) => {
            let example = inner.keys().next().map_or("name", String::as_str);
            format!(
                "an object, not a number (write its numbers as metrics of their own, such as `{name}/{}`)",
                shortened(&masker.mask_text(example))
            )
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => format!("{value}, not a number"),
    };
    Err(format!("has metric `{name}`, which is {is}"))
}

/// The fields of the file's one object, in its order, repeated names included.
fn fields(bytes: &[u8]) -> Result<Vec<(String, Value)>, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| "is not JSON: its text is not UTF-8".to_owned())?
        .trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    let text = with_words_for_numbers(text);
    let mut json = serde_json::Deserializer::from_str(&text);
    let fields = json.deserialize_map(Fields).map_err(|error| {
        if error.is_data() {
            "is not a JSON object, as in {\"auc\": 0.93}".to_owned()
        } else {
            format!("is not JSON: {error}")
        }
    })?;
    json.end().map_err(|error| {
        format!(
            "is not one JSON object: something follows it at line {}",
            error.line()
        )
    })?;
    if fields.len() > METRICS_AT_MOST {
        return Err(format!(
            "has {} metrics, {METRICS_AT_MOST} are permitted",
            fields.len()
        ));
    }
    Ok(fields)
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

/// The text with `NaN`, `-Infinity`, `1e999` and the like as strings, where they stand as values.
fn with_words_for_numbers(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|sign: char| sign == '"' || is_of_a_word(sign)) {
        quoted.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with('"') {
            end_of_text(rest)
        } else {
            rest.find(|sign| !is_of_a_word(sign)).unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at(end);
        match token.parse::<f64>() {
            Ok(number) if !number.is_finite() => {
                quoted.push_str(&format!("\"\\u{:04x}{token}\"", u32::from(NOT_FINITE)));
            }
            Ok(_) | Err(_) => quoted.push_str(token),
        }
        rest = after;
    }
    quoted + rest
}

fn is_of_a_word(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || matches!(sign, '+' | '-' | '.')
}

/// Where the quoted string ends that the JSON begins with.
fn end_of_text(json: &str) -> usize {
    let mut escaped = false;
    for (at, sign) in json.bytes().enumerate().skip(1) {
        match sign {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Vec<(String, f64)> {
        let read = read(text.as_bytes(), &Masker::new([]));
        let metrics = read.metrics.iter();
        metrics
            .map(|(name, value)| (name.to_string(), *value))
            .collect()
    }

    #[track_caller]
    fn fault(text: &str) -> String {
        read(text.as_bytes(), &Masker::new([]))
            .fault
            .expect("a fault")
    }

    #[test]
    fn a_flat_object_of_numbers_is_read() {
        let text = "\u{feff}{\"auc\": 0.93, \"val/rows\": 569, \"small\": 1e-400}\r\n";
        let read = read(text.as_bytes(), &Masker::new([]));
        assert_eq!(read.fault, None);
        assert_eq!(read.metrics[&MetricName::new("auc").unwrap()], 0.93);
        assert_eq!(read.metrics[&MetricName::new("val/rows").unwrap()], 569.0);
    }

    #[test]
    fn numbers_that_json_does_not_have_are_named() {
        for (value, says) in [
            (
                "NaN",
                "has metric `loss`, which is NaN, not a finite number",
            ),
            ("Infinity", "which is Infinity, not a finite number"),
            ("-Infinity", "which is -Infinity, not a finite number"),
            ("nan", "which is nan, not a finite number"),
            ("-inf", "which is -inf, not a finite number"),
            ("1e999", "which is 1e999, not a finite number"),
        ] {
            let fault = fault(&format!(r#"{{"auc": 0.9, "loss": {value}}}"#));
            assert!(fault.ends_with(says), "{value}: {fault}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once_and_the_rest_is_kept() {
        let text =
            r#"{"loss": NaN, "auc": 0.9, "val": {"auc": 1}, "note": "NaN", "n": null, "l": [1]}"#;
        assert_eq!(
            fault(text),
            "has metric `loss`, which is NaN, not a finite number, \
             has metric `val`, which is an object, not a number \
             (write its numbers as metrics of their own, such as `val/auc`), \
             has metric `note`, which is the text \"NaN\", not a number, \
             has metric `n`, which is null, not a number, \
             has metric `l`, which is a list, not a number"
        );
        assert_eq!(numbers(text), [("auc".to_owned(), 0.9)]);
    }

    #[test]
    fn a_metric_that_stands_twice_is_named() {
        assert_eq!(fault(r#"{"a": 1, "a": 2}"#), "has metric `a` twice");
    }

    #[test]
    fn what_is_not_one_object_is_said() {
        assert!(fault("auc=1").starts_with("is not JSON"));
        assert!(fault("[1]").contains("not a JSON object"));
        assert!(fault("{\"a\": 1}\n{\"a\": 2}\n").ends_with("follows it at line 2"));
        assert_eq!(fault(" \n"), "is empty");
        assert!(fault(&"[".repeat(100_000)).contains("not a JSON object"));
        assert!(fault(&format!("{{\"a\":{}", "[".repeat(100_000))).starts_with("is not JSON"));
        assert!(
            read(b"\xff\xfe{\0", &Masker::new([]))
                .fault
                .unwrap()
                .contains("not UTF-8")
        );
    }

    #[test]
    fn names_that_metrics_cannot_have_are_said_with_the_rule() {
        assert!(fault(r#"{"": 1}"#).contains("empty name"));
        assert!(fault(r#"{"a\u0000b": 1}"#).contains(r"`a\0b` is not a valid metric name"));
        assert!(fault(r#"{"macro avg": 1}"#).contains("`macro avg` is not a valid metric name"));
    }

    #[test]
    fn class_10_a_secret_too_long_to_be_shown_whole_is_not_shown_in_part() {
        let secret = "s3cret-".repeat(40);
        let file =
            format!(r#"{{"text": "it is {secret}", "{secret}": 1, "object": {{"{secret}": 1}}}}"#);
        let fault = read(file.as_bytes(), &Masker::new([secret.as_str()])).fault;
        let fault = fault.expect("a fault");
        assert!(
            fault.contains("***") && !fault.contains("s3cret"),
            "{fault}"
        );
    }

    #[test]
    fn what_is_said_of_large_and_many_faults_is_short() {
        let large = fault(&format!(r#"{{"auc": "{}"}}"#, "ä".repeat(100_000)));
        assert!(large.len() < 400 && large.contains("`auc`"), "{large}");
        let many: Vec<String> = (0..500).map(|n| format!("\"m{n}\": NaN")).collect();
        let many = fault(&format!("{{{}}}", many.join(",")));
        assert!(many.len() < 800, "{many}");
        assert!(many.ends_with("has 490 more that are not valid"), "{many}");
    }

    #[test]
    fn words_for_numbers_within_texts_are_left_alone() {
        let text = r#"{"a": "x \" NaN", "NaN": 1, "b": NaN"#;
        assert_eq!(
            with_words_for_numbers(text),
            r#"{"a": "x \" NaN", "NaN": 1, "b": "\u0000NaN""#
        );
    }
}
