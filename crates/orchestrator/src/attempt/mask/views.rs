//! Reads a line back to what it was before it was escaped. Each tool leaves other characters unescaped, so reading
//! the line back is simpler than writing out each secret in each way.

/// A line read back, with the original position of each byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) bytes: Vec<u8>,
    /// Where in the line each byte begins, and the end of the last.
    places: Vec<usize>,
    /// Where an escape begins that the end of the line cuts off.
    pub(super) open_from: usize,
}

impl View {
    /// The position in the line of a range of this view.
    pub(super) fn place_of(&self, from: usize, to: usize) -> (usize, usize) {
        (self.places[from], self.places[to])
    }

    /// This view of another view, with positions in that one's line.
    fn within(mut self, outer: &Self) -> Self {
        for place in &mut self.places {
            *place = outer.places[*place];
        }
        self.open_from = outer.places[self.open_from].min(outer.open_from);
        self
    }
}

/// An escape at the beginning of a text.
enum Escape {
    /// This many bytes stand for these.
    Is(usize, Vec<u8>),
    /// Not an escape.
    No,
    /// Perhaps an escape, depending on the next bytes.
    Open,
}

type Reader = fn(&[u8]) -> Escape;

/// The ways to escape, each with the bytes that an escape begins with.
const WAYS: [(&[u8], Reader); 6] = [
    (b"%", percent),
    (b"%+", percent_and_plus),
    (b"\\", backslash),
    (b"\\", backslash_of_text),
    (b"&", entity),
    (b"'", shell),
];

/// The line read back in each way, and once more in the same way, if that changes anything.
pub(super) fn of(line: &[u8]) -> Vec<View> {
    let mut views = Vec::new();
    for (signs, reader) in WAYS {
        let Some(once) = read(line, signs, reader) else {
            continue;
        };
        if let Some(twice) = read(&once.bytes, signs, reader) {
            views.push(twice.within(&once));
        }
        views.push(once);
    }
    views
}

/// The line read back; `None` if it has no escapes.
fn read(line: &[u8], signs: &[u8], reader: Reader) -> Option<View> {
    let first = line.iter().position(|byte| signs.contains(byte))?;
    let mut view = View {
        bytes: line[..first].to_vec(),
        places: (0..first).collect(),
        open_from: line.len(),
    };
    let mut changed = false;
    let mut at = first;
    while at < line.len() {
        let escape = if signs.contains(&line[at]) {
            reader(&line[at..])
        } else {
            Escape::No
        };
        match escape {
            Escape::Is(length, bytes) => {
                changed = true;
                view.places.extend(std::iter::repeat_n(at, bytes.len()));
                view.bytes.extend(bytes);
                at += length;
            }
            Escape::No => {
                view.places.push(at);
                view.bytes.push(line[at]);
                at += 1;
            }
            Escape::Open => {
                changed = true;
                view.open_from = at;
                break;
            }
        }
    }
    view.places.push(at);
    changed.then_some(view)
}

/// The value of hex digits; `None` if some are missing.
fn digits(text: &[u8], count: usize) -> Option<u32> {
    let text = std::str::from_utf8(text.get(..count)?).ok()?;
    let are_digits = text.bytes().all(|digit| digit.is_ascii_hexdigit());
    are_digits.then(|| u32::from_str_radix(text, 16).ok())?
}

/// Whether the digits are valid so far, and some are missing.
fn are_cut_off(text: &[u8], count: usize) -> bool {
    text.len() < count && text.iter().all(u8::is_ascii_hexdigit)
}

fn percent(text: &[u8]) -> Escape {
    match digits(&text[1..], 2) {
        Some(byte) => Escape::Is(3, vec![byte as u8]),
        None if are_cut_off(&text[1..], 2) => Escape::Open,
        None => Escape::No,
    }
}

fn percent_and_plus(text: &[u8]) -> Escape {
    match text[0] {
        b'+' => Escape::Is(1, vec![b' ']),
        _ => percent(text),
    }
}

/// As Python's `ascii` writes text: there `\xe4` is the character U+00E4, and in `repr` of bytes the byte 0xE4.
fn backslash_of_text(text: &[u8]) -> Escape {
    match backslash(text) {
        Escape::Is(length, bytes) if text[1] == b'x' => Escape::Is(
            length,
            bytes
                .into_iter()
                .flat_map(|byte| utf8(byte.into()))
                .collect(),
        ),
        escape => escape,
    }
}

