//! Triggers: the rules in a DAG file that may start a run.

use std::collections::BTreeMap;
use std::fmt;

use chrono_tz::Tz;

use crate::cron::Cron;
use crate::name::ParamName;
use crate::param::ParamValue;
use crate::schedule::Missed;

/// All triggers of a DAG. Starting it by hand is always possible.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Triggers {
    pub schedule: Vec<ScheduleTrigger>,
    pub push: Option<PushTrigger>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleTrigger {
    /// When it ticks, in `timezone`.
    pub cron: Cron,
    /// The time zone whose clock the schedule follows.
    pub timezone: Tz,
    /// What to do about ticks that came while no daemon was running.
    pub missed: Missed,
    /// Parameters of the runs that it starts; checked against the DAG's.
    pub params: BTreeMap<ParamName, ParamValue>,
}

/// Runs on pushes to branches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushTrigger {
    /// Patterns of branch names, any of which must match; empty means the repo's followed branch.
    pub branches: Vec<Pattern>,
    /// Patterns of changed paths, any of which must match one changed file; empty matches every push.
    pub paths: Vec<Pattern>,
}

/// A pattern over `/`-separated names: `*` and `?` stay within one part, `**` crosses parts,
/// `[abc]` and `{a,b}` choose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(String);

/// Why a pattern matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternFault {
    /// The fault, as a sentence part.
    pub problem: &'static str,
    /// The pattern that was meant, where that is known.
    pub meant: Option<String>,
}

impl fmt::Display for PatternFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem)?;
        match &self.meant {
            Some(meant) => write!(f, "; write `{meant}`"),
            None => Ok(()),
        }
    }
}

impl Pattern {
    /// The longest pattern, in bytes.
    pub const LONGEST: usize = 256;

    /// Takes a pattern.
    ///
    /// # Errors
    /// The fault, as a sentence part.
    pub fn new(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.len() > Self::LONGEST {
            return Err(format!("is longer than {} bytes", Self::LONGEST));
        }
        if text.starts_with('!') {
            return Err("starts with `!`; exclusions are not supported".to_owned());
        }
        match glob(&text) {
            Ok(_) => Ok(Self(text)),
            Err(fault) => Err(format!("is not a pattern: {}", fault.kind())),
        }
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches all of `text`, in time linear in its length.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.matcher().is_some_and(|matcher| matcher.is_match(text))
    }

    /// Why no changed file can match it, as paths are compared: relative to the repo's root, with `/`.
    #[must_use]
    pub fn path_fault(&self) -> Option<PatternFault> {
        self.alternatives().iter().find_map(|text| {
            let parts: Vec<&str> = text.split('/').collect();
            let problem = if text.starts_with('/') {
                "starts with `/`, and paths are relative to the root of the repo"
            } else if text.ends_with('/') {
                "ends with `/`, and only files are compared with it"
            } else if text.contains('\\') {
                "has a `\\` in it, and paths are written with `/`"
            } else if parts.iter().any(|part| matches!(*part, "." | "..")) {
                "has a part `.` or `..`, and paths are compared as git lists them"
            } else if parts.contains(&"") {
                "has an empty part, `//`"
            } else if parts[0] == ".git" {
                "is below `.git`, which is not part of a commit"
            } else {
                return None;
            };
            Some(PatternFault {
                problem,
                meant: meant_path(text),
            })
        })
    }

    /// Why no branch can match it.
    #[must_use]
    pub fn branch_fault(&self) -> Option<PatternFault> {
        let all = self.alternatives();
        all.iter().find_map(|text| branch_fault(text))
    }

    /// The patterns that its braces expand to; the pattern itself where they are nested or too many.
    fn alternatives(&self) -> Vec<String> {
        let mut open = vec![self.0.clone()];
        let mut done = Vec::new();
        while let Some(text) = open.pop() {
            let Some(start) = text.find('{') else {
                done.push(text);
                continue;
            };
            let inner = &text[start + 1..];
            let is_plain = |end: usize| !inner[..end].contains(['{', '[', '\\']);
            match inner.find('}').filter(|end| is_plain(*end)) {
                Some(end) if !text[..start].contains(['[', '\\']) => {
                    let (before, after) = (&text[..start], &inner[end + 1..]);
                    let each = inner[..end].split(',');
                    open.extend(each.map(|one| format!("{before}{one}{after}")));
                }
                _ => done.push(text),
            }
            if open.len() + done.len() > ALTERNATIVES_AT_MOST {
                return vec![self.0.clone()];
            }
        }
        done
    }

