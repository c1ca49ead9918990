//! Inputs made of others.

use crate::random::Random;

/// The most changes to one input.
const CHANGES_AT_MOST: usize = 6;

/// The most times that a piece is repeated or nested.
const REPEATED_AT_MOST: usize = 4000;

/// Bytes that mean something in many formats.
const MEANINGFUL: &[u8] =
    b"\0\n\r\t \"'`$#%&(){}[]<>*?!/\\|,;:.-_+=@~^0191azAZ\x1b\x7f\x80\xc3\xff";

/// Makes an input from one or two of the corpus and words of the format.
pub(crate) fn mutate(corpus: &[Vec<u8>], words: &[&str], random: &mut Random) -> Vec<u8> {
    let mut input = match corpus.len() {
        0 => Vec::new(),
        count => corpus[random.below(count)].clone(),
    };
    for _ in 0..=random.below(CHANGES_AT_MOST) {
        change(&mut input, corpus, words, random);
    }
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let (begin, end) = range(input.len(), random);
    match random.below(10) {
        0 => insert(input, at, random.pick(words).as_bytes()),
        1 => insert(input, at, &[MEANINGFUL[random.below(MEANINGFUL.len())]]),
        2 if at < input.len() => input[at] = MEANINGFUL[random.below(MEANINGFUL.len())],
        3 if at < input.len() => input[at] ^= 1 << random.below(8),
        4 => drop(input.drain(begin..end)),
        // Again and again: what is quadratic shows.
        5 => {
            let piece =
                input[begin..end].repeat(1 + random.below(REPEATED_AT_MOST / (1 + end - begin)));
            insert(input, at, &piece);
        }
        6 => {
            let piece = random
                .pick(words)
                .repeat(1 + random.below(REPEATED_AT_MOST));
            insert(input, at, piece.as_bytes());
        }
        // A pair around what is there, many times: what recurses shows.
        7 => {
            let (open, close) = [("(", ")"), ("[", "]"), ("{", "}"), ("\"", "\"")][random.below(4)];
            let depth = 1 + random.below(REPEATED_AT_MOST);
            insert(input, end, close.repeat(depth).as_bytes());
            insert(input, begin, open.repeat(depth).as_bytes());
        }
        8 => {
            let other = &corpus[random.below(corpus.len())];
            let (begin, end) = range(other.len(), random);
            insert(input, at, &other[begin..end]);
        }
        _ => insert(input, at, number(random).as_bytes()),
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    drop(input.splice(at..at, piece.iter().copied()));
}

fn range(length: usize, random: &mut Random) -> (usize, usize) {
    let (one, other) = (random.below(length + 1), random.below(length + 1));
    (one.min(other), one.max(other))
}

fn number(random: &mut Random) -> String {
    match random.below(6) {
        0 => "-1".to_owned(),
        1 => u64::MAX.to_string(),
        2 => i64::MIN.to_string(),
        3 => "9".repeat(1 + random.below(400)),
        4 => "1e308".to_owned(),
        _ => (random.next() >> random.below(64)).to_string(),
    }
}
