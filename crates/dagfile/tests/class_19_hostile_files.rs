//! Files that are made to cost much: each is answered in time and memory in proportion to its size.
//!
//! The bound is on the time that the thread has of a processor, since the test checks that nothing is walked again
//! and again, wherever that may be. It is many times the time needed (tens of milliseconds, optimised), so that an
//! unoptimised build fits; quadratic readers took minutes here.

use std::fmt::Write as _;
use std::time::Duration;

use trainyard_dagfile::limits::{DIAGNOSTICS_AT_MOST, FILE_LARGEST};
use trainyard_dagfile::{parse, render, to_json};

const LONGEST: Duration = Duration::from_secs(8);

/// The time that this thread has had of a processor: a busy machine takes none of it.
fn used() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = text.split_ascii_whitespace().next().expect("a number");
    Duration::from_nanos(nanoseconds.parse().expect("a number"))
}

/// The most memory of the whole process at any time, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let words = line.expect("the peak").split_ascii_whitespace();
    words.rev().nth(1).expect("a number").parse().expect("KiB")
}

/// As many pieces as fit into a quarter of the largest file, between a beginning and an end.
fn filled(begin: &str, piece: impl Fn(usize) -> String, end: &str) -> String {
    filled_to(FILE_LARGEST / 4, begin, piece, end)
}

fn filled_to(size: usize, begin: &str, piece: impl Fn(usize) -> String, end: &str) -> String {
    let mut text = begin.to_owned();
    for number in 0.. {
        let piece = piece(number);
        if text.len() + piece.len() + end.len() > size {
            break;
        }
        text.push_str(&piece);
    }
    text + end
}

