//! Finds where a missing declared file may be instead: under another name in `$OUTPUTS`, or in the working directory.

use std::fmt::Write as _;

use trainyard_core::dag::nearest;
use trainyard_core::stage::RelativePath;

/// The most names that a message shows.
const SHOWN_AT_MOST: usize = 3;

/// The names of the files that a stage left.
pub(crate) struct Left {
    /// Below `$OUTPUTS`; `None` where they are not known.
    outputs: Option<Vec<String>>,
    working: Vec<String>,
}

impl Left {
    pub(crate) fn new(outputs: Option<Vec<String>>, working: Option<Vec<String>>) -> Self {
        Self {
            outputs,
            working: working.unwrap_or_default(),
        }
    }
}

/// The hint for the missing `path`, from the names of the files that are there: a text that follows the file's name, or
/// an empty one. Files that are `declared` themselves are not suggested.
pub(crate) fn hint(path: &RelativePath, declared: &[&str], left: &Left) -> String {
    let wanted = path.as_str();
    let mut hint = String::new();
    let outputs = left.outputs.iter().flatten();
    let is_declared = |file: &str| declared.iter().any(|path| is_at_or_below(file, path));
    let undeclared: Vec<String> = outputs.filter(|file| !is_declared(file)).cloned().collect();
    let near = near(wanted, &undeclared);
    if !near.is_empty() {
        let _ = write!(hint, "; $OUTPUTS has {}", quoted(&near));
    } else if left.outputs.as_ref().is_some_and(Vec::is_empty) {
        hint.push_str("; $OUTPUTS is empty");
    }
    let near = self::near(wanted, &left.working);
    if !near.is_empty() {
        let _ = write!(
            hint,
            "; the working directory has {}: write {} to $OUTPUTS, such as \"$OUTPUTS/{wanted}\"",
            quoted(&near),
            if near.len() == 1 {
                "it"
            } else {
                "the right one"
            },
        );
    }
    hint
}

/// The names that may be meant, most likely first.
fn near<'a>(wanted: &str, names: &'a [String]) -> Vec<&'a str> {
    let file = last_of(wanted);
    let stem = stem_of(file);
    let names = || names.iter().map(String::as_str);
    let mut found: Vec<&str> = Vec::new();
    let mut add = |name: &'a str| {
        if found.len() < SHOWN_AT_MOST && !found.contains(&name) {
            found.push(name);
        }
    };
    names().filter(|name| *name == wanted).for_each(&mut add);
    names()
        .filter(|name| last_of(name).eq_ignore_ascii_case(file))
        .for_each(&mut add);
    nearest(wanted, names()).into_iter().for_each(&mut add);
    let files = names().map(last_of);
    if let Some(slip) = nearest(file, files) {
        names()
            .filter(|name| last_of(name) == slip)
            .for_each(&mut add);
    }
    names()
        .filter(|name| stem_of(last_of(name)).eq_ignore_ascii_case(stem))
        .for_each(&mut add);
    found
}

fn is_at_or_below(file: &str, path: &str) -> bool {
    file.strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn last_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn stem_of(file: &str) -> &str {
    match file.split_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => file,
    }
}

fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint_for(path: &str, outputs: &[&str], working: &[&str]) -> String {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let left = Left::new(Some(owned(outputs)), Some(owned(working)));
        hint(&RelativePath::new(path).unwrap(), &[path, "report"], &left)
    }

    #[test]
    fn a_slip_in_the_name_is_found_in_the_outputs() {
        for near in [
            "models.bin",
            "Model.bin",
            "model.pt",
            "run/model.bin",
            "model",
        ] {
            assert_eq!(
                hint_for("model.bin", &["report.html", near], &["train.py"]),
                format!("; $OUTPUTS has `{near}`")
            );
        }
    }

    #[test]
    fn a_file_in_the_working_directory_is_named_with_where_it_belongs() {
        assert_eq!(
            hint_for("model.bin", &[], &["src/train.py", "outputs/model.bin"]),
            "; $OUTPUTS is empty; the working directory has `outputs/model.bin`: \
             write it to $OUTPUTS, such as \"$OUTPUTS/model.bin\""
        );
    }

    #[test]
    fn the_very_name_comes_first_and_few_are_shown() {
        let many = ["a/m.bin", "b/m.bin", "c/m.bin", "m.bin"];
        assert!(hint_for("m.bin", &["x"], &many).contains("has `m.bin`, `a/m.bin`, `b/m.bin`: "));
    }

    #[test]
    fn outputs_with_other_declared_files_or_unknown_ones_are_not_said_to_be_empty() {
        assert_eq!(hint_for("model.bin", &["report", "report/a"], &[]), "");
        let unknown = Left::new(None, None);
        let path = RelativePath::new("model.bin").unwrap();
        assert_eq!(hint(&path, &["model.bin"], &unknown), "");
    }

    #[test]
    fn other_files_are_not_named() {
        assert_eq!(hint_for("model.bin", &["report.html"], &["train.py"]), "");
    }
}
