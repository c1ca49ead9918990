//! Secrets that are masked, and texts that are not.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::*;

const SECRET: &str = "hunter2/pa ss\"w";

fn masker() -> Masker {
    Masker::new([SECRET])
}

#[test]
fn where_secrets_are_not_known_everything_is_redacted() {
    let masker = Masker::of_everything();
    assert_eq!(masker.mask_text("anything at all"), MASK);
    assert_eq!(masker.mask_text(""), "");
    assert_eq!(masker.open_tail(b"anything"), 0);
}

#[track_caller]
fn hides(printed: &str) {
    let masked = masker().mask_text(printed);
    assert!(masked.contains(MASK), "{printed} came out as {masked}");
    assert!(!masked.contains("hunter2"), "{masked}");
}

#[test]
fn the_value_and_its_usual_forms_are_replaced() {
    hides(&format!("dsn={SECRET};"));
    hides(&hex::encode(SECRET));
    hides("q=hunter2%2Fpa%20ss%22w&x=1");
    hides(&serde_json::json!({ "password": SECRET }).to_string());
    for prefix in ["", "u", "us", "user:"] {
        let printed = STANDARD.encode(format!("{prefix}{SECRET} and more"));
        let masked = masker().mask_text(&printed);
        assert!(
            masked.contains(MASK),
            "{prefix}: {printed} came out as {masked}"
        );
    }
}

#[test]
fn each_line_of_a_long_secret_is_a_secret() {
    let masker = Masker::new(["-----BEGIN KEY-----\nMIIEabcdef\n-----END KEY-----\n"]);
    assert_eq!(masker.mask_text("got MIIEabcdef"), "got ***");
}

#[test]
fn very_short_values_are_left_alone() {
    assert_eq!(Masker::new(["abc", ""]).mask_text("abcabc"), "abcabc");
}

#[test]
fn a_tail_that_may_become_a_secret_is_buffered() {
    assert_eq!(masker().open_tail(b"password is hunt"), 4);
    assert_eq!(masker().open_tail(b"password is h"), 1);
    assert_eq!(masker().open_tail(b"nothing"), 0);
    assert_eq!(masker().open_tail(SECRET.as_bytes()), 0);
}

const ODD: &str = "Zq7/v\"Kx+m9 Lw3Tt";

#[track_caller]
fn leaves_nothing(secret: &str, printed: &str, parts: &[&str]) {
    let masked = Masker::new([secret]).mask_text(printed);
    assert!(masked.contains(MASK), "{printed} came out as {masked}");
    for part in parts {
        assert!(!masked.contains(part), "{printed} came out as {masked}");
    }
}

#[test]
fn class_10_addresses_hide_it_whichever_signs_they_leave_as_they_are() {
    for printed in [
        "Zq7%2Fv%22Kx%2Bm9%20Lw3Tt",
        "Zq7/v%22Kx%2Bm9%20Lw3Tt",
        "Zq7%2Fv%22Kx%2Bm9+Lw3Tt",
        "Zq7/v%22Kx+m9%20Lw3Tt",
        "Zq7%2fv%22Kx%2bm9%20Lw3Tt",
        "Zq7%252Fv%2522Kx%252Bm9%2520Lw3Tt",
        "%5A%71%37%2F%76%22%4B%78%2B%6D%39%20%4C%77%33%54%74",
        "100% of Zq7%2Fv%22Kx%2Bm9+Lw3Tt%",
    ] {
        leaves_nothing(ODD, printed, &["Zq7", "Lw3", "m9", "%4C%77"]);
    }
}