fn files() -> Vec<(&'static str, String)> {
    const STAGE: &str = "stages: {a: {image: x, run: y}}\n";
    let long = |length: usize| "x".repeat(length);
    let keys =
        |begin: &str, end: &str| filled_to(FILE_LARGEST, begin, |n| format!("k{n}: 1, "), end);
    let mut cycle = "stages:\n".to_owned();
    for n in 0..2_000 {
        let _ = writeln!(
            cycle,
            "  s{n}: {{image: x, run: y, needs: [s{}]}}",
            (n + 1) % 2_000
        );
    }
    let mut dense = "stages:\n".to_owned();
    for n in 0..2_000 {
        let needs: Vec<String> = (n + 1..n + 90).map(|n| format!("s{}", n % 2_000)).collect();
        let _ = writeln!(
            dense,
            "  s{n}: {{image: x, run: y, needs: [{}]}}",
            needs.join(",")
        );
    }
    let unknown_needs = filled(
        "stages:\n",
        |n| {
            let needs: Vec<String> = (0..20)
                .map(|m| format!("a-stage-that-is-{n}-not-{m}"))
                .collect();
            format!(
                "  a-stage-that-is-{n}: {{image: x, run: y, needs: [{}]}}\n",
                needs.join(",")
            )
        },
        "",
    );
    let conditions = |condition: &str| {
        let choices: Vec<String> = (0..1_000).map(|n| format!("choice-{n}")).collect();
        let begin = format!(
            "params: {{p: {{type: string, default: choice-1, choices: [{}]}}, f: {{type: boolean, default: true}}}}\nstages:\n",
            choices.join(",")
        );
        (0..(FILE_LARGEST - 30_000) / (condition.len() + 50))
            .take(1_990)
            .fold(begin, |text, n| {
                text + &format!("  s{n}: {{image: x, run: y, if: \"{condition}\"}}\n")
            })
    };
    let mut branching = "params.f".to_owned();
    for _ in 0..20 {
        branching = format!("({branching} == params.f)");
    }
    let many_equal = vec!["params.p != 'choice-2'"; 36].join(" && ");
    let mut tower = "a0: &a0 [x]\n".to_owned();
    for n in 1..1_000 {
        let _ = writeln!(tower, "a{n}: &a{n} [*a{}]", n - 1);
    }
    let anchors_within = format!(
        "x: {}{}{}\n{STAGE}",
        (0..60).fold(String::new(), |text, n| text + &format!("&n{n} [")),
        filled("", |_| "y,".to_owned(), ""),
        "]".repeat(60)
    );
    let script_of_all = format!(
        "x: &s \"{}\"\nstages:\n{}",
        long(99_000),
        (0..2_000).fold(String::new(), |text, n| text
            + &format!("  s{n}: {{image: x, run: *s}}\n"))
    );
    let env_of_all = format!(
        "env: {{A: \"{}\"}}\nstages:\n{}",
        long(900_000),
        (0..2_000).fold(String::new(), |text, n| text
            + &format!("  s{n}: {{image: x, run: y}}\n"))
    );
    let many_env_of_all = format!(
        "env: {{{}}}\nstages:\n{}",
        (0..1_000).fold(String::new(), |text, n| text + &format!("V{n}: a, ")),
        (0..2_000).fold(String::new(), |text, n| text
            + &format!("  s{n}: {{image: x, run: y}}\n"))
    );
    vec![
        ("a flow map of 90,000 keys", keys("{", "}")),
        (
            "an env of 99,000 names",
            keys(&format!("{STAGE}env: {{"), "}"),
        ),
        (
            "a map of one key, again and again",
            filled("{", |_| "k: 1, ".to_owned(), "}"),
        ),
        (
            "params by the thousand",
            keys(&format!("{STAGE}params: {{"), "}"),
        ),
        (
            "stages by the thousand",
            filled("stages: {", |n| format!("s{n}: {{}}, "), "}"),
        ),
        (
            "20,000 stages",
            filled(
                "stages:\n",
                |n| format!("  s{n}: {{image: x, run: y}}\n"),
                "",
            ),
        ),
        (
            "stages of one name",
            filled("stages:\n", |_| "  s: {image: x, run: y}\n".to_owned(), ""),
        ),
        (
            "needs by the thousand",
            filled(
                "stages: {a: {image: x, run: y, needs: [",
                |n| format!("b{n},"),
                "]}}",
            ),
        ),
        ("needs that no stage has", unknown_needs),
        ("a cycle of 2,000 stages", cycle),
        ("many cycles at once", dense),
        (
            "secrets by the thousand",
            filled(
                "stages: {a: {image: x, run: y, secrets: [",
                |n| format!("S{n},"),
                "]}}",
            ),
        ),
        (
            "a command of many words",
            filled(
                "stages: {a: {image: x, command: [",
                |_| "w,".to_owned(),
                "]}}",
            ),
        ),
        (
            "pools by the thousand",
            keys("stages: {a: {image: x, run: y, pools: {", "}}}"),
        ),
        (
            "inputs by the thousand",
            filled(
                "stages: {a: {image: x, run: y, inputs: {",
                |n| format!("i{n}: b.c, "),
                "}}}",
            ),
        ),
        (
            "outputs by the thousand",
            keys("stages: {a: {image: x, run: y, outputs: {", "}}}"),
        ),
        (
            "gates by the thousand",
            filled(
                "stages: {a: {image: x, run: y, metrics: m, gate: [",
                |_| "{metric: m},".to_owned(),
                "]}}",
            ),
        ),
        (
            "schedules by the thousand",
            filled(
                &format!("{STAGE}triggers: {{schedule: ["),
                |n| {
                    format!(
                        "{{cron: \"{} 0 29 2 *\", timezone: Europe/Berlim}},",
                        n % 60
                    )
                },
                "]}",
            ),
        ),
        (
            "branches by the thousand",
            filled(
                &format!("{STAGE}triggers: {{push: {{branches: ["),
                |n| format!("\"{{a,b}}*{n}\","),
                "]}}",
            ),
        ),
        (
            "choices by the thousand",
            filled(
                &format!("{STAGE}params: {{p: {{type: string, default: x, choices: ["),
                |n| format!("c{n},"),
                "]}}",
            ),
        ),
        (
            "a fault in every line",
            filled(STAGE, |n| format!("stagse{n}: 1\n"), ""),
        ),
        (
            "faults of a stage with a long name",
            filled(
                &format!("stages: {{{}: {{", long(1_000)),
                |n| format!("imag{n}: 1, "),
                "}}",
            ),
        ),
        (
            "tags by the thousand",
            filled("x: [", |_| "!t a,".to_owned(), "]"),
        ),
        ("100,000 open brackets", "[".repeat(100_000)),
        ("100,000 open braces", "{".repeat(100_000)),
        ("brackets to the end", "[".repeat(FILE_LARGEST)),
        ("question marks", "? ".repeat(FILE_LARGEST / 2)),
        ("dashes", "- ".repeat(FILE_LARGEST / 2)),
        ("colons", ": ".repeat(FILE_LARGEST / 2)),
        ("commas", format!("[{}", ",".repeat(FILE_LARGEST - 1))),
        ("lines", "\n".repeat(FILE_LARGEST)),
        ("comments", "#\n".repeat(FILE_LARGEST / 2)),
        ("documents", "---\n".repeat(FILE_LARGEST / 4)),
        ("directives", "%TAG ! x\n".repeat(FILE_LARGEST / 9)),
        ("tabs", "\t".repeat(FILE_LARGEST)),
        (
            "deeper and deeper",
            (0..1_400).fold(String::new(), |text, n| text + &" ".repeat(n) + "a:\n"),
        ),
        ("pairs within pairs", filled("", |_| "[a: ".to_owned(), "")),
        (
            "a text of a megabyte",
            format!("x: \"{}\"\n{STAGE}", long(1_000_000)),
        ),
        (
            "a key of a megabyte",
            format!("{}: 1\n{STAGE}", long(1_000_000)),
        ),
        (
            "a script of a megabyte",
            format!("stages: {{a: {{image: x, run: \"{}\"}}}}", long(1_000_000)),
        ),
        (
            "escapes",
            format!("x: \"{}\"\n{STAGE}", "\\n".repeat(500_000)),
        ),
        (
            "a text that is folded",
            format!("x: >\n{}{STAGE}", "  a\n".repeat(250_000)),
        ),
        (
            "a text without its quote",
            format!("x: \"{}", "a\n ".repeat(300_000)),
        ),
        (
            "a text of expressions",
            filled(
                "stages: {a: {image: x, run: y, env: {A: \"",
                |_| "${{ params.x }}".to_owned(),
                "\"}}}",
            ),
        ),
        (
            "openings of expressions",
            filled(
                "stages: {a: {image: \"",
                |_| "${{ ".to_owned(),
                "\", run: y}}",
            ),
        ),
        (
            "texts of expressions",
            filled(
                "stages: {a: {image: x, command: [",
                |_| "\"${{ params.xyz }}\",".to_owned(),
                "]}}",
            ),
        ),
        (
            "conditions that branch at every turn",
            conditions(&branching),
        ),
        ("conditions over many choices", conditions(&many_equal)),
        (
            "conditions that are too long",
            conditions(&"!".repeat(5_000)),
        ),
        (
            "conditions of open brackets",
            conditions(&"(".repeat(1_000)),
        ),
        (
            "a billion laughs",
            (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
                text + &format!(
                    "a{n}: &a{n} [{}]\n",
                    vec![format!("*a{}", n - 1); 10].join(",")
                )
            }),
        ),
        (
            "an alias of a large text, 50,000 times",
            format!(
                "x: &a \"{}\"\ny: [{}]\n{STAGE}",
                long(800_000),
                "*a,".repeat(50_000)
            ),
        ),
        ("a tower of aliases", tower + STAGE),
        ("anchors within anchors", anchors_within),
        (
            "anchors by the thousand",
            filled("x: [", |n| format!("&a{n} b,"), "]"),
        ),
        ("one script for all stages", script_of_all),
        ("one large variable for all stages", env_of_all),
        ("many variables for all stages", many_env_of_all),
    ]
}

