//! What is looked for: the parts of a secret, and the forms in which tools print bytes.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use trainyard_core::secret::SHORTEST_REDACTED as SHORTEST;
use url::Url;

/// Parts of a value, such as a password within an address, are often words: shorter ones are left alone.
const SHORTEST_PART: usize = 8;

/// Most bytes of encoded forms. What is more than that is not looked for: the values themselves always are.
const FORMS_AT_MOST: usize = 1 << 20;

/// Names of parameters that hold something secret.
const TELLING: [&str; 7] = ["pass", "pwd", "token", "secret", "key", "sig", "credential"];

/// What is looked for.
#[derive(Debug, Default)]
pub(super) struct Forms {
    /// Texts that are looked for as a whole.
    pub(super) whole: BTreeSet<Vec<u8>>,
    /// Texts of which any run is looked for that is long enough: tools break them into lines.
    pub(super) runs: BTreeSet<Run>,
    bytes: usize,
}

/// A text of which parts are looked for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) text: Vec<u8>,
    piece: usize,
}

impl Run {
    /// Pieces of it, and where each is. Any run of nearly twice their length has one in it, as does a shorter one at
    /// the beginning or the end.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let last = self.text.len() - self.piece;
        let places = (0..last).step_by(self.piece).chain([last]);
        places.map(|at| (at, &self.text[at..at + self.piece]))
    }
}

impl Forms {
    pub(super) fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms = Self::default();
        let mut values = BTreeSet::new();
        for secret in secrets {
            for line in secret.lines().map(str::trim) {
                if line.len() >= SHORTEST {
                    values.insert(line.to_owned());
                }
            }
            let parts = parts(secret.trim());
            for line in parts.iter().flat_map(|part| part.lines()).map(str::trim) {
                if line.len() >= SHORTEST_PART {
                    values.insert(line.to_owned());
                }
            }
            // As a file with several lines is encoded.
            let whole = secret.trim_end();
            if whole.contains('\n') && whole.len() >= SHORTEST {
                forms.encode(whole.as_bytes());
            }
        }
        for value in &values {
            forms.whole.insert(value.clone().into_bytes());
        }
        for value in &values {
            forms.encode(value.as_bytes());
        }
        forms
    }

    fn encode(&mut self, bytes: &[u8]) {
        if self.bytes + 24 * bytes.len() > FORMS_AT_MOST {
            return;
        }
        self.bytes += 24 * bytes.len();
        self.add(STANDARD.encode(bytes).into_bytes(), 8);
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
                    self.add(encoded[first..last].to_vec(), 8);
                }
            }
        }
        for digits in [hex::encode(bytes), hex::encode_upper(bytes)] {
            for separator in [":", " "] {
                let pairs: Vec<&str> = (0..bytes.len())
                    .map(|at| &digits[2 * at..2 * at + 2])
                    .collect();
                self.add(pairs.join(separator).into_bytes(), 24);
            }
            self.add(digits.into_bytes(), 16);
        }
    }

    /// A text that tools may break into lines.
    fn add(&mut self, text: Vec<u8>, piece: usize) {
        if text.len() < SHORTEST {
            return;
        }
        if text.len() < 2 * piece {
            self.whole.insert(text);
            return;
        }
        self.runs.insert(Run { text, piece });
    }
}

/// What within a value is as secret as all of it: texts in JSON, the password in an address or in a list of
/// parameters.
fn parts(value: &str) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    if value.starts_with(['{', '[', '"'])
        && let Ok(json) = serde_json::from_str::<Value>(value)
    {
        texts(&json, &mut parts);
    }
    if let Ok(url) = Url::parse(value) {
        if let Some(password) = url.password() {
            parts.insert(password.to_owned());
            parts.insert(
                percent_decode_str(password)
                    .decode_utf8_lossy()
                    .into_owned(),
            );
        }
        for (name, value) in url.query_pairs() {
            if is_telling(&name) {
                parts.insert(value.into_owned());
            }
        }
    }
    // The parser of addresses encodes what stands in them as it is.
    if let Some((_, rest)) = value.split_once("://")
        && let Some((user, _)) = rest.rsplit_once('@')
        && let Some((_, password)) = user.split_once(':')
    {
        parts.insert(password.to_owned());
    }
    for word in value.split([' ', ';', '&', '\n', ',']) {
        if let Some((name, value)) = word.split_once('=')
            && is_telling(name)
        {
            parts.insert(value.trim_matches(['\'', '"']).to_owned());
        }
    }
    parts
}

fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|word| name.contains(word))
}

fn texts(json: &Value, into: &mut BTreeSet<String>) {
    match json {
        Value::String(text) => {
            into.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(fields) => fields.values().for_each(|field| texts(field, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
