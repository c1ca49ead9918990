//! Finds pipes in a shell script without running it.

/// The place of the first pipe of a script, unless the script itself says what a failure within a pipe means
/// (`pipefail`). A pipe is what a shell takes for one: not `||`, and nothing within quotes, comments, here-documents,
/// arithmetic or the patterns of a `case`. The time is proportional to the script's length.
#[must_use]
pub fn pipe(script: &str) -> Option<usize> {
    if script.contains("pipefail") {
        return None;
    }
    let text = script.as_bytes();
    let from = |at: usize| text.get(at..).unwrap_or_default();
    let find = |byte: u8, at: usize| from(at).iter().position(|found| *found == byte);
    let mut around = Vec::new();
    let mut documents = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let inside = around.last().copied();
        let is_code = matches!(inside, None | Some(Around::Parens | Around::Ticks));
        at += match (byte, from(at + 1)) {
            (b'\\', _) => 2,
            (b'"', _) if inside == Some(Around::Quotes) => close(&mut around),
            (b'"', _) => open(&mut around, Around::Quotes, 1),
            (b'`', _) if inside == Some(Around::Ticks) => close(&mut around),
            (b'`', _) => open(&mut around, Around::Ticks, 1),
            (b'}', _) if inside == Some(Around::Braces) => close(&mut around),
            (b')', _) if inside == Some(Around::Parens) => close(&mut around),
            (b'$', [b'(', b'(', rest @ ..]) => {
                3 + rest.windows(2).position(|two| two == b"))")? + 2
            }
            (b'$', [b'(', ..]) => open(&mut around, Around::Parens, 2),
            (b'$', [b'{', ..]) => open(&mut around, Around::Braces, 2),
            (b'\'', _) if inside != Some(Around::Quotes) => find(b'\'', at + 1)? + 2,
            _ if !is_code => 1,
            (b'(', _) => open(&mut around, Around::Parens, 1),
            (b'#', _) if begins_word(&text[..at]) => find(b'\n', at)?,
            (b'<', [b'<', b'<', ..]) => 3,
            (b'<', [b'<', rest @ ..]) => {
                let (document, length) = document(rest)?;
                documents.push(document);
                2 + length
            }
            (b'\n', rest) => 1 + bodies(&mut documents, rest)?,
            (b'>', [b'|', ..]) | (b'|', [b'|', ..]) => 2,
            (b'|', rest) => match patterns(rest) {
                Some(length) if inside != Some(Around::Parens) => 1 + length,
                _ => return Some(at),
            },
            _ => 1,
        };
    }
    None
}

/// The surroundings of a part of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Around {
    Quotes,
    /// `( … )` and `$( … )`.
    Parens,
    /// `${ … }`
    Braces,
    Ticks,
}

fn open(around: &mut Vec<Around>, what: Around, length: usize) -> usize {
    around.push(what);
    length
}

fn close(around: &mut Vec<Around>) -> usize {
    around.pop();
    1
}

fn begins_word(before: &[u8]) -> bool {
    before
        .last()
        .is_none_or(|byte| byte.is_ascii_whitespace() || b";&|(".contains(byte))
}

/// The end of a here-document, as `<<` names it, and how long that name is.
struct Document<'s> {
    end: &'s [u8],
    may_be_indented: bool,
}

fn document(text: &[u8]) -> Option<(Document<'_>, usize)> {
    let may_be_indented = text.first() == Some(&b'-');
    let is_space = |byte: &u8| b" \t\\".contains(byte);
    let start = usize::from(may_be_indented);
    let start = start + text[start..].iter().position(|byte| !is_space(byte))?;
    let quote = Some(text[start]).filter(|byte| b"'\"".contains(byte));
    let start = start + usize::from(quote.is_some());
    let ends = |byte: &u8| match quote {
        Some(quote) => *byte == quote,
        None => byte.is_ascii_whitespace() || b";&|<>()".contains(byte),
    };
    let length = text[start..].iter().position(ends)?;
    let document = Document {
        end: &text[start..start + length],
        may_be_indented,
    };
    Some((document, start + length + usize::from(quote.is_some())))
}

/// How long the bodies of here-documents are that begin here.
fn bodies(documents: &mut Vec<Document<'_>>, text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for document in documents.drain(..) {
        loop {
            let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
            let length = rest
                .iter()
                .position(|byte| *byte == b'\n')
                .unwrap_or(rest.len());
            let line = &rest[..length];
            at += length;
            let tabs = line.iter().take_while(|byte| **byte == b'\t').count();
            if line == document.end || document.may_be_indented && &line[tabs..] == document.end {
                break;
            }
            at += 1;
        }
    }
    Some(at)
}

/// How much of `a | b) …`, seen from behind its first `|`, are patterns of a `case`.
fn patterns(text: &[u8]) -> Option<usize> {
    let end = text.iter().position(|byte| b"\n;&()".contains(byte))?;
    (text[end] == b')').then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_what_a_shell_takes_for_one() {
        for script in [
            "train | tee log",
            "echo a\ntrain |& tee log",
            "train 2>&1 |\n  tee log",
            "x=$(train | tail)",
            "x=\"$(train | tail)\"",
            "x=`train | tail`",
            "(train | tee log)",
            "echo \"it's\" | cat",
            "echo 'a' '|' | cat",
            "echo a#b | cat",
            "cat <<A | sort\nA\n",
            "cat <<A\na | b\nA\ntrain | tee log",
            "cat <<-'A B'\n\ta | b\n\tA B\ntrain | tee log",
            "cat <<<word | sort",
            "echo $((1 | 2)) | cat",
            "case $x in a|b) train | tee log;; esac",
            "echo ${x} | cat",
        ] {
            let at = pipe(script);
            assert_eq!(at, script.rfind('|'), "{script}");
        }
    }

    #[test]
    fn other_bars_are_no_pipes() {
        for script in [
            "",
            "train || echo failed",
            "set -o pipefail; train | tee log",
            "set -euo pipefail\ntrain | tee log",
            "grep -E 'a|b' x",
            "grep -E \"a|b\" x",
            "echo a \\| b",
            "# train | tee log\ntrain",
            "train # | tee log",
            "cat <<A\na | b\nA\n",
            "cat <<'A' <<B\na | b\nA\na | b\nB",
            "cat <<A\na | b",
            "echo $((1 | 2))",
            "echo ${x#*|}",
            "train >| log",
            "case $x in\n  a|b) echo 1;;\n  c | \"d\") echo 2;;\nesac",
            "echo 'a | b",
            "echo \"a | b",
        ] {
            assert_eq!(pipe(script), None, "{script}");
        }
    }

    #[test]
    fn a_long_script_takes_time_in_proportion_to_its_length() {
        for part in [
            "|", "a|a)", "$((", "<<A ", "<<A\n", "'", "\"", "`", "(", "${", "\\", "#",
        ] {
            let script = part.repeat((1 << 20) / part.len());
            let _ = pipe(&script);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_script_what_is_found_is_a_bar(script in "[|<'\"`$(){}\\\\#\nA -]{0,40}") {
            if let Some(at) = pipe(&script) {
                proptest::prop_assert_eq!(script.as_bytes()[at], b'|');
            }
        }
    }
}
