//! Invalid and hostile DAG files: a grammar of nastiness, from a seed.
//!
//! Each of them is invalid, so a file without a fault is a finding as well.

use crate::dice::Dice;

/// One way to be nasty.
type Nastiness = fn(&mut Dice) -> Vec<u8>;

/// All of them; the first files of a corpus have each once.
const ALL: [Nastiness; 27] = [
    truncated,
    nested_lists,
    nested_mappings,
    nested_blocks,
    alias_bomb,
    alias_of_itself,
    huge_scalar,
    long_line,
    long_key,
    control_characters,
    wrong_utf8,
    nul,
    escaped_nul,
    byte_order_marks,
    bad_words,
    bad_numbers,
    bad_times,
    bad_crons,
    bad_names,
    bad_expressions,
    unclosed_templates,
    duplicates,
    cycles,
    tags,
    tabs,
    many_stages,
    garbage,
];

/// A file of a corpus, by its number from 0.
#[must_use]
pub fn file(number: usize, dice: &mut Dice) -> Vec<u8> {
    ALL[number % ALL.len()](dice)
}

const GOOD: &str = "stages: {say: {image: \"alpine:3\", run: echo hi}}\n";

/// Somewhere between `least` and `most`.
fn many(dice: &mut Dice, least: u64, most: u64) -> usize {
    usize::try_from(least + dice.below(most - least + 1)).unwrap_or(usize::MAX)
}

fn one_of<'a>(dice: &mut Dice, of: &[&'a str]) -> &'a str {
    of[many(dice, 0, of.len() as u64 - 1)]
}

fn truncated(dice: &mut Dice) -> Vec<u8> {
    let most = GOOD.len() as u64 - 3;
    GOOD.as_bytes()[..many(dice, 1, most)].to_vec()
}

fn nested_lists(dice: &mut Dice) -> Vec<u8> {
    "[".repeat(many(dice, 100, 100_000)).into_bytes()
}

fn nested_mappings(dice: &mut Dice) -> Vec<u8> {
    let depth = many(dice, 100, 20_000);
    let (opened, closed) = ("{a: ".repeat(depth), "}".repeat(depth));
    format!("stages: {opened}1{closed}\n").into_bytes()
}

fn nested_blocks(dice: &mut Dice) -> Vec<u8> {
    let mut text = "stages:\n".to_owned();
    for depth in 1..many(dice, 50, 800) {
        text.push_str(&" ".repeat(depth));
        text.push_str("a:\n");
    }
    text.into_bytes()
}

