//! Reads the configuration file into a layer, or into problems with their positions.
//!
//! The parser's own messages are not shown, for two reasons:
//! 1. They quote the line, which may contain a password.
//! 2. They name only one unknown key at a time.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, FileFault};
use super::keys::Settings;

/// Reads a file. Relative paths in it are relative to its folder.
pub(super) fn read(path: &Path) -> Result<Settings, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let path = std::path::absolute(path).map_err(unreadable)?;
    let settings = parse(&text, &path)?;
    Ok(settings.within(path.parent().unwrap_or(&path)))
}

fn parse(text: &str, path: &Path) -> Result<Settings, ConfigError> {
    let source = Source { text, path };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let faults = errors
            .iter()
            .map(|error| source.fault(error.span(), error.message()));
        return Err(ConfigError::Faults(faults.collect()));
    }
    let known = ValidKeys::new();
    let mut faults = Vec::new();
    known.check("", table.get_ref(), &mut |span, message| {
        faults.push(source.fault(Some(span), &message));
    });
    if !faults.is_empty() {
        faults.sort_by_key(|fault: &FileFault| (fault.line, fault.column));
        return Err(ConfigError::Faults(faults));
    }
    let deserializer = toml::Deserializer::from(table);
    Settings::deserialize(deserializer)
        .map_err(|error| ConfigError::Faults(vec![source.fault(error.span(), error.message())]))
}

struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Source<'_> {
    fn fault(&self, span: Option<Range<usize>>, message: &str) -> FileFault {
        let start = span.map_or(0, |span| span.start).min(self.text.len());
        let before = &self.text.as_bytes()[..start];
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        FileFault {
            file: PathBuf::from(self.path),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..])
                .chars()
                .count()
                + 1,
            message: message.to_owned(),
        }
    }
}

/// All valid keys.
struct ValidKeys {
    keys: BTreeSet<String>,
    sections: BTreeSet<String>,
}

impl ValidKeys {
    fn new() -> Self {
        let keys: BTreeSet<String> = Settings::keys().into_keys().collect();
        let sections = keys
            .iter()
            .filter_map(|key| key.split_once('.'))
            .map(|(name, _)| name.to_owned());
        Self {
            sections: sections.collect(),
            keys,
        }
    }

    fn check(
        &self,
        prefix: &str,
        table: &DeTable<'_>,
        report: &mut dyn FnMut(Range<usize>, String),
    ) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            if self.keys.contains(&path) {
                continue;
            }
            match value.get_ref() {
                DeValue::Table(inner) if self.sections.contains(&path) => {
                    self.check(&format!("{path}."), inner, report);
                }
                _ if self.sections.contains(&path) => {
                    report(key.span(), format!("`{path}` is a section: write [{path}]"));
                }
                _ => report(key.span(), self.unknown(&path)),
            }
        }
    }

    fn unknown(&self, path: &str) -> String {
        match self.nearest(path) {
            Some(near) => format!("unknown key `{path}`; did you mean `{near}`?"),
            None => format!("unknown key `{path}`; deploy/config.example.toml has every key"),
        }
    }

    /// The key or section that was probably meant: one with a similar path, or with a similar name elsewhere.
    fn nearest(&self, path: &str) -> Option<&str> {
        let name = last(path);
        let tolerated = (name.chars().count() / 3).max(1);
        self.keys
            .iter()
            .chain(&self.sections)
            .map(|known| {
                let whole = strsim::damerau_levenshtein(path, known);
                let by_name = strsim::damerau_levenshtein(name, last(known));
                (whole.min(by_name), whole, known.as_str())
            })
            .filter(|(distance, _, _)| *distance <= tolerated)
            .min()
            .map(|(_, _, known)| known)
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> String {
        parse(text, Path::new("/etc/config.toml"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn all_unknown_keys_are_reported_with_their_positions_and_the_nearest_key() {
        let text = "lisen = \"127.0.0.1:1\"\n[docker]\n  hots = \"unix:///x\"\n[dokcer]\nnetwork = \"x\"\n";
        insta::assert_snapshot!(faults(text), @r"
        /etc/config.toml:1:1: unknown key `lisen`; did you mean `listen`?
        /etc/config.toml:3:3: unknown key `docker.hots`; did you mean `docker.host`?
        /etc/config.toml:4:2: unknown key `dokcer`; did you mean `docker`?
        ");
    }

    #[test]
    fn a_key_in_the_wrong_section_is_found() {
        insta::assert_snapshot!(faults("[log]\npoll_every = \"1m\"\n"), @"/etc/config.toml:2:1: unknown key `log.poll_every`; did you mean `poll_every`?");
        insta::assert_snapshot!(faults("zzz = 1\n"), @"/etc/config.toml:1:1: unknown key `zzz`; deploy/config.example.toml has every key");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_reported_where_it_stands() {
        insta::assert_snapshot!(faults("# äöü\npoll_every = 60\n"), @r#"/etc/config.toml:2:14: invalid type: integer `60`, expected a duration: write a number with ms, s, m, h or d, such as "90s""#);
        insta::assert_snapshot!(faults("[limits]\nlog = \"16mb\"\n"), @r#"/etc/config.toml:2:7: `16mb` is not a valid size: write a number with B, KiB, MiB, GiB or TiB, such as "8GiB""#);
        insta::assert_snapshot!(faults("executor = \"dokcer\"\n"), @"/etc/config.toml:1:12: unknown variant `dokcer`, expected `docker` or `fake`");
        insta::assert_snapshot!(faults("docker = 1\n"), @"/etc/config.toml:1:1: `docker` is a section: write [docker]");
        insta::assert_snapshot!(faults("[pools]\nGPU = 1\n"), @"/etc/config.toml:2:1: `GPU` is not a valid pool name: use 1 to 63 of a-z, 0-9, `-` and `_`, starting with a letter or digit");
    }

    #[test]
    fn a_fault_of_syntax_does_not_show_the_line() {
        for text in [
            "database_url = \"postgres://u:canary@h/d\nlisten = 1",
            "database_url = canary",
            "database_url = \"a\"\ndatabase_url = \"canary\"",
            "database_url = [\"canary\"]",
        ] {
            let shown = faults(text);
            assert!(shown.starts_with("/etc/config.toml:"), "{shown}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
}
