//! From text to tokens. Each byte of the text becomes part of a token or a fault: nothing is dropped.

use std::ops::Range;

use super::ExpressionFault;
use super::dialect;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Word(String),
    /// Without its sign: `-9223372036854775808` is two tokens.
    Integer(u64),
    Double(f64),
    Text(Box<str>),
    /// An operator or a bracket.
    Mark(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

/// The longer ones first.
const MARKS: [&str; 22] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", "+", "-", "*", "/", "%", "(", ")",
    "[", "]", ",", ".",
];

pub(super) fn tokens(source: &str) -> Result<Vec<Token>, ExpressionFault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        let rest = &source[at..];
        let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
        at += rest.len() - trimmed.len();
        let Some(first) = trimmed.chars().next() else {
            tokens.push(Token {
                kind: Kind::End,
                span: at..at,
            });
            return Ok(tokens);
        };
        let (kind, length) = if let Some(text) = text(trimmed) {
            let (text, length) = text.map_err(|mut fault| {
                fault.range = at + fault.range.start..at + fault.range.end;
                fault
            })?;
            (Kind::Text(text.into()), length)
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = trimmed
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(trimmed.len());
            (Kind::Word(trimmed[..length].to_owned()), length)
        } else if first.is_ascii_digit()
            || (first == '.' && trimmed[1..].starts_with(|c: char| c.is_ascii_digit()))
        {
            number(trimmed, at, tokens.last())?
        } else if let Some(fault) = dialect::mark(trimmed, at) {
            return Err(fault);
        } else if let Some(mark) = MARKS.iter().find(|mark| trimmed.starts_with(**mark)) {
            (Kind::Mark(mark), mark.len())
        } else {
            let shown = first.escape_debug().to_string();
            let shown = if first.is_alphanumeric() {
                first.to_string()
            } else {
                shown
            };
            return Err(ExpressionFault::new(
                at..at + first.len_utf8(),
                format!("`{shown}` is not part of any expression"),
            ));
        };
        tokens.push(Token {
            kind,
            span: at..at + length,
        });
        at += length;
    }
}

fn number(text: &str, at: usize, before: Option<&Token>) -> Result<(Kind, usize), ExpressionFault> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let fault =
        |length: usize, message: String| Err(ExpressionFault::new(at..at + length, message));
    let hexadecimal = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .map(|rest| rest.bytes().take_while(u8::is_ascii_hexdigit).count())
        .filter(|count| *count > 0);
    let mut length;
    let kind = if let Some(count) = hexadecimal {
        length = 2 + count;
        u64::from_str_radix(&text[2..length], 16)
            .ok()
            .map(Kind::Integer)
    } else {
        length = digits(text);
        let mut is_double = false;
        let fraction = text[length..].strip_prefix('.').map_or(0, digits);
        if fraction > 0 {
            length += 1 + fraction;
            is_double = true;
        }
        if let Some(exponent) = text[length..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let count = digits(&exponent[sign..]);
            if count > 0 {
                length += 1 + sign + count;
                is_double = true;
            }
        }
        if is_double {
            text[..length]
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(Kind::Double)
        } else {
            text[..length].parse().ok().map(Kind::Integer)
        }
    };
    let Some(kind) = kind else {
        return fault(
            length,
            format!("the number {} is too large", &text[..length]),
        );
    };
    // `stages.2train`: a name that begins with a digit.
    let is_name = text.starts_with('.')
        && before.is_some_and(|token| {
            token.span.end == at && matches!(token.kind, Kind::Word(_) | Kind::Mark("]"))
        });
    let attached = text[length..]
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len() - length);
    if attached > 0 || is_name {
        let whole = &text[..length + attached];
        if matches!(&text[length..length + attached], "u" | "U") {
            let message = format!("`{whole}` is an unsigned number, which is not supported");
            let mut fault = ExpressionFault::new(at..at + whole.len(), message);
            fault.help = Some(format!("write `{}`", &text[..length]));
            return Err(fault);
        }
        let mut fault = ExpressionFault::new(
            at..at + whole.len(),
            format!("`{whole}` is neither a number nor a name"),
        );
        fault.help = is_name.then(|| format!("write it in brackets: `[\"{}\"]`", &whole[1..]));
        return Err(fault);
    }
    Ok((kind, length))
}

