//! Masking: keeps the values of secrets out of logs and messages.
//!
//! A net, not a boundary: a stage that wants to leak a secret can. It catches the value itself and
//! the forms in which programs print it by accident: base64 at each of the three offsets, hex, and
//! escaped for URLs and JSON. Secrets of several lines are caught line by line, so no pattern holds a
//! line break and a line can be masked by itself.

use std::borrow::Cow;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// What stands in a log in place of a secret.
pub const MASK: &str = "***";

/// Shorter values are not masked: they would blot out ordinary text and hide nothing.
pub const SHORTEST: usize = 4;

/// Replaces the secrets of one attempt. Cheap to clone.
#[derive(Clone, Default)]
pub struct Masker {
    patterns: Arc<Patterns>,
}

#[derive(Default)]
struct Patterns {
    /// Nothing is shown: not all secrets are known.
    everything: bool,
    automaton: Option<AhoCorasick>,
    /// Longest first, for the tail check.
    texts: Vec<Vec<u8>>,
}

impl Masker {
    /// A masker of these secret values.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut texts: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            for line in secret.lines().map(str::trim_end) {
                if line.len() >= SHORTEST {
                    texts.extend(forms(line));
                }
            }
        }
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        texts.dedup();
        if texts.is_empty() {
            return Self::default();
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&texts)
            .ok();
        Self {
            patterns: Arc::new(Patterns {
                everything: false,
                automaton,
                texts,
            }),
        }
    }

    /// A masker for secrets that are not known any more: nothing passes it.
    #[must_use]
    pub fn of_everything() -> Self {
        Self {
            patterns: Arc::new(Patterns {
                everything: true,
                ..Patterns::default()
            }),
        }
    }

    /// The bytes with every secret replaced. What holds none is not copied.
    #[must_use]
    pub fn mask<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if self.patterns.everything && !bytes.is_empty() {
            return Cow::Borrowed(MASK.as_bytes());
        }
        let Some(automaton) = &self.patterns.automaton else {
            return Cow::Borrowed(bytes);
        };
        let mut masked = Vec::new();
        let mut copied = 0;
        for found in automaton.find_iter(bytes) {
            masked.extend_from_slice(&bytes[copied..found.start()]);
            masked.extend_from_slice(MASK.as_bytes());
            copied = found.end();
        }
        if copied == 0 {
            return Cow::Borrowed(bytes);
        }
        masked.extend_from_slice(&bytes[copied..]);
        Cow::Owned(masked)
    }

    /// The text with every secret replaced.
    #[must_use]
    pub fn mask_text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.mask(text.as_bytes())).into_owned()
    }

    /// How many bytes at the end may be the beginning of a secret that goes on later.
    #[must_use]
    pub fn open_tail(&self, bytes: &[u8]) -> usize {
        let longest = self.patterns.texts.first().map_or(0, |text| text.len() - 1);
        (1..=longest.min(bytes.len()))
            .rev()
            .find(|length| {
                let tail = &bytes[bytes.len() - length..];
                self.patterns
                    .texts
                    .iter()
                    .any(|text| text.len() > *length && text.starts_with(tail))
            })
            .unwrap_or(0)
    }
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masker({} patterns)", self.patterns.texts.len())
    }
}

fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let mut forms = vec![
        bytes.to_vec(),
        STANDARD.encode(bytes).into_bytes(),
        hex::encode(bytes).into_bytes(),
        hex::encode_upper(bytes).into_bytes(),
        percent_encoded(bytes),
        json_escaped(secret),
    ];
    // Within a longer base64 text the value starts at one of three offsets; the characters that it
    // shares with its neighbours are left out.
    for offset in 0..3 {
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let mut padded = vec![0; offset];
            padded.extend_from_slice(bytes);
            let encoded = engine.encode(&padded).into_bytes();
            let first = [0, 2, 3][offset];
            let last = encoded.len() - usize::from(padded.len() % 3 != 0);
            if last > first {
                forms.push(encoded[first..last].to_vec());
            }
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

fn percent_encoded(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            encoded.push(*byte);
        } else {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    encoded
}

fn json_escaped(text: &str) -> Vec<u8> {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.as_bytes()[1..quoted.len() - 1].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2/pa ss\"w";

    fn masker() -> Masker {
        Masker::new([SECRET])
    }

    #[test]
    fn where_secrets_are_not_known_nothing_is_shown() {
        let masker = Masker::of_everything();
        assert_eq!(masker.mask_text("anything at all"), MASK);
        assert_eq!(masker.mask_text(""), "");
        assert_eq!(masker.open_tail(b"anything"), 0);
    }

    #[track_caller]
    fn hides(printed: &str) {
        let masked = masker().mask_text(printed);
        assert!(masked.contains(MASK), "{printed} came out as {masked}");
        assert!(!masked.contains("hunter2"), "{masked}");
    }

    #[test]
    fn the_value_and_its_usual_forms_are_replaced() {
        hides(&format!("dsn={SECRET};"));
        hides(&hex::encode(SECRET));
        hides("q=hunter2%2Fpa%20ss%22w&x=1");
        hides(&serde_json::json!({ "password": SECRET }).to_string());
        for prefix in ["", "u", "us", "user:"] {
            let printed = STANDARD.encode(format!("{prefix}{SECRET} and more"));
            let masked = masker().mask_text(&printed);
            assert!(
                masked.contains(MASK),
                "{prefix}: {printed} came out as {masked}"
            );
        }
    }

    #[test]
    fn each_line_of_a_long_secret_is_a_secret() {
        let masker = Masker::new(["-----BEGIN KEY-----\nMIIEabcdef\n-----END KEY-----\n"]);
        assert_eq!(masker.mask_text("got MIIEabcdef"), "got ***");
    }

    #[test]
    fn very_short_values_are_left_alone() {
        assert_eq!(Masker::new(["abc", ""]).mask_text("abcabc"), "abcabc");
    }

    #[test]
    fn a_tail_that_may_become_a_secret_is_held_back() {
        assert_eq!(masker().open_tail(b"password is hunt"), 4);
        assert_eq!(masker().open_tail(b"password is h"), 1);
        assert_eq!(masker().open_tail(b"nothing"), 0);
        assert_eq!(masker().open_tail(SECRET.as_bytes()), 0);
    }
}
