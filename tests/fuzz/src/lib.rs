//! Whether what comes from strangers can make the daemon panic, run long, or eat memory.
//!
//! It works on a stable compiler, without coverage feedback: inputs are made from samples and words
//! of each format by changing, repeating and nesting them (`mutate`), which is what finds costs out of proportion. An
//! input that breaks a bound is written to `found/TARGET/`, and a test tries all that are there from then on.
//!
//! ```text
//! cargo run --release -p trainyard-fuzz -- --seconds 60 [TARGET...]
//! ```
//!
//! A target is a function on bytes, a line in [`targets::ALL`], and some samples.

mod hang;
mod measure;
mod mutate;
mod random;
pub mod targets;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use measure::Counting;
pub use targets::Target;

use crate::measure::Broken;
use crate::random::Random;

/// The largest input, in bytes: what grows faster than its input shows at this size.
const INPUT_AT_MOST: usize = 64 << 10;

/// The result of a search.
#[derive(Debug)]
pub struct Search {
    /// How many inputs were tried.
    pub tried: u64,
    /// The bound that was broken, if any.
    pub found: Option<Finding>,
}

/// An input that breaks a bound.
#[derive(Debug)]
pub struct Finding {
    /// The input, as short as it could be made.
    pub input: Vec<u8>,
    pub broken: String,
}

/// The folder of what was found of a target.
#[must_use]
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("found")
        .join(target.name)
}

/// The earlier findings of a target.
///
/// # Errors
/// A file cannot be read.
pub fn kept(target: &Target) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = folder(target);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        files.push((path.clone(), std::fs::read(path)?));
    }
    files.sort();
    Ok(files)
}

/// Writes an input down, to be tried again from now on.
///
/// # Errors
/// It cannot be written.
pub fn keep(target: &Target, seed: u64, input: &[u8]) -> std::io::Result<PathBuf> {
    let folder = folder(target);
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{seed:016x}"));
    std::fs::write(&file, input)?;
    Ok(file)
}

/// Tries one input. Returns what it breaks.
#[must_use]
pub fn attempt(target: &Target, input: &[u8]) -> Option<String> {
    measure::attempt(target, input)
        .err()
        .map(|broken| broken.to_string())
}

/// Looks for an input that breaks a bound.
#[must_use]
pub fn search(target: &Target, seed: u64, time: Duration) -> Search {
    let mut random = Random::new(seed);
    let end = Instant::now() + time;
    let mut corpus: Vec<Vec<u8>> = target
        .samples
        .iter()
        .map(|sample| sample.to_vec())
        .collect();
    let mut tried = 0;
    let watch = hang::Watch::begin(target, seed);
    while Instant::now() < end {
        let mut input = mutate::mutate(&corpus, target.words, &mut random);
        input.truncate(INPUT_AT_MOST);
        tried += 1;
        watch.tries(&input);
        let attempted = measure::attempt(target, &input);
        watch.rests();
        match attempted {
            Err(broken) => {
                let found = Some(Finding {
                    input: shorten(target, input, &broken),
                    broken: broken.to_string(),
                });
                return Search { tried, found };
            }
            // An input that costs more than others is worth further mutations.
            Ok(is_costly) if is_costly || random.one_in(200) => {
                if corpus.len() < 500 {
                    corpus.push(input);
                } else {
                    let place = target.samples.len() + random.below(500 - target.samples.len());
                    corpus[place] = input;
                }
            }
            Ok(_) => {}
        }
    }
    Search { tried, found: None }
}

/// Leaves out of an input what is not needed to break the same bound, for some seconds.
fn shorten(target: &Target, mut input: Vec<u8>, broken: &Broken) -> Vec<u8> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut piece = input.len() / 2;
    while piece > 0 && Instant::now() < end {
        let mut at = 0;
        while at < input.len() && Instant::now() < end {
            let mut shorter = input.clone();
            shorter.drain(at..(at + piece).min(input.len()));
            match measure::attempt(target, &shorter) {
                Err(again) if again.is_like(broken) => input = shorter,
                _ => at += piece,
            }
        }
        piece /= 2;
    }
    input
}
