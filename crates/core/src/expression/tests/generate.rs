//! Random expressions: well-formed ones of a small world, and hostile ones.

pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % bound.max(1) as u64).unwrap_or(0)
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

pub(super) fn boolean(dice: &mut Dice, depth: usize) -> String {
    if depth == 0 {
        return leaf(dice);
    }
    let part = |dice: &mut Dice| boolean(dice, depth - 1);
    match dice.below(9) {
        0 | 1 => format!("{} && {}", part(dice), part(dice)),
        2 => format!("({} || {})", part(dice), part(dice)),
        3 => format!("!({})", part(dice)),
        4 => format!("({} ? {} : {})", part(dice), part(dice), part(dice)),
        5 => format!("(({}) == ({}))", part(dice), part(dice)),
        _ => leaf(dice),
    }
}

fn leaf(dice: &mut Dice) -> String {
    let compare = dice.one_of(&["==", "!=", "<", "<=", ">", ">="]);
    let equality = dice.one_of(&["==", "!="]);
    match dice.below(12) {
        0 => format!("{} {compare} {}", integer(dice, 1), integer(dice, 1)),
        1 => format!("{} {compare} {}", integer(dice, 0), double(dice, 0)),
        2 => format!("{} {compare} {}", double(dice, 1), double(dice, 0)),
        3 => format!("{} {compare} {}", text(dice), text(dice)),
        4 => format!(
            "cause.kind {equality} '{}'",
            dice.one_of(&["push", "manual", "schedule", "retry"])
        ),
        5 => format!(
            "stages.train.outcome {equality} '{}'",
            dice.one_of(&["succeeded", "failed", "skipped"])
        ),
        6 => format!(
            "params.target {equality} '{}'",
            dice.one_of(&["staging", "production"])
        ),
        7 => "params.force".to_owned(),
        8 => format!(
            "{} in [{}, {}]",
            integer(dice, 0),
            integer(dice, 0),
            integer(dice, 0)
        ),
        9 => format!("{}.startsWith({})", text(dice), text(dice)),
        10 => format!("has(stages.train.metrics.{})", dice.one_of(&["auc", "f1"])),
        _ => dice.one_of(&["true", "false"]).to_owned(),
    }
}

fn integer(dice: &mut Dice, depth: usize) -> String {
    if depth > 0 && dice.below(3) == 0 {
        let operator = dice.one_of(&["+", "-", "*", "/", "%"]);
        return format!("({} {operator} {})", integer(dice, 0), integer(dice, 0));
    }
    match dice.below(7) {
        0 | 1 => "params.n".to_owned(),
        2 => "params.count".to_owned(),
        3 => "-params.n".to_owned(),
        4 => "size(params.target)".to_owned(),
        _ => dice
            .one_of(&[
                "-1",
                "0",
                "1",
                "2",
                "3",
                "4",
                "9223372036854775807",
                "-9223372036854775808",
            ])
            .to_owned(),
    }
}

fn double(dice: &mut Dice, depth: usize) -> String {
    if depth > 0 && dice.below(3) == 0 {
        let operator = dice.one_of(&["+", "-", "*", "/"]);
        return format!("({} {operator} {})", double(dice, 0), double(dice, 0));
    }
    match dice.below(5) {
        0 => "params.rate".to_owned(),
        1 => "stages.train.metrics.auc".to_owned(),
        2 => "double(params.n)".to_owned(),
        _ => dice
            .one_of(&["0.0", "0.5", "1.0", "-2.5", "1e300", "3.0"])
            .to_owned(),
    }
}

fn text(dice: &mut Dice) -> String {
    match dice.below(6) {
        0 => "cause.branch".to_owned(),
        1 => "params.target".to_owned(),
        2 => "string(params.n)".to_owned(),
        3 => format!("({} + {})", text(dice), text(dice)),
        _ => dice
            .one_of(&["'main'", "'a'", "''", "'st'", "'production'"])
            .to_owned(),
    }
}

/// A text of pieces that cost much somewhere, in any order.
pub(super) fn hostile(dice: &mut Dice, longest: usize) -> String {
    const PIECES: [&str; 48] = [
        "params.text",
        "params.n",
        "cause.branch",
        "stages.train.metrics.auc",
        "[1]",
        "[[1]*9999]",
        "'x'",
        "9999",
        "9223372036854775807",
        "1e300",
        "true",
        "*",
        "*9999",
        "==",
        "<",
        "in",
        "|",
        "~",
        "+",
        "-",
        "/",
        "%",
        "&&",
        "||",
        "!",
        "?",
        ":",
        "(",
        ")",
        "[",
        "]",
        ",",
        ".size()",
        ".contains(params.text)",
        "string(",
        "double(",
        "size(",
        "has(",
        "range(9999)",
        "|join",
        "|format",
        "params.text+params.text",
        "'''",
        "\"",
        "\\",
        "${{",
        "\u{1f682}",
        "//",
    ];
    let mut text = String::new();
    let pieces = dice.below(60);
    for _ in 0..pieces {
        let piece = PIECES[dice.below(PIECES.len())];
        let times = if dice.below(8) == 0 {
            dice.below(60)
        } else {
            1
        };
        for _ in 0..times {
            if text.len() + piece.len() + 1 > longest {
                return text;
            }
            text.push_str(piece);
            if dice.below(2) == 0 {
                text.push(' ');
            }
        }
    }
    text
}
