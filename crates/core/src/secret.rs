//! Which runs may have a secret: those of the branches that it belongs to.
//!
//! A user who may push a branch writes the DAG file on it, so a file that names a secret proves nothing. The branch
//! that a commit was found on does: the forge decides who may push to it.

use std::fmt;

use crate::trigger::Pattern;

/// Shorter values, in bytes, are not redacted in logs: that would redact ordinary text and hide nothing.
pub const SHORTEST_REDACTED: usize = 4;

/// The encoded forms (base64, hex) of this many bytes of an attempt's secrets are redacted, too. A value of several
/// lines counts three times: line by line, as a file, and in one line. The values themselves are always redacted.
pub const MOST_ENCODED: usize = 43_690;

/// Shorter parts of a value are redacted by themselves only where they do not look like ordinary words or numbers.
const SHORTEST_WORD: usize = 8;

/// Names whose values are secrets.
const TELLING: [&str; 7] = ["pass", "pwd", "token", "secret", "key", "sig", "credential"];

/// Whether a name says that its value is a secret.
#[must_use]
pub fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|word| name.contains(word))
}

/// Whether a text within a secret, such as a value in JSON, is redacted where it is printed by itself.
#[must_use]
pub fn is_redacted_part(name: &str, text: &str) -> bool {
    let is_ordinary = text.chars().all(char::is_alphabetic) || text.chars().all(char::is_numeric);
    let shortest = if is_ordinary && !is_telling(name) {
        SHORTEST_WORD
    } else {
        SHORTEST_REDACTED
    };
    text.len() >= shortest
}

/// The branches that a secret belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretBranches(Vec<Pattern>);

impl SecretBranches {
    /// Most patterns of one secret.
    pub const MOST: usize = 64;

    /// Takes patterns of branch names; no pattern means the repo's followed branch, whichever that is at the time.
    ///
    /// # Errors
    /// The fault, as a sentence: a pattern that is not valid, or that matches no branch.
    pub fn new<T: Into<String>>(patterns: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let branches = Self::stored(patterns)?;
        let faulty = branches.0.iter();
        let fault = faulty
            .filter_map(|one| Some((one.as_str(), one.branch_fault()?)))
            .next();
        match fault {
            Some((text, fault)) => Err(format!(
                "the branch pattern {text:?} matches nothing: it {fault}"
            )),
            None => Ok(branches),
        }
    }

    /// Patterns that were recorded by some version, which may match nothing.
    ///
    /// # Errors
    /// A pattern that is not valid.
    pub fn stored<T: Into<String>>(patterns: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let patterns = patterns
            .into_iter()
            .map(|text| {
                let text = text.into();
                Pattern::new(text.as_str())
                    .map_err(|fault| format!("the branch pattern {text:?} {fault}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if patterns.len() > Self::MOST {
            return Err(format!(
                "a secret has at most {} branch patterns",
                Self::MOST
            ));
        }
        Ok(Self(patterns))
    }

    /// Whether a run of `branch` may have the secret. A run of a tag or of a bare commit has no branch: any user who
    /// may push some branch could have brought that commit.
    #[must_use]
    pub fn admit(&self, branch: Option<&str>, followed: Option<&str>) -> bool {
        let Some(branch) = branch.filter(|branch| !branch.is_empty()) else {
            return false;
        };
        if self.0.is_empty() {
            return followed == Some(branch);
        }
        self.0.iter().any(|pattern| pattern.matches(branch))
    }

    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Pattern::as_str)
    }
}

impl fmt::Display for SecretBranches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.pad("the followed branch");
        }
        let patterns: Vec<&str> = self.patterns().collect();
        f.pad(&patterns.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branches(patterns: &[&str]) -> SecretBranches {
        SecretBranches::new(patterns.iter().copied()).unwrap()
    }

    #[test]
    fn a_part_of_a_secret_is_redacted_unless_it_is_a_short_word_or_number() {
        for (name, text) in [
            ("password", "fast"),
            ("a", "b3ta"),
            ("a", "pa-s"),
            ("a", "elephant"),
        ] {
            assert!(is_redacted_part(name, text), "{name}: {text}");
        }
        for (name, text) in [
            ("mode", "fast"),
            ("port", "5432"),
            ("key", "abc"),
            ("a", ""),
        ] {
            assert!(!is_redacted_part(name, text), "{name}: {text}");
        }
    }

    #[test]
    fn class_09_by_itself_a_secret_is_for_the_followed_branch_alone() {
        let secret = branches(&[]);
        assert!(secret.admit(Some("main"), Some("main")));
        for other in [
            "intern/feature",
            "Main",
            "main ",
            "mаin",
            "main\n",
            "refs/heads/main",
            "heads/main",
            "origin/main",
            "main/x",
            "",
        ] {
            assert!(!secret.admit(Some(other), Some("main")), "{other:?}");
        }
        assert!(!secret.admit(None, Some("main")), "a tag or a bare commit");
        assert!(!secret.admit(Some("main"), None), "nothing is followed yet");
        assert!(!secret.admit(None, None));
        assert!(!secret.admit(Some(""), Some("")));
        // It moves along with the followed branch.
        assert!(secret.admit(Some("trunk"), Some("trunk")));
        assert!(!secret.admit(Some("main"), Some("trunk")));
    }

    #[test]
    fn class_09_patterns_are_those_of_triggers_and_match_whole_names() {
        let secret = branches(&["main", "release/*"]);
        for good in ["main", "release/1"] {
            assert!(secret.admit(Some(good), Some("other")), "{good}");
        }
        for bad in [
            "release/1/2",
            "xmain",
            "mainx",
            "release",
            "RELEASE/1",
            "x/release/1",
        ] {
            assert!(!secret.admit(Some(bad), Some("other")), "{bad}");
        }
        assert!(!secret.admit(None, None));
        assert!(!branches(&["**"]).admit(None, None), "no branch is none");
        assert!(!branches(&["main"]).admit(Some("trunk"), Some("trunk")));
    }

    #[test]
    fn patterns_that_are_none_are_refused_in_words() {
        for text in ["", "[", "!main", &"x".repeat(300)] {
            let error = SecretBranches::new([text]).unwrap_err();
            assert!(error.contains("branch pattern"), "{error}");
        }
        assert!(SecretBranches::new(vec!["a"; 65]).is_err());
    }

    #[test]
    fn a_pattern_that_no_branch_can_match_is_refused_with_the_one_that_was_meant() {
        let error = SecretBranches::new(["main", "refs/heads/rel*"]).unwrap_err();
        assert_eq!(
            error,
            "the branch pattern \"refs/heads/rel*\" matches nothing: it starts with `refs/heads/`, and branches are \
             named without it; write `rel*`"
        );
        // Versions that took it have stored it: their secrets stay readable.
        assert!(SecretBranches::stored(["refs/heads/main"]).is_ok());
    }
}