    /// Built on each use: patterns are compared and stored as text.
    fn matcher(&self) -> Option<globset::GlobMatcher> {
        glob(&self.0).ok().map(|glob| glob.compile_matcher())
    }
}

/// Why no branch has a name, by git's rules for names.
#[must_use]
pub fn branch_fault(name: &str) -> Option<PatternFault> {
    let parts: Vec<&str> = name.split('/').collect();
    let mut meant = None;
    let problem = if let Some(branch) = name.strip_prefix("refs/heads/") {
        meant = Some(branch.to_owned());
        "starts with `refs/heads/`, and branches are named without it"
    } else if name.starts_with("refs/") {
        "starts with `refs/`, and only branches are meant here, named without that"
    } else if name.starts_with('/') || name.ends_with('/') {
        meant = Some(name.trim_matches('/').to_owned());
        "starts or ends with `/`, as no branch does"
    } else if parts.contains(&"") {
        "has an empty part, `//`, as no branch does"
    } else if name.contains("..") || name.contains("@{") {
        "has `..` or `@{` in it, as no branch does"
    } else if name.contains(|c: char| c.is_control() || " ~^:\\".contains(c)) {
        "has a character in it that no branch has"
    } else if name.ends_with('.')
        || parts
            .iter()
            .any(|part| part.starts_with('.') || part.ends_with(".lock"))
    {
        "has a part that starts with `.` or ends with `.lock`, as no branch does"
    } else {
        return None;
    };
    Some(PatternFault {
        problem,
        meant: meant.filter(|meant| !meant.is_empty()),
    })
}

/// The most patterns that one pattern with braces expands to.
const ALTERNATIVES_AT_MOST: usize = 100;

/// A path as git lists it, from one as people write it: `./src/` is `src/**`.
fn meant_path(text: &str) -> Option<String> {
    let slashes = text.replace('\\', "/");
    let parts: Vec<&str> = slashes
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.is_empty() || parts.contains(&"..") || parts[0] == ".git" {
        return None;
    }
    let end = if slashes.ends_with('/') { "/**" } else { "" };
    Some(format!("{}{end}", parts.join("/")))
}

fn glob(text: &str) -> Result<globset::Glob, globset::Error> {
    globset::GlobBuilder::new(text)
        .literal_separator(true)
        .build()
}

