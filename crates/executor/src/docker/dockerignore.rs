//! `.dockerignore`: which files of a context are left out of a build.
//!
//! The rules are Docker's: one pattern a line, `#` comments, `!` brings back, the last match wins;
//! `*` and `?` stay within a name, `**` crosses folders; a pattern that matches a folder matches all
//! its content.
//!
//! A stranger may have pushed the file. So its rules are bounded, all of them become one automaton, and a path is
//! matched once, in time that grows with the path and not with the form of the rules.

use std::fmt::Write as _;

use regex::{RegexSet, RegexSetBuilder};
use trainyard_core::measure::in_units;

/// The largest file, in bytes.
pub(super) const LARGEST: u64 = 64 * 1024;

const RULES_AT_MOST: usize = 1_000;

/// The longest rule, in bytes.
const RULE_AT_MOST: usize = 1024;

/// The most bytes of all rules together: the cost of a path at worst grows with it.
const RULES_TOGETHER_AT_MOST: usize = 16 * 1024;

/// The most memory of the automaton, in bytes.
const MEMORY_AT_MOST: usize = 32 * 1024 * 1024;

/// The patterns of one file.
#[derive(Debug, Clone)]
pub(crate) struct DockerIgnore {
    patterns: RegexSet,
    /// Whether each of them brings back.
    brings_back: Vec<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**`
    Deep,
    /// `**/`: any number of folders, none included.
    Folders,
    /// `[a-z]`, `[^a-z]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl DockerIgnore {
    /// Reads the file. Invalid lines match nothing.
    ///
    /// # Errors
    /// Which bound it exceeds, as the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() as u64 > LARGEST {
            let (size, limit) = (in_units(text.len() as u64), in_units(LARGEST));
            return Err(format!(
                "is at least {size} large, and {limit} are permitted"
            ));
        }
        let mut patterns = Vec::new();
        let mut brings_back = Vec::new();
        let mut together = 0;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start_matches('\u{feff}');
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            if line.len() > RULE_AT_MOST {
                return Err(format!(
                    "has a rule of {} bytes in line {}, and {RULE_AT_MOST} are permitted",
                    line.len(),
                    number + 1
                ));
            }
            let (back, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let pattern = clean(pattern);
            if pattern.is_empty() {
                continue;
            }
            together += pattern.len();
            if together > RULES_TOGETHER_AT_MOST {
                let limit = in_units(RULES_TOGETHER_AT_MOST as u64);
                return Err(format!(
                    "has more than {limit} of rules, without its comments"
                ));
            }
            if patterns.len() == RULES_AT_MOST {
                return Err(format!("has more than {RULES_AT_MOST} rules"));
            }
            patterns.push(expression(&tokens(&pattern)));
            brings_back.push(back);
        }
        let patterns = RegexSetBuilder::new(patterns)
            .size_limit(MEMORY_AT_MOST)
            .build()
            .map_err(|_| "has rules that take too much memory together".to_owned())?;
        Ok(Self {
            patterns,
            brings_back,
        })
    }

    /// Whether a path within the context is left out.
    pub(crate) fn ignores(&self, path: &str) -> bool {
        // A rule that changes nothing at its place is left out: the last one that matches decides.
        let last = self.patterns.matches(path).iter().next_back();
        last.is_some_and(|rule| !self.brings_back[rule])
    }
}

/// Brings a pattern to the form of paths: relative, without `.` and doubled slashes.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' if rest.peek() == Some(&'*') => {
                while rest.next_if_eq(&'*').is_some() {}
                if rest.next_if_eq(&'/').is_some() {
                    Token::Folders
                } else {
                    Token::Deep
                }
            }
            '*' => Token::Some,
            '?' => Token::One,
            '[' => class(&mut rest),
            '\\' => Token::Literal(rest.next().unwrap_or('\\')),
            c => Token::Literal(c),
        });
    }
    tokens
}

fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Token {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while let Some(mut low) = rest.next() {
        if low == ']' && !ranges.is_empty() {
            break;
        }
        if low == '\\' {
            low = rest.next().unwrap_or(low);
        }
        let mut high = low;
        if rest.next_if_eq(&'-').is_some() {
            high = rest.next().unwrap_or(low);
        }
        ranges.push((low, high));
    }
    Token::Class { negated, ranges }
}