#[test]
fn class_10_json_and_quotes_of_all_kinds_hide_it() {
    for printed in [
        r#"{"password": "Zq7/v\"Kx+m9 Lw3Tt"}"#,
        r#"{"password": "Zq7\/v\"Kx+m9 Lw3Tt"}"#,
        r#""{\"password\": \"Zq7/v\\\"Kx+m9 Lw3Tt\"}""#,
        r"\u005a\u0071\u0037\u002f\u0076\u0022\u004b\u0078\u002b\u006d\u0039\u0020\u004c\u0077\u0033\u0054\u0074",
        r"b'\x5a\x71\x37\x2f\x76\x22\x4b\x78\x2b\x6d\x39\x20\x4c\x77\x33\x54\x74'",
        r"\132\161\067\057\166\042\113\170\053\155\071\040\114\167\063\124\164",
        r#"Zq7/v\"Kx+m9\ Lw3Tt"#,
        "<a title=\"Zq7/v&quot;Kx+m9 Lw3Tt\">",
        "Zq7&#47;v&#34;Kx&#x2B;m9&#32;Lw3Tt",
        "'Zq7/v\"Kx+m9 Lw3Tt'",
    ] {
        leaves_nothing(ODD, printed, &["Zq7", "Lw3", "m9", "4c", "114"]);
    }
    leaves_nothing(
        "pässwörd-ünï-93",
        r#""p\u00e4ssw\u00f6rd-\u00fcn\u00ef-93""#,
        &["93", "ssw"],
    );
    leaves_nothing(
        "pässwörd-ünï-€-93",
        r"'p\xe4ssw\xf6rd-\xfcn\xef-\u20ac-93'",
        &["93", "ssw"],
    );
    leaves_nothing("emoji-😀-key", r"emoji-\ud83d\ude00-key", &["emoji", "key"]);
    leaves_nothing("it's-a-key", r"+ echo 'it'\''s-a-key'", &["a-key"]);
    leaves_nothing("it's-a-key", r#"'it'"'"'s-a-key'"#, &["a-key"]);
}

#[test]
fn class_10_base64_that_is_broken_into_lines_hides_it() {
    let secret = "LONGabcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-longer-than-76-columns-of-base64-END";
    let masker = Masker::new([secret]);
    for prefix in [
        "",
        "u",
        "user:",
        "Basic: a user with a long name, longer than a line of base64 is",
    ] {
        for suffix in ["", "\n", " and more"] {
            for columns in [76, 64, 60] {
                let text = format!("{prefix}{secret}{suffix}");
                for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
                    let mut shown = String::new();
                    for line in encoded.as_bytes().chunks(columns) {
                        shown.push_str(&masker.mask_text(std::str::from_utf8(line).unwrap()));
                    }
                    let of_secret = STANDARD.encode(secret);
                    for at in 0..of_secret.len() - 16 {
                        assert!(!shown.contains(&of_secret[at..at + 16]), "{shown}");
                    }
                    let whole = STANDARD.encode(format!("{prefix}{secret}"));
                    let from = prefix.len().div_ceil(3) * 4 + 4;
                    for at in from..whole.len().saturating_sub(16) {
                        assert!(
                            !shown.contains(&whole[at..at + 16]),
                            "{prefix} {columns}: {shown}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn class_10_a_file_of_several_lines_is_hidden_in_base64() {
    let pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\nabcdefgh\n-----END KEY-----\n";
    let encoded = STANDARD.encode(pem);
    let masked: Vec<String> = encoded
        .as_bytes()
        .chunks(76)
        .map(|line| Masker::new([pem]).mask_text(std::str::from_utf8(line).unwrap()))
        .collect();
    assert!(masked.iter().all(|line| line.len() < 12), "{masked:?}");
}

#[test]
fn class_10_hex_hides_it_with_and_without_signs_between() {
    for printed in [
        hex::encode(ODD),
        hex::encode_upper(ODD),
        "5a:71:37:2f:76:22:4b:78:2b:6d:39:20:4c:77:33:54:74".to_owned(),
        "00000000: 5A 71 37 2F 76 22 4B 78 2B 6D 39 20 4C 77 33 54 74".to_owned(),
    ] {
        leaves_nothing(ODD, &printed, &["713", "71:37", "71 37", "54 74", "54:74"]);
    }
}

#[test]
fn class_10_what_is_secret_within_a_value_is_hidden_by_itself() {
    let json =
        r#"{"user":"u","password":"json-inner-pw-551","deep":[{"key":"two\nlines-of-key"}]}"#;
    for part in ["json-inner-pw-551", "lines-of-key"] {
        leaves_nothing(json, &format!("got {part}."), &[part]);
    }
    for (dsn, part) in [
        ("postgres://u:dsn-inner-pw-77@host/db", "dsn-inner-pw-77"),
        ("postgres://u:dsn%2Finner@host/db", "dsn/inner"),
        ("postgres://u:dsn/inner@host/db", "dsn/inner"),
        ("https://h/x?api_token=tok-123456&page=4", "tok-123456"),
        ("host=h user=u password=dsn-inner-pw-77", "dsn-inner-pw-77"),
        ("Server=h;Pwd=dsn-inner-pw-77;", "dsn-inner-pw-77"),
    ] {
        leaves_nothing(dsn, &format!("got {part}."), &[part]);
    }
    leaves_nothing("   trim-me-sekret  ", " trim-me-sekret ", &["trim-me"]);
    let masker = Masker::new([r#"{"type":"a","mode":"fast"}"#]);
    assert_eq!(
        masker.mask_text("fast mode"),
        "fast mode",
        "short parts are words"
    );
    let masker = Masker::new([r#"{"user":"svc","password":"hush","pin":"a1b2","note":"b-7x"}"#]);
    assert_eq!(masker.mask_text("hush a1b2 b-7x svc"), "*** *** *** svc");
}

#[test]
fn class_10_an_echo_without_quotes_hides_it() {
    let secret = "-----BEGIN KEY-----\nMIIE  abcdef\nXY\n\tZ\n-----END KEY-----\n";
    let echoed = "-----BEGIN KEY----- MIIE abcdef XY Z -----END KEY-----";
    let masker = Masker::new([secret]);
    assert_eq!(masker.mask_text(&format!("it is {echoed}.")), "it is ***.");
    assert_eq!(masker.mask_text("MIIE abcdef"), "***");
    let encoded = STANDARD.encode(format!("{echoed}\n"));
    let shown: String = encoded
        .as_bytes()
        .chunks(76)
        .map(|line| masker.mask_text(std::str::from_utf8(line).unwrap()))
        .collect();
    assert!(shown.replace(MASK, "").len() < 8, "{shown}");
    assert_eq!(Masker::new(["two  words"]).mask_text("two words"), "***");
}

#[test]
fn class_10_a_value_that_goes_on_after_the_beginning_of_another_is_hidden() {
    let long = "x".repeat(200);
    let (one, other) = (format!("{long}-one"), format!("{long}-other"));
    let masker = Masker::new([one.as_str(), other.as_str()]);
    assert_eq!(
        masker.mask_text(&format!("a {other} b {one}")),
        "a *** b ***"
    );
    assert!(!masker.mask_text(&format!("{long}-nothing")).contains("***"));
}

#[test]
fn class_10_each_cut_of_a_secret_with_letters_of_several_bytes_hides_it() {
    let before = " = a=";
    for secret in [
        "ß Aa😀a0 Aä😀AaA 0äA aä0ä00!",
        "! !a00AA a !D😀 😀0 a ä ä aa !ß !a0😀0>ß0Aäa",
    ] {
        let masker = Masker::new([secret]);
        for form in printed(secret) {
            each_cut_hides(&masker, before, &form);
        }
    }
}

#[test]
fn class_10_a_text_that_begins_as_another_one_is_hidden_to_its_end() {
    let common = "common-beginning-of-two-long-secrets";
    let (one, other) = (format!("{common}-ends-so"), format!("{common}-XY"));
    let masker = Masker::new([one.as_str(), other.as_str()]);
    for secret in [&one, &other] {
        for form in printed(secret) {
            each_cut_hides(&masker, "", &form);
        }
    }
}

#[track_caller]
fn each_cut_hides(masker: &Masker, before: &str, form: &str) {
    let line = format!("{before}{form} end");
    for cut in 0..=line.len() {
        let held = masker.open_tail(&line.as_bytes()[..cut]);
        let (first, second) = line.as_bytes().split_at(cut - held);
        let mut shown = masker.mask(first).into_owned();
        shown.extend_from_slice(&masker.mask(second));
        let shown = String::from_utf8_lossy(&shown).into_owned();
        let rest = shown.replace(MASK, "");
        // The quotes of the form itself, and the characters that base64 shares with its neighbours, may stay.
        assert!(
            rest.len() <= before.len() + " end".len() + 8,
            "{line:?} at {cut}: {shown:?}"
        );
    }
}

#[test]
fn class_10_secrets_that_overlap_leave_nothing_of_either() {
    let masker = Masker::new(["abcdef", "defghi"]);
    assert_eq!(masker.mask_text("x abcdefghi y"), "x *** y");
}

#[test]
fn large_secrets_cost_a_bounded_amount() {
    let large: Vec<String> = (0..4)
        .map(|number| {
            (0..64 * 1024 / 16)
                .map(|line| format!("{number}-{:013x}\n", line * 7_919 + number))
                .collect()
        })
        .collect();
    let masker = Masker::new(large.iter().map(String::as_str));
    let line = large[3].lines().last().unwrap();
    assert_eq!(masker.mask_text(&format!("got {line}.")), "got ***.");
    let forms = Forms::of(large.iter().map(String::as_str));
    let runs: usize = forms.runs.iter().map(|run| run.text.len()).sum();
    let whole: usize = forms.whole.iter().map(Vec::len).sum();
    assert!(runs + whole < 3 << 20, "{runs} {whole}");
}

#[test]
fn a_text_with_escapes_and_no_secret_passes_as_it_is() {
    let text = r#"100%+\"x\" &amp; 'it'\''s' \u00e4 %2f \"#;
    assert_eq!(masker().mask_text(text), text);
}

/// The forms that docs/security.md promises.
fn printed(secret: &str) -> Vec<String> {
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let json = serde_json::Value::from(secret).to_string();
    let unicode: String = secret
        .encode_utf16()
        .map(|unit| format!("\\u{unit:04x}"))
        .collect();
    let entities: String = secret
        .chars()
        .map(|letter| format!("&#{};", letter as u32))
        .collect();
    let ascii: String = secret
        .chars()
        .map(|letter| match letter as u32 {
            code @ 0x80..0x100 => format!("\\x{code:02x}"),
            code @ 0x100..0x10000 => format!("\\u{code:04x}"),
            code @ 0x10000.. => format!("\\U{code:08x}"),
            _ if letter == '\\' => "\\\\".to_owned(),
            _ => letter.to_string(),
        })
        .collect();
    vec![
        ascii,
        secret.to_owned(),
        hex::encode(secret),
        hex::encode_upper(secret),
        STANDARD.encode(secret),
        URL_SAFE.encode(secret),
        percent,
        serde_json::Value::from(json.as_str()).to_string(),
        json,
        unicode,
        entities,
        format!("'{}'", secret.replace('\'', "'\\''")),
    ]
}

#[test]
fn class_10_a_secret_that_ends_as_it_begins_is_not_cut_in_two() {
    for secret in ["abcxab", "0\\x0\\", "100%", "it'sit'"] {
        let masker = Masker::new([secret]);
        let line = format!("got {secret}");
        let held = masker.open_tail(line.as_bytes());
        let (first, second) = line.split_at(line.len() - held);
        let shown = masker.mask_text(first) + &masker.mask_text(second);
        assert_eq!(shown, "got ***", "{secret}");
    }
}

#[test]
fn a_repeating_text_is_not_buffered_for_ever() {
    let masker = Masker::new(["aaaa"]);
    let line = "a".repeat(100_000);
    assert!(masker.open_tail(line.as_bytes()) < 1_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn class_10_no_documented_form_passes_however_it_is_cut(
        secret in "[!-~äß😀]([ -~äß😀]{6,40})[!-~äß😀]",
        before in "[a-z =]{0,8}",
        cut in any::<prop::sample::Index>(),
    ) {
        let masker = Masker::new([secret.as_str()]);
        for form in printed(&secret) {
            let line = format!("{before}{form} end");
            // In two pieces, with the end of the first buffered where it may continue.
            let cut = cut.index(line.len());
            let held = masker.open_tail(&line.as_bytes()[..cut]);
            let (first, second) = line.as_bytes().split_at(cut - held);
            let mut shown = masker.mask(first).into_owned();
            shown.extend_from_slice(&masker.mask(second));
            let shown = String::from_utf8_lossy(&shown).into_owned();
            prop_assert!(shown.contains(MASK), "{line:?} at {cut} came out as {shown:?}");
            // The quotes of the form itself, and the characters that base64 shares with its neighbours, may stay.
            let rest = shown.replace(MASK, "");
            prop_assert!(
                rest.len() <= before.len() + " end".len() + 8,
                "{line:?} at {cut} came out as {shown:?}"
            );
        }
    }

    #[test]
    fn class_10_of_a_documented_form_that_is_not_finished_little_is_shown(
        secret in "[!-~äß😀]([ -~äß😀]{6,40})[!-~äß😀]",
        before in "[a-z =]{0,8}",
        cut in any::<prop::sample::Index>(),
    ) {
        let masker = Masker::new([secret.as_str()]);
        for form in printed(&secret) {
            let (begun, _) = form.as_bytes().split_at(cut.index(form.len() + 1));
            let line = [before.as_bytes(), begun].concat();
            let shown = String::from_utf8_lossy(&masker.mask_last(&line)).replace(MASK, "");
            // The quotes of the form, three bytes in the longest form of six signs for each, and an emoji that is cut.
            let most = if form == secret { 3 } else { 2 + 3 * 6 + 11 };
            prop_assert!(
                shown.chars().count() <= before.len() + most,
                "{form:?}: {line:?} came out as {shown:?}"
            );
        }
    }

    #[test]
    fn any_bytes_are_masked_without_a_panic(bytes in prop::collection::vec(prop_oneof![
        Just(b'%'), Just(b'\\'), Just(b'&'), Just(b';'), Just(b'\''), Just(b'u'), Just(b'{'), Just(b'd'), Just(b'8'),
        any::<u8>(),
    ], 0..200)) {
        let masker = masker();
        let _ = masker.mask(&bytes);
        let _ = masker.mask_last(&bytes);
        prop_assert!(masker.open_tail(&bytes) <= bytes.len());
    }
}