/// As JSON, Python, C and shells write: `\"`, `\/`, `\n`, `\u00e4`, `\xe4`, `\344`, `\u{e4}`.
fn backslash(text: &[u8]) -> Escape {
    let Some(kind) = text.get(1) else {
        return Escape::Open;
    };
    let rest = &text[2..];
    let coded = |count: usize| match digits(rest, count) {
        Some(code) => Escape::Is(2 + count, utf8(code)),
        None if are_cut_off(rest, count) => Escape::Open,
        None => Escape::No,
    };
    match kind {
        b'x' => match digits(rest, 2) {
            Some(byte) => Escape::Is(4, vec![byte as u8]),
            None if are_cut_off(rest, 2) => Escape::Open,
            None => Escape::No,
        },
        b'u' if rest.first() == Some(&b'{') => match rest.iter().take(9).position(|b| *b == b'}') {
            Some(end) => match digits(&rest[1..end], end - 1) {
                Some(code) => Escape::Is(3 + end, utf8(code)),
                None => Escape::No,
            },
            None if rest.len() < 9 => Escape::Open,
            None => Escape::No,
        },
        b'u' => match digits(rest, 4) {
            // The first half of a pair.
            Some(high @ 0xd800..0xdc00) => match rest.get(4..) {
                Some([b'\\', b'u', low @ ..]) => match digits(low, 4) {
                    Some(low @ 0xdc00..0xe000) => {
                        Escape::Is(12, utf8(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)))
                    }
                    Some(_) => Escape::No,
                    None if are_cut_off(low, 4) => Escape::Open,
                    None => Escape::No,
                },
                Some([] | [b'\\']) | None => Escape::Open,
                Some(_) => Escape::No,
            },
            _ => coded(4),
        },
        b'U' => coded(8),
        b'0'..=b'7' => {
            let octal = text[1..]
                .iter()
                .take(3)
                .take_while(|digit| (b'0'..=b'7').contains(digit));
            let octal: Vec<u32> = octal.map(|digit| u32::from(digit - b'0')).collect();
            if octal.len() < 3 && text.len() == 1 + octal.len() {
                return Escape::Open;
            }
            let byte = octal.iter().fold(0, |sum, digit| 8 * sum + digit);
            Escape::Is(1 + octal.len(), vec![byte as u8])
        }
        b'n' => Escape::Is(2, vec![b'\n']),
        b'r' => Escape::Is(2, vec![b'\r']),
        b't' => Escape::Is(2, vec![b'\t']),
        b'b' => Escape::Is(2, vec![8]),
        b'f' => Escape::Is(2, vec![12]),
        b'a' => Escape::Is(2, vec![7]),
        b'v' => Escape::Is(2, vec![11]),
        sign => Escape::Is(2, vec![*sign]),
    }
}

fn utf8(code: u32) -> Vec<u8> {
    let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    letter.to_string().into_bytes()
}

/// As HTML and XML have it: `&amp;`, `&#39;`, `&#x27;`.
fn entity(text: &[u8]) -> Escape {
    const LONGEST: usize = 10;
    let Some(end) = text.iter().take(LONGEST).position(|byte| *byte == b';') else {
        let may_go_on = text.len() < LONGEST
            && text[1..]
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'#');
        return if may_go_on { Escape::Open } else { Escape::No };
    };
    let letter = match &text[1..end] {
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        [b'#', b'x' | b'X', hex @ ..] => digits(hex, hex.len()).and_then(char::from_u32),
        [b'#', number @ ..] => std::str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse().ok())
            .and_then(char::from_u32),
        _ => None,
    };
    match letter {
        Some(letter) => Escape::Is(end + 1, letter.to_string().into_bytes()),
        None => Escape::No,
    }
}

/// A quote within quotes, as shells write it: `'\''`, or `'"'"'`.
fn shell(text: &[u8]) -> Escape {
    for quote in [b"'\\''".as_slice(), b"'\"'\"'"] {
        if text.starts_with(quote) {
            return Escape::Is(quote.len(), vec![b'\'']);
        }
        if quote.starts_with(text) {
            return Escape::Open;
        }
    }
    Escape::No
}