/// The regular expression of a pattern: for the path itself, and for all below it.
fn expression(pattern: &[Token]) -> String {
    let mut text = "(?s)^".to_owned();
    let mut before = None;
    for token in pattern {
        // Twice in a row means the same as once, and costs more.
        let is_repeated = matches!(token, Token::Some | Token::Deep | Token::Folders);
        if is_repeated && before.replace(token) == Some(token) {
            continue;
        }
        before = Some(token);
        match token {
            Token::Literal(c) => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            Token::One => text.push_str("[^/]"),
            Token::Some => text.push_str("[^/]*"),
            Token::Deep => text.push_str(".*"),
            Token::Folders => text.push_str("(?:.*/)?"),
            Token::Class { negated, ranges } => {
                text.push_str(if *negated { "[^/" } else { "[[" });
                let sound = ranges.iter().filter(|(low, high)| low <= high);
                let mut any = false;
                for (low, high) in sound {
                    any = true;
                    // Writing to a string does not fail.
                    let _ = write!(text, r"\x{{{:x}}}-\x{{{:x}}}", *low as u32, *high as u32);
                }
                match (negated, any) {
                    (true, _) => text.push(']'),
                    (false, true) => text.push_str("]&&[^/]]"),
                    // An empty class, which matches nothing.
                    (false, false) => text.push_str("a]&&b]"),
                }
            }
        }
    }
    text.push_str("(?:/.*)?$");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_docker_s_do() {
        let cases = [
            ("*.pyc", "a.pyc", true),
            ("*.pyc", "src/a.pyc", false),
            ("**/*.pyc", "a.pyc", true),
            ("**/*.pyc", "src/deep/a.pyc", true),
            ("**.pyc", "src/deep/a.pyc", true),
            ("node_modules", "node_modules/left/pad.js", true),
            ("node_modules", "web/node_modules/x", false),
            ("**/node_modules", "web/node_modules/x", true),
            ("data/**", "data/a/b", true),
            ("data/**/x", "data/x", true),
            ("data/**/x", "data/a/b/x", true),
            ("/build/", "build/x", true),
            ("./build", "build", true),
            ("*/temp*", "a/temporary.txt", true),
            ("*/temp*", "a/b/temporary.txt", false),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("[a-c].txt", "b.txt", true),
            ("[^a-c].txt", "b.txt", false),
            ("\\*.txt", "*.txt", true),
            ("\\*.txt", "a.txt", false),
            ("**", "any/thing", true),
            (".git", ".gitignore", false),
        ];
        for (pattern, path, expected) in cases {
            let ignored = DockerIgnore::parse(pattern).unwrap().ignores(path);
            assert_eq!(ignored, expected, "{pattern} against {path}");
        }
    }

    #[test]
    fn the_last_match_wins_and_comments_are_none() {
        let rules =
            DockerIgnore::parse("# all notes\n*.md\n!README.md\nREADME-secret.md\n").unwrap();
        assert!(rules.ignores("notes.md"));
        assert!(!rules.ignores("README.md"));
        assert!(rules.ignores("README-secret.md"));
        let rules = DockerIgnore::parse("data\n!data/keep.csv\n").unwrap();
        assert!(rules.ignores("data/big.csv"));
        assert!(!rules.ignores("data/keep.csv"));
    }

    #[test]
    fn classes_that_are_odd_match_what_is_left_of_them() {
        for (pattern, path, expected) in [
            ("[z-a]x", "zx", false),
            ("[^z-a]x", "zx", true),
            ("[/-:]x", "/x", false),
            ("a[^b]c", "a/c", false),
            ("[]]x", "]x", true),
            ("[a&&b]x", "&x", true),
            ("[\\]]x", "]x", true),
            ("[a", "a", true),
            ("a.c", "abc", false),
            ("(a|b)+", "a", false),
            ("(a|b)+", "(a|b)+", true),
            ("\u{e4}?", "\u{e4}\u{f6}", true),
        ] {
            let ignored = DockerIgnore::parse(pattern).unwrap().ignores(path);
            assert_eq!(ignored, expected, "{pattern} against {path}");
        }
    }

    #[test]
    fn class_12_hostile_rules_are_refused_or_cost_little() {
        let refused = |text: &str| DockerIgnore::parse(text).unwrap_err();
        assert!(refused(&"?".repeat(50_000)).contains("50000 bytes in line 1"));
        assert!(refused(&"a\n".repeat(1_001)).contains("more than 1000 rules"));
        assert!(refused(&format!("{}\n", "ab".repeat(400)).repeat(30)).contains("16 KiB of rules"));
        assert!(refused(&"#\n".repeat(100_000)).contains("64 KiB are permitted"));
        let path = "a/".repeat(500) + "b";
        for rule in [
            "*a".repeat(500),
            "?".repeat(1_000),
            "**/".repeat(300) + "c",
            "**/?".repeat(250),
            "*?".repeat(500),
            "[^b]*".repeat(200),
        ] {
            let text = format!("{rule}\n").repeat(RULES_TOGETHER_AT_MOST / rule.len());
            let begun = std::time::Instant::now();
            match DockerIgnore::parse(&text) {
                Ok(rules) => drop(rules.ignores(&path)),
                Err(why) => assert!(why.contains("memory"), "{why}"),
            }
            let took = begun.elapsed();
            assert!(took.as_secs() < 20, "{took:?} for {}", &rule[..20]);
        }
    }
}