fn alias_bomb(dice: &mut Dice) -> Vec<u8> {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..many(dice, 5, 40) {
        let below = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    (text + GOOD).into_bytes()
}

fn alias_of_itself(dice: &mut Dice) -> Vec<u8> {
    one_of(
        dice,
        &[
            "stages: &s {a: *s}\n",
            "&a [*a]\n",
            "stages: *nowhere\n",
            "<<: *a\nstages: &a {}\n",
        ],
    )
    .into()
}

fn huge_scalar(dice: &mut Dice) -> Vec<u8> {
    let huge = "x".repeat(many(dice, 100_000, 2_000_000));
    let key = one_of(dice, &["name", "description", "timeout", "env", "nonsense"]);
    format!("{key}: {huge}\n{GOOD}nonsense: 1\n").into_bytes()
}

fn long_line(dice: &mut Dice) -> Vec<u8> {
    let items = "x, ".repeat(many(dice, 300_000, 400_000));
    format!("stages: {{say: {{image: [{items}], run: 1}}}}\n").into_bytes()
}

fn long_key(dice: &mut Dice) -> Vec<u8> {
    let key = "k".repeat(many(dice, 1_000, 1_000_000));
    format!("{GOOD}{key}: 1\n").into_bytes()
}

fn control_characters(dice: &mut Dice) -> Vec<u8> {
    let control = one_of(dice, &["\u{1}", "\u{7f}", "\u{1b}[31m", "\u{85}", "\u{8}"]);
    let turned = one_of(dice, &["\u{202e}", "\u{2028}", "\u{200b}", "\u{feff}"]);
    let name = format!("{control}{turned}").repeat(many(dice, 1, 200));
    GOOD.replace("say", &name).into_bytes()
}

fn wrong_utf8(dice: &mut Dice) -> Vec<u8> {
    let wrong: [&[u8]; 5] = [
        b"\xff\xfe",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        b"\xe2\x82",
    ];
    let mut bytes = GOOD.as_bytes().to_vec();
    let at = many(dice, 0, bytes.len() as u64);
    let wrong = wrong[many(dice, 0, wrong.len() as u64 - 1)];
    bytes.splice(at..at, wrong.iter().copied());
    bytes
}

fn nul(dice: &mut Dice) -> Vec<u8> {
    let zeros = "\0".repeat(many(dice, 1, 5_000));
    GOOD.replace("say", &format!("say{zeros}")).into_bytes()
}

/// YAML makes room for it within quotes; no row does.
fn escaped_nul(dice: &mut Dice) -> Vec<u8> {
    let escape = one_of(dice, &["\\0", "\\x00", "\\u0000", "\\U00000000"]);
    let place = one_of(
        dice,
        &[
            "name: \"NUL\"\n",
            "description: \"a NUL b\"\n",
            "\"NUL\": 1\n",
            "env: {A: \"NUL\"}\n",
            "params: {p: {type: string, default: \"NUL\"}}\n",
            "triggers: {push: {branches: [\"NUL\"]}}\n",
        ],
    );
    format!("{}{GOOD}", place.replace("NUL", escape)).into_bytes()
}

fn byte_order_marks(dice: &mut Dice) -> Vec<u8> {
    let marks = "\u{feff}".repeat(many(dice, 2, 10));
    format!("{marks}{GOOD}{marks}nonsense: 1\n").into_bytes()
}

fn bad_words(dice: &mut Dice) -> Vec<u8> {
    let word = one_of(
        dice,
        &["sometimes", "NULL", "~", "2", "[all]", "Last", "\"\""],
    );
    let place = one_of(
        dice,
        &[
            "triggers: {schedule: [{cron: \"0 0 * * *\", missed: WORD}]}\n",
            "concurrency: {limit: 1, overlap: WORD}\n",
            "defaults: {retry: {attempts: 2, on: [WORD]}}\n",
            "params: {p: {type: WORD}}\n",
        ],
    );
    format!("{}{GOOD}", place.replace("WORD", word)).into_bytes()
}

fn bad_numbers(dice: &mut Dice) -> Vec<u8> {
    let number = one_of(
        dice,
        &[
            "-1",
            "99999999999999999999999999",
            "0x7fffffffffffffffffff",
            "1e400",
            ".nan",
            "-.inf",
            "0",
        ],
    );
    let place = one_of(
        dice,
        &[
            "concurrency: {limit: N}\n",
            "defaults: {retry: {attempts: N}}\n",
            "defaults: {resources: {cpus: N}}\n",
        ],
    );
    format!("{}{GOOD}", place.replace('N', number)).into_bytes()
}

fn bad_times(dice: &mut Dice) -> Vec<u8> {
    let time = one_of(
        dice,
        &[
            "99999999999999999999h",
            "-5m",
            "5",
            "1e9y",
            "∞",
            "0s",
            "1h 1h",
        ],
    );
    format!("timeout: {time}\n{GOOD}").into_bytes()
}

fn bad_crons(dice: &mut Dice) -> Vec<u8> {
    let cron = one_of(
        dice,
        &[
            "99 99 * * *",
            "* * * *",
            "* * * * * *",
            "*/0 * * * *",
            "5-1/0 * * * *",
            "@never",
            "0 0 0 0 0",
            "0 0 * * MOON",
        ],
    );
    let zone = one_of(dice, &["UTC", "Mars/Olympus", "../../etc/passwd", "+25:00"]);
    format!("triggers: {{schedule: [{{cron: \"{cron}\", timezone: \"{zone}\"}}]}}\n{GOOD}")
        .into_bytes()
}

fn bad_names(dice: &mut Dice) -> Vec<u8> {
    let name = one_of(
        dice,
        &[
            "../up",
            "a b",
            "🚂",
            "",
            "-",
            "con/prn",
            "A\\nB",
            "'; drop table run; --",
        ],
    );
    GOOD.replace("say", &format!("\"{name}\"")).into_bytes()
}

fn bad_expressions(dice: &mut Dice) -> Vec<u8> {
    let depth = many(dice, 10, 20_000);
    let expression = match dice.below(6) {
        0 => format!("{}1{}", "(".repeat(depth), ")".repeat(depth)),
        1 => format!("{}true", "!".repeat(depth)),
        2 => "[[[1]*9999]*9999]*9999 == [[[1]*9999]*9999]*9999".to_owned(),
        3 => format!("{}true{}", "(true == ".repeat(depth), ")".repeat(depth)),
        4 => format!("1{} +", " + 1".repeat(depth)),
        _ => format!("nowhere{}", ".a".repeat(depth)),
    };
    let text = GOOD.replace("run:", &format!("if: \"{expression} +\", run:"));
    text.into_bytes()
}

fn unclosed_templates(dice: &mut Dice) -> Vec<u8> {
    let open = "${{ ".repeat(many(dice, 1, 20_000));
    GOOD.replace("alpine:3", &open).into_bytes()
}

fn duplicates(dice: &mut Dice) -> Vec<u8> {
    GOOD.repeat(many(dice, 2, 2_000)).into_bytes()
}

fn cycles(dice: &mut Dice) -> Vec<u8> {
    let count = many(dice, 1, 300);
    let mut text = "stages:\n".to_owned();
    for number in 0..count {
        let next = (number + 1) % count;
        text.push_str(&format!(
            "  s{number}: {{image: \"alpine:3\", run: echo, needs: [s{next}]}}\n"
        ));
    }
    text.into_bytes()
}

fn tags(dice: &mut Dice) -> Vec<u8> {
    let tag = one_of(
        dice,
        &[
            "!!python/object/apply:os.system [\"true\"]",
            "!!binary x",
            "!<tag:nowhere,2026:x> 1",
            "!",
        ],
    );
    format!("{GOOD}env: {tag}\n---\nstages: {tag}\n").into_bytes()
}

fn tabs(dice: &mut Dice) -> Vec<u8> {
    let tabs = "\t".repeat(many(dice, 1, 1_000));
    format!("stages:\n{tabs}say:\n{tabs}\timage: alpine:3\n").into_bytes()
}

fn many_stages(dice: &mut Dice) -> Vec<u8> {
    let mut text = "stages:\n".to_owned();
    for number in 0..many(dice, 3_000, 6_000) {
        text.push_str(&format!("  s{number}: {{imagee: x}}\n"));
    }
    text.into_bytes()
}

fn garbage(dice: &mut Dice) -> Vec<u8> {
    let count = many(dice, 1, 50_000);
    let mut bytes: Vec<u8> = (0..count).map(|_| dice.roll().to_be_bytes()[0]).collect();
    // Whatever came before, no text goes on like this.
    bytes.extend_from_slice(b"\xff{");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_corpus_again_and_the_next_another() {
        let of = |seed| {
            let mut dice = Dice::new(seed);
            (0..ALL.len())
                .map(|n| file(n, &mut dice))
                .collect::<Vec<_>>()
        };
        assert!(of(5) == of(5));
        assert!(of(5) != of(6));
    }
}
