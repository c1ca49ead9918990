//! Files that people write who come from elsewhere, or in haste. Each file gets these answers, in this order, and no
//! other: so a fault is reported with what to write instead, all faults of a file are reported at once, and none of
//! them causes others elsewhere.

mod expressions;
mod faults;
mod forms;
mod habits;
mod inputs;
mod keys;
mod scripts;
mod triggers;

use trainyard_dagfile::{Diagnostic, parse};

/// The text of a file, and a part of each answer, of message and help.
type Row<'a> = (&'a str, &'a [&'a str]);

#[track_caller]
pub(crate) fn check(rows: &[Row<'_>]) {
    for (file, wanted) in rows {
        let parsed = parse("dags/file.yaml", file);
        let answers: Vec<String> = parsed
            .diagnostics
            .iter()
            .map(|found| {
                let help = found.help.as_deref().unwrap_or("no help");
                format!("{} ({help})", found.message)
            })
            .collect();
        let all = answers.join("\n");
        assert_eq!(answers.len(), wanted.len(), "\n{file}\n{all}");
        for (answer, wanted) in answers.iter().zip(*wanted) {
            assert!(answer.contains(wanted), "\n{file}\n{all}\nnot: {wanted}");
        }
        assert_eq!(parsed.dag.is_some(), wanted.is_empty(), "\n{file}");
    }
}

/// The warnings of a file that is valid.
pub(crate) fn warnings(file: &str) -> Vec<String> {
    let parsed = parse("dags/file.yaml", file);
    assert!(parsed.dag.is_some(), "{file}\n{:?}", parsed.diagnostics);
    let text = |found: &Diagnostic| {
        let help = found.help.clone().unwrap_or_default();
        format!("{}: {} ({help})", &file[found.span.clone()], found.message)
    };
    parsed.diagnostics.iter().map(text).collect()
}

/// A file of one stage that also says this.
pub(crate) fn stage(says: &str) -> String {
    format!("stages: {{a: {{image: alpine:3, {says}}}}}")
}
