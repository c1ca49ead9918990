//! Hostile files: refused, within bounds, and never with a panic.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trainyard_dagfile::limits::{DEEPEST, DIAGNOSTICS_AT_MOST, FILE_LARGEST};
use trainyard_dagfile::{Diagnostic, DiagnosticCode, Parsed, parse, parse_bytes, render};

#[track_caller]
fn too_large(text: &str) {
    let parsed = parse("dags/x.yaml", text);
    assert!(parsed.dag.is_none());
    let codes: Vec<_> = parsed
        .diagnostics
        .iter()
        .map(|diagnostic| diagnostic.code)
        .collect();
    assert!(codes.contains(&DiagnosticCode::TooLarge), "{codes:?}");
}

#[test]
fn a_billion_laughs_stop_at_the_limit_of_nodes() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    too_large(&text);
}

#[test]
fn deep_nesting_stops_at_the_limit_of_depth() {
    too_large(&format!(
        "x: {}{}",
        "[".repeat(DEEPEST + 5),
        "]".repeat(DEEPEST + 5)
    ));
    let endless = parse("dags/x.yaml", &"[".repeat(100_000));
    assert!(endless.dag.is_none());
}

#[test]
fn a_large_file_is_not_read() {
    too_large(&"#".repeat(FILE_LARGEST + 1));
}

#[test]
fn too_many_stages_are_one_fault() {
    let mut text = "stages:\n".to_owned();
    for n in 0..2_001 {
        text.push_str(&format!("  s{n}: {{image: x, run: y}}\n"));
    }
    let parsed = parse("dags/x.yaml", &text);
    assert_eq!(parsed.diagnostics.len(), 1, "{:?}", parsed.diagnostics);
    assert!(
        parsed.diagnostics[0].message.contains("2000"),
        "{:?}",
        parsed.diagnostics
    );
}

#[test]
fn countless_faults_are_reported_up_to_a_bound() {
    let mut text = "stages: {a: {image: x, run: y}}\n".to_owned();
    for n in 0..5_000 {
        text.push_str(&format!("wrong{n}: 1\n"));
    }
    let parsed = parse("dags/x.yaml", &text);
    assert_eq!(parsed.diagnostics.len(), DIAGNOSTICS_AT_MOST + 1);
    assert!(
        parsed
            .diagnostics
            .last()
            .unwrap()
            .message
            .contains("4900 more")
    );
}

#[test]
fn warnings_beyond_the_bound_make_no_valid_file_invalid() {
    let pools: Vec<String> = (0..DIAGNOSTICS_AT_MOST + 1)
        .map(|n| format!("p{n}: 1"))
        .collect();
    let pools = pools.join(", ");
    let text = format!("stages: {{a: {{image: x, run: y, pools: {{{pools}}}}}}}");
    let parsed = parse("dags/x.yaml", &text);
    let warnings = parsed
        .outside
        .pool_warnings(&text, "the daemon", &BTreeMap::new());
    assert!(warnings.iter().all(|warning| !warning.is_error()));
    let last = &warnings.last().unwrap().message;
    assert_eq!(last, "and 1 more warning, not shown");
}

#[test]
fn bytes_that_are_not_text_are_reported_with_their_place() {
    let parsed = parse_bytes("dags/x.yaml", b"stages:\n  a: \xff\n");
    assert_eq!(
        (parsed.diagnostics[0].line, parsed.diagnostics[0].column),
        (2, 6)
    );
}

const GOOD: &str = include_str!("right/full.yaml");

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn any_change_to_a_good_file_is_answered(at in 0..GOOD.len(), cut in 0usize..40, new in "[ -~\n\t]{0,12}") {
        let mut start = at;
        while !GOOD.is_char_boundary(start) { start -= 1; }
        let mut end = (start + cut).min(GOOD.len());
        while !GOOD.is_char_boundary(end) { end += 1; }
        check(&format!("{}{new}{}", &GOOD[..start], &GOOD[end..]));
    }
}

fn check(text: &str) {
    let parsed = parse("dags/x.yaml", text);
    let is_refused = parsed.diagnostics.iter().any(Diagnostic::is_error);
    assert_eq!(parsed.dag.is_none(), is_refused);
    for diagnostic in &parsed.diagnostics {
        assert!(
            text.get(diagnostic.span.clone()).is_some(),
            "{diagnostic:?}"
        );
        assert!(diagnostic.line >= 1 && diagnostic.column >= 1);
    }
    keeps_no_nul(&parsed);
    let _ = render("dags/x.yaml", text, &parsed.diagnostics, false);
}