/// A text in quotes at the beginning: its value, and how many bytes it takes. `None` where there is none.
fn text(rest: &str) -> Option<Result<(String, usize), ExpressionFault>> {
    let prefix = rest
        .bytes()
        .take_while(|byte| matches!(byte, b'r' | b'R' | b'b' | b'B'))
        .count();
    let quoted = &rest[prefix..];
    let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    if prefix > 2 {
        return None;
    }
    let is_raw = rest[..prefix].contains(['r', 'R']);
    if rest[..prefix].contains(['b', 'B']) {
        return Some(Err(ExpressionFault::new(
            0..prefix + 1,
            "bytes are not supported; write a text without `b`",
        )));
    }
    let triple = quote.to_string().repeat(3);
    let delimiter = if quoted.starts_with(&triple) {
        triple.as_str()
    } else {
        &quoted[..1]
    };
    let mut value = String::new();
    let mut at = delimiter.len();
    loop {
        let rest = &quoted[at..];
        if rest.starts_with(delimiter) {
            return Some(Ok((value, prefix + at + delimiter.len())));
        }
        match rest.chars().next() {
            Some('\n' | '\r') if delimiter.len() == 1 => return Some(unclosed(prefix + at)),
            Some('\\') if !is_raw => match escape(rest) {
                Ok((c, length)) => {
                    value.push(c);
                    at += length;
                }
                Err((message, length)) => {
                    let start = prefix + at;
                    return Some(Err(ExpressionFault::new(start..start + length, message)));
                }
            },
            Some('\0') => {
                let message = "a text in an expression cannot have a NUL character in it";
                return Some(Err(ExpressionFault::new(
                    prefix + at..prefix + at + 1,
                    message,
                )));
            }
            Some(c) => {
                value.push(c);
                at += c.len_utf8();
            }
            None => return Some(unclosed(prefix + at)),
        }
    }
}

fn unclosed(end: usize) -> Result<(String, usize), ExpressionFault> {
    let mut fault = ExpressionFault::new(0..end, "this text is not closed by a second quote");
    fault.help = Some(
        "close it; in YAML, ` #` begins a comment, so put the whole expression in quotes where it holds one"
            .to_owned(),
    );
    Err(fault)
}

/// One escape at the beginning: its character and length, or what is wrong with so many bytes.
fn escape(rest: &str) -> Result<(char, usize), (String, usize)> {
    let letter = rest[1..].chars().next();
    let code = |digits: usize, radix: u32, skip: usize| {
        let length = skip + digits;
        rest.get(skip..length)
            .filter(|code| code.chars().all(|c| c.is_digit(radix)))
            .and_then(|code| u32::from_str_radix(code, radix).ok())
            .and_then(char::from_u32)
            .map(|c| (c, length))
    };
    let found = match letter {
        Some(c @ ('\\' | '\'' | '"' | '`' | '?')) => Some((c, 2)),
        Some('a') => Some(('\u{7}', 2)),
        Some('b') => Some(('\u{8}', 2)),
        Some('f') => Some(('\u{c}', 2)),
        Some('n') => Some(('\n', 2)),
        Some('r') => Some(('\r', 2)),
        Some('t') => Some(('\t', 2)),
        Some('v') => Some(('\u{b}', 2)),
        Some('x' | 'X') => code(2, 16, 2),
        Some('u') => code(4, 16, 2),
        Some('U') => code(8, 16, 2),
        Some('0'..='3') => code(3, 8, 1),
        _ => None,
    };
    let shown = 1 + letter.map_or(0, char::len_utf8);
    match found {
        Some(('\0', length)) => Err((
            "a text in an expression cannot have a NUL character in it".to_owned(),
            length,
        )),
        Some(found) => Ok(found),
        None => Err((format!("`{}` is not a valid escape", &rest[..shown]), shown)),
    }
}
