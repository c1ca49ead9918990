//! The search patterns of a masker: the parts of a secret, and the forms in which tools print bytes.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use trainyard_core::secret::{
    MOST_ENCODED, SHORTEST_REDACTED as SHORTEST, is_redacted_part, is_telling,
};
use url::Url;

/// The minimum cost of a value: a short one has as many forms as a long one.
const LEAST_COST: usize = 32;

/// The search patterns.
#[derive(Debug, Default)]
pub(super) struct Forms {
    /// Texts that are searched for as a whole.
    pub(super) whole: BTreeSet<Vec<u8>>,
    /// Texts of which every run that is long enough is searched for: tools break them into lines.
    pub(super) runs: BTreeSet<Run>,
    /// How many bytes were encoded, by [`MOST_ENCODED`].
    encoded: usize,
}

/// A text of which parts are searched for.
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
        places.map(|at| (at, self.piece_at(at)))
    }

    pub(super) fn piece_at(&self, at: usize) -> &[u8] {
        &self.text[at..at + self.piece]
    }
}

impl Forms {
    pub(super) fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms = Self::default();
        let mut values = BTreeSet::new();
        for secret in secrets {
            // `echo $SECRET` without quotes prints its words, with one space between them.
            let echoed = [secret]
                .into_iter()
                .chain(secret.lines())
                .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
            let lines = secret.lines().map(str::trim).map(str::to_owned);
            values.extend(lines.chain(echoed).filter(|text| text.len() >= SHORTEST));
            for (name, part) in parts(secret.trim()) {
                let lines = part.lines().map(str::trim);
                values.extend(
                    lines
                        .filter(|line| is_redacted_part(&name, line))
                        .map(str::to_owned),
                );
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
        // Passwords and keys before whole files.
        let mut values: Vec<String> = values.into_iter().collect();
        values.sort_by_key(String::len);
        for value in &values {
            forms.encode(value.as_bytes());
        }
        forms
    }

    fn encode(&mut self, bytes: &[u8]) {
        let cost = bytes.len().max(LEAST_COST);
        if self.encoded + cost > MOST_ENCODED {
            return;
        }
        self.encoded += cost;
        self.add(STANDARD.encode(bytes).into_bytes(), 8);
        // Within a longer base64 text the value starts at one of three offsets; the characters that it shares with
        // its neighbours are left out.
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
        let text = as_standard(&text);
        self.runs.insert(Run { text, piece });
    }
}

/// The text with the characters of one base64 alphabet in place of the other's; runs are converted in the same way.
pub(super) fn as_standard(text: &[u8]) -> Vec<u8> {
    let standard = text.iter().map(|sign| match sign {
        b'-' => b'+',
        b'_' => b'/',
        sign => *sign,
    });
    standard.collect()
}

/// The parts of a value that are as secret as all of it, each with its name there: strings in JSON, the password in
/// an address or in a list of parameters.
fn parts(value: &str) -> BTreeSet<(String, String)> {
    let mut parts = BTreeSet::new();
    if value.starts_with(['{', '[', '"'])
        && let Ok(json) = serde_json::from_str::<Value>(value)
    {
        texts("", &json, &mut parts);
    }
    let mut password = |text: String| parts.insert(("password".to_owned(), text));
    if let Ok(url) = Url::parse(value) {
        if let Some(text) = url.password() {
            password(text.to_owned());
            password(percent_decode_str(text).decode_utf8_lossy().into_owned());
        }
        for (name, value) in url.query_pairs() {
            if is_telling(&name) {
                password(value.into_owned());
            }
        }
    }
    // The URL parser percent-encodes literal characters, so the text is added as it stands, too.
    if let Some((_, rest)) = value.split_once("://")
        && let Some((user, _)) = rest.rsplit_once('@')
        && let Some((_, text)) = user.split_once(':')
    {
        password(text.to_owned());
    }
    for word in value.split([' ', ';', '&', '\n', ',']) {
        if let Some((name, value)) = word.split_once('=')
            && is_telling(name)
        {
            password(value.trim_matches(['\'', '"']).to_owned());
        }
    }
    parts
}

/// All strings of a JSON value, each with its nearest name.
fn texts(name: &str, json: &Value, into: &mut BTreeSet<(String, String)>) {
    match json {
        Value::String(text) => {
            into.insert((name.to_owned(), text.clone()));
        }
        Value::Array(items) => items.iter().for_each(|item| texts(name, item, into)),
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, item)| texts(name, item, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