/// The parts of a file go into rows, and no row takes a NUL.
fn keeps_no_nul(parsed: &Parsed) {
    for diagnostic in &parsed.diagnostics {
        let help = diagnostic.help.as_deref().unwrap_or_default();
        assert!(!diagnostic.message.contains('\0'), "{diagnostic:?}");
        assert!(!help.contains('\0'), "{diagnostic:?}");
    }
    if let Some(dag) = &parsed.dag {
        // A backslash that is meant is shown as two.
        let shown = format!("{:?}", dag.declared()).replace(r"\\", "");
        assert!(!shown.contains(r"\0"), "{shown}");
    }
}

#[test]
fn a_nul_anywhere_in_a_file_is_a_fault_of_the_file() {
    for (at, _) in GOOD.char_indices().step_by(7) {
        for nul in ["\0", "\"\\0\"", "\\0", "\\x00", "\\u0000", "\\U00000000"] {
            let parsed = parse(
                "dags/x.yaml",
                &format!("{}{nul}{}", &GOOD[..at], &GOOD[at..]),
            );
            keeps_no_nul(&parsed);
            assert!(
                nul != "\0" || parsed.dag.is_none(),
                "it is taken at byte {at}"
            );
        }
    }
}

/// Files that mean something, to be spoiled: the examples, and those with one fault each.
fn corpus() -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = ["../../dags", "tests/wrong", "tests/right"]
        .iter()
        .flat_map(|part| std::fs::read_dir(folder.join(part)).expect("a folder of files"))
        .map(|entry| entry.expect("a file").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    assert!(files.len() > 60, "{} files", files.len());
    files
        .iter()
        .map(|path| std::fs::read(path).expect("a file that can be read"))
        .collect()
}

/// Pieces that are put into files, next to their own text.
const POISON: [&[u8]; 17] = [
    b"\xff\xfe",
    b"\0",
    b"\"\\0\"",
    b"\"a\\x00b\": ",
    b"\\u0000",
    b"\t",
    b"&a *a",
    b"<<: *a",
    b"!!binary |",
    b"[[[[[[[[[[",
    b"{{{{{{{{{{",
    b"99999999999999999999999999",
    b"-1e400",
    b"${{ params.x / 0 }}",
    b"\xe2\x80\xae",
    b"---\n...\n---\n",
    b"? [a, b]\n: c\n",
];

#[test]
fn five_hundred_poisoned_files_are_answered_and_panic_none() {
    let corpus = corpus();
    // xorshift: the same files each time, on every machine.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap()
    };
    for number in 0..500 {
        let mut bytes = corpus[roll(corpus.len())].clone();
        for _ in 0..=roll(6) {
            let place = roll(bytes.len() + 1);
            match roll(5) {
                0 => bytes.truncate(place),
                1 => {
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte ^= 1 << roll(8);
                    }
                }
                2 => {
                    let poison = POISON[roll(POISON.len())];
                    bytes.splice(place..place, poison.iter().copied());
                }
                3 => {
                    let end = (place + roll(40)).min(bytes.len());
                    let piece: Vec<u8> = bytes[place..end].to_vec();
                    let at = roll(bytes.len() + 1);
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let end = (place + roll(40)).min(bytes.len());
                    bytes.drain(place..end);
                }
            }
        }
        let parsed = parse_bytes("dags/x.yaml", &bytes);
        keeps_no_nul(&parsed);
        // A file without a DAG says why.
        assert!(
            parsed.dag.is_some() || !parsed.diagnostics.is_empty(),
            "file {number} is refused without a word"
        );
    }
}

#[test]
fn class_17_no_build_argument_sets_a_proxy() {
    for name in ["http_proxy", "HTTPS_PROXY", "No_Proxy"] {
        let file = format!("stages: {{a: {{build: {{args: {{{name}: x}}}}, run: make}}}}");
        let parsed = parse("dags/x.yaml", &file);
        let [fault] = parsed.diagnostics.as_slice() else {
            panic!("{:?}", parsed.diagnostics);
        };
        assert_eq!(
            fault.message,
            format!("the build argument `{name}` cannot be set")
        );
        assert!(
            fault
                .help
                .as_deref()
                .is_some_and(|help| help.contains("ENV"))
        );
    }
}