impl PushTrigger {
    /// Whether a push to `branch` that changed `paths` starts a run.
    ///
    /// `followed` is the repo's followed branch. `paths` is `None` where the changed files are unknown (a new branch,
    /// or too many files): then the path filter lets the push pass.
    #[must_use]
    pub fn matches(&self, branch: &str, followed: &str, paths: Option<&[String]>) -> bool {
        let branch_matches = if self.branches.is_empty() {
            branch == followed
        } else {
            self.branches.iter().any(|pattern| pattern.matches(branch))
        };
        if !branch_matches || self.paths.is_empty() {
            return branch_matches;
        }
        let Some(paths) = paths else { return true };
        let matchers: Vec<_> = self.paths.iter().filter_map(Pattern::matcher).collect();
        paths
            .iter()
            .any(|path| matchers.iter().any(|matcher| matcher.is_match(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern = Pattern::new(pattern).unwrap();
        for text in yes {
            assert!(pattern.matches(text), "{pattern:?} should match {text}");
        }
        for text in no {
            assert!(
                !pattern.matches(text),
                "{pattern:?} should not match {text}"
            );
        }
    }

    #[test]
    fn stars_stay_within_a_part_and_double_stars_cross() {
        check("main", &["main"], &["main2", "a/main", ""]);
        check("release/*", &["release/1"], &["release/1/2", "release"]);
        check("src/**", &["src/a.py", "src/a/b.py"], &["lib/src/a.py"]);
        check("{main,dev}", &["main", "dev"], &["maindev"]);
        check("**/*.py", &["a.py", "x/y/a.py"], &["a.pyc"]);
        check("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "a/xb"]);
        check("v?.*", &["v1.0"], &["v10.0", "v/.0"]);
    }

    #[test]
    fn a_path_that_no_commit_lists_is_named_with_what_was_meant() {
        let meant = |text: &str| {
            let fault = Pattern::new(text).unwrap().path_fault()?;
            Some(fault.meant.unwrap_or_default())
        };
        for (written, right) in [
            ("/src/**", "src/**"),
            ("src/", "src/**"),
            ("./a", "a"),
            ("a/./b", "a/b"),
            ("a//b", "a/b"),
            ("../a", ""),
            ("{src,/lib}/**", "lib/**"),
            (r"src\**", "src/**"),
            ("/", ""),
            (".git/HEAD", ""),
        ] {
            assert_eq!(meant(written).as_deref(), Some(right), "{written}");
        }
        for right in [
            "src/**",
            "**",
            "*.py",
            "a.b/c",
            ".github/**",
            "...",
            "[.]/x",
            "{a,b}/*",
            "{{a,b},c}",
        ] {
            assert_eq!(meant(right), None, "{right}");
        }
    }

    #[test]
    fn a_branch_that_git_cannot_have_is_named() {
        let fault = |text: &str| Pattern::new(text).unwrap().branch_fault();
        for wrong in [
            "refs/heads/main",
            "refs/tags/v1",
            "/main",
            "release/",
            "a//b",
            "my branch",
            "a..b",
            "a:b",
            "main~1",
            ".a",
            "a/.b",
            "a.lock",
            "{main,refs/heads/dev}",
        ] {
            assert!(fault(wrong).is_some(), "{wrong}");
        }
        let fault_of_ref = fault("refs/heads/rel*").unwrap();
        assert_eq!(fault_of_ref.meant.as_deref(), Some("rel*"));
        for right in [
            "main",
            "release/*",
            "**",
            "v1.2",
            "feature/[a-z]*",
            "{main,dev}",
            "@",
            "ü",
        ] {
            assert_eq!(fault(right), None, "{right}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_matched_in_good_time() {
        check(
            &"*a".repeat(100),
            &[],
            &[&"a".repeat(99), &"b".repeat(5_000)],
        );
    }

    #[test]
    fn odd_patterns_are_refused_or_matched_and_never_panic() {
        for text in [
            "[",
            "[z-a]",
            "{a",
            "a}",
            "\\",
            "{a,{b,c}}",
            "[ä-ö]",
            "[!a]",
            "***",
            "{,}",
            "[]a]",
        ] {
            let _ = Pattern::new(text).map(|pattern| pattern.matches("aäb/c"));
        }
        let deep = "{".repeat(120) + "a" + &"}".repeat(120);
        let _ = Pattern::new(deep).map(|pattern| pattern.matches("a"));
        let _ = Pattern::new("{a,b}".repeat(50)).map(|pattern| pattern.matches("ab"));
    }

    #[test]
    fn many_changed_files_are_filtered_in_good_time() {
        let paths = (0..20)
            .map(|n| Pattern::new(format!("src/{n}/**/*.py")).unwrap())
            .collect();
        let trigger = PushTrigger {
            branches: vec![],
            paths,
        };
        let mut changed: Vec<String> = (0..20_000).map(|n| format!("docs/{n}.md")).collect();
        assert!(!trigger.matches("main", "main", Some(&changed)));
        changed.push("src/19/a/b.py".to_owned());
        assert!(trigger.matches("main", "main", Some(&changed)));
    }

    #[test]
    fn without_branches_only_the_followed_branch_starts_runs() {
        let trigger = PushTrigger::default();
        assert!(trigger.matches("main", "main", None));
        assert!(!trigger.matches("topic", "main", None));
    }

    #[test]
    fn a_path_filter_needs_one_changed_file_and_passes_when_changes_are_unknown() {
        let paths = vec![Pattern::new("src/**").unwrap()];
        let trigger = PushTrigger {
            branches: vec![],
            paths,
        };
        let changed = |path: &str| trigger.matches("main", "main", Some(&[path.to_owned()]));
        assert!(changed("src/train.py"));
        assert!(!changed("README.md"));
        assert!(trigger.matches("main", "main", None));
    }
}
