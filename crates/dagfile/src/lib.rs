//! DAG files: YAML text to a checked DAG, or to every fault of the file at once with its place.
//!
//! The text becomes a tree in which every key and value knows its bytes ([`tree`]); the tree is read field by field
//! into a draft ([`read`]); the core checks the draft as a whole, and its faults are mapped back to the text. Reading
//! goes on after a fault with the parts that are usable. The reader guesses nothing: an unknown key is a fault, and
//! so is a synonym, with the right word.
//!
//! Types are decided field by field from the text as written, so `python:3.10` stays what it is, and
//! only `true` and `false` are booleans.

mod diagnostic;
pub mod document;
pub mod limits;
mod outside;
mod read;
#[cfg(test)]
mod reference;
mod render;
mod tree;

pub use diagnostic::{Diagnostic, DiagnosticCode, Severity, to_json, unreadable};
pub use document::json_schema;
pub use outside::{Entry, Outside};
pub use render::render;
use trainyard_core::dag::Dag;

use crate::diagnostic::Sink;
use crate::read::FileReader;

/// The result of reading a file.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The DAG; there exactly if no diagnostic is an error.
    pub dag: Option<Dag>,
    /// The faults and warnings of the file, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// Its references to its repo and to pools.
    pub outside: Outside,
}

impl Parsed {
    /// The result for a file that cannot be read.
    #[must_use]
    pub fn unreadable(why: &str) -> Self {
        Self {
            dag: None,
            diagnostics: unreadable(why),
            outside: Outside::default(),
        }
    }
}

/// Reads a DAG file. The stem of `file_name` is the DAG's name where the file gives none.
#[must_use]
pub fn parse(file_name: &str, text: &str) -> Parsed {
    let mut sink = Sink::new(text);
    let root = tree::load(text, &mut sink);
    let mut reader = FileReader { sink };
    let dag = root.and_then(|root| reader.dag(file_name, &root));
    let outside = std::mem::take(&mut reader.sink.outside);
    let diagnostics = reader.sink.finish();
    let is_good = diagnostics
        .iter()
        .all(|diagnostic| diagnostic.severity != Severity::Error);
    Parsed {
        dag: dag.filter(|_| is_good),
        diagnostics,
        outside,
    }
}

/// As [`parse`], for bytes that may not be text.
#[must_use]
pub fn parse_bytes(file_name: &str, bytes: &[u8]) -> Parsed {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(file_name, text),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            let mut sink = Sink::new(&valid);
            let end = valid.len();
            sink.error(
                DiagnosticCode::Syntax,
                end..end,
                "the file is not UTF-8 text from here on",
            )
            .help("save it as UTF-8");
            Parsed {
                dag: None,
                diagnostics: sink.finish(),
                outside: Outside::default(),
            }
        }
    }
}