#[test]
fn every_hostile_file_is_answered_in_time_and_memory_in_proportion_to_its_size() {
    for (name, text) in files() {
        let text = text.get(..text.len().min(FILE_LARGEST)).unwrap_or(&text);
        let begun = used();
        let parsed = parse("dags/x.yaml", text);
        let read = used() - begun;
        assert!(
            parsed.dag.is_some() || !parsed.diagnostics.is_empty(),
            "{name}"
        );
        assert!(
            parsed.diagnostics.len() <= DIAGNOSTICS_AT_MOST + 1,
            "{name}"
        );
        for diagnostic in &parsed.diagnostics {
            assert!(
                diagnostic.message.len() < 2_000,
                "{name}: {}",
                diagnostic.message
            );
        }
        let begun = used();
        let shown = render("dags/x.yaml", text, &parsed.diagnostics, false);
        let shown = shown.len()
            + to_json("dags/x.yaml", &parsed.diagnostics)
                .to_string()
                .len();
        println!(
            "{name}: {} bytes read in {read:?}, shown in {:?}, {shown} bytes, peak {} KiB",
            text.len(),
            (used() - begun),
            peak()
        );
        assert!(read < LONGEST, "{name} took {read:?}");
        assert!(
            (used() - begun) < LONGEST,
            "{name} took {:?} to show",
            used() - begun
        );
        assert!(shown < 500_000, "{name} is reported in {shown} bytes");
    }
    let peak = peak();
    assert!(peak < 400 * 1024, "it took {peak} KiB");
}

#[test]
fn work_grows_with_the_number_of_keys_and_not_with_its_square() {
    let time = |count: usize| {
        let mut text = "stages: {a: {image: x, run: y}}\nx: {".to_owned();
        for n in 0..count {
            let _ = write!(text, "k{n}: 1, ");
        }
        text.push('}');
        let best = (0..3).map(|_| {
            let begun = used();
            let _ = parse("dags/x.yaml", &text);
            used() - begun
        });
        best.min().unwrap_or_default()
    };
    let (few, many) = (time(5_000), time(80_000));
    // Sixteen times the keys: a quadratic reader needs 256 times the time.
    assert!(
        many < few * 100,
        "{few:?} for 5,000 keys, {many:?} for 80,000"
    );
}

#[test]
fn one_variable_for_all_stages_is_reported_with_what_to_do() {
    let (_, text) = files()
        .into_iter()
        .find(|(name, _)| *name == "one large variable for all stages")
        .expect("that file");
    let parsed = parse("dags/x.yaml", &text);
    let expected =
        "variables of 900001 bytes in each of 2000 stages are more than 8388608 bytes together";
    let messages: Vec<_> = parsed.diagnostics.iter().map(|d| &d.message).collect();
    assert!(
        messages.iter().any(|message| *message == expected),
        "{messages:?}"
    );
}
