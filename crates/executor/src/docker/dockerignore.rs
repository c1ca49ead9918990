//! `.dockerignore`: which files of a context are left out of a build.
//!
//! The rules are Docker's: one pattern a line, `#` comments, `!` brings back, the last match wins;
//! `*` and `?` stay within a name, `**` crosses folders; a pattern that matches a folder matches all
//! in it.

/// The patterns of one file.
#[derive(Debug, Clone, Default)]
pub(super) struct DockerIgnore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    brings_back: bool,
    pattern: Vec<Token>,
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
    /// Reads the file. Lines that make no sense match nothing.
    pub(super) fn parse(text: &str) -> Self {
        let rules = text
            .lines()
            .map(|line| line.trim_start_matches('\u{feff}'))
            .filter(|line| !line.starts_with('#'))
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .filter_map(|line| {
                let (brings_back, pattern) = match line.strip_prefix('!') {
                    Some(rest) => (true, rest.trim()),
                    None => (false, line),
                };
                let pattern = clean(pattern);
                (!pattern.is_empty()).then(|| Rule {
                    brings_back,
                    pattern: tokens(&pattern),
                })
            })
            .collect();
        Self { rules }
    }

    /// Whether a path within the context is left out.
    pub(super) fn ignores(&self, path: &str) -> bool {
        let mut ignored = false;
        for rule in &self.rules {
            if rule.brings_back == ignored && rule.matches(path) {
                ignored = !rule.brings_back;
            }
        }
        ignored
    }
}

impl Rule {
    /// Whether the pattern matches the path or a folder that it is in.
    fn matches(&self, path: &str) -> bool {
        let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        folders.chain([path]).any(|path| {
            let text: Vec<char> = path.chars().collect();
            matches(&self.pattern, &text)
        })
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

/// Whether a pattern matches all of a text. Each token looks at each place of the text at most once
/// a step, so a hostile pattern costs the product of both lengths and no more.
fn matches(pattern: &[Token], text: &[char]) -> bool {
    // reached[i]: the pattern so far matches the first i characters.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in pattern {
        let mut next = vec![false; text.len() + 1];
        let mut open = false;
        for at in 0..=text.len() {
            match token {
                Token::Literal(_) | Token::One | Token::Class { .. } => {
                    if at > 0 && reached[at - 1] && is_one(token, text[at - 1]) {
                        next[at] = true;
                    }
                }
                Token::Some => {
                    open = reached[at] || (open && at > 0 && text[at - 1] != '/');
                    next[at] = open;
                }
                Token::Deep => {
                    open |= reached[at];
                    next[at] = open;
                }
                Token::Folders => {
                    next[at] = reached[at] || (open && at > 0 && text[at - 1] == '/');
                    open |= reached[at];
                }
            }
        }
        reached = next;
    }
    reached[text.len()]
}

fn is_one(token: &Token, c: char) -> bool {
    match token {
        Token::Literal(literal) => *literal == c,
        Token::One => c != '/',
        Token::Class { negated, ranges } => {
            let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
            c != '/' && inside != *negated
        }
        Token::Some | Token::Deep | Token::Folders => false,
    }
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
            let ignored = DockerIgnore::parse(pattern).ignores(path);
            assert_eq!(ignored, expected, "{pattern} against {path}");
        }
    }

    #[test]
    fn the_last_match_wins_and_comments_are_none() {
        let rules = DockerIgnore::parse("# all notes\n*.md\n!README.md\nREADME-secret.md\n");
        assert!(rules.ignores("notes.md"));
        assert!(!rules.ignores("README.md"));
        assert!(rules.ignores("README-secret.md"));
        let rules = DockerIgnore::parse("data\n!data/keep.csv\n");
        assert!(rules.ignores("data/big.csv"));
        assert!(!rules.ignores("data/keep.csv"));
    }

    #[test]
    fn a_hostile_pattern_is_not_slow() {
        let pattern = "*a".repeat(200);
        let path = "a".repeat(1000) + "b";
        assert!(!DockerIgnore::parse(&pattern).ignores(&path));
    }
}
