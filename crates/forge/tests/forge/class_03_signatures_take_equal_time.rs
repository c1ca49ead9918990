//! The time that it takes to reject a signature does not reveal how much of it was right.
//!
//! The method of dudect: two kinds of input in random order, and Welch's t-test over their times. A `==` that ends
//! at the first wrong byte gives some hundreds. It is a measurement, so it belongs to the long programme.

use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use secrecy::SecretString;
use trainyard_forge::webhook::{Provider, Signed};

const SAMPLES: usize = 1_000_000;

/// Beyond this the two kinds differ, except in one of some hundred thousand measurements.
const DIFFERENT: f64 = 4.5;

/// Samples above this quantile are interruptions by other programs.
const KEPT: f64 = 0.9;

#[test]
#[ignore = "a measurement of a minute: deploy/chaos-long.sh"]
fn class_03_a_signature_that_is_almost_right_is_refused_as_fast_as_any() {
    let right = right();
    let guesses = [0, 31].map(|byte| {
        let mut guess = right.clone();
        guess[byte] ^= 1;
        guess
    });
    let refused = [signed(&guesses[0]), signed(&guesses[1])];
    let headers = HeaderMap::new();

    let verified = t_of(|kind| refused[kind].verify(&headers).is_ok());
    // A check of the measurement: the same bytes, compared with a loop that ends early.
    let compared = t_of(|kind| {
        right
            .iter()
            .zip(&guesses[kind])
            .all(|(one, other)| one == other)
    });
    assert!(
        compared.abs() > DIFFERENT,
        "it would not notice: t = {compared}"
    );
    assert!(verified.abs() < DIFFERENT, "t = {verified}");
}

const BODY: &[u8] = b"{}";

fn secret() -> SecretString {
    SecretString::from("a webhook secret".to_owned())
}

fn right() -> Vec<u8> {
    let (_, signature) = Provider::GitHub.sign(&secret(), BODY);
    hex::decode(signature.strip_prefix("sha256=").unwrap()).unwrap()
}

/// The body under a signature.
fn signed(signature: &[u8]) -> Signed {
    let mut headers = HeaderMap::new();
    let value = format!("sha256={}", hex::encode(signature));
    headers.insert(
        "x-hub-signature-256",
        HeaderValue::from_str(&value).unwrap(),
    );
    let claim = Provider::GitHub.claim(&headers).unwrap();
    let mut signed = claim.signed_with(&secret());
    signed.take(BODY);
    signed
}

/// Welch's t of the times that something takes with inputs of two kinds.
fn t_of(mut run: impl FnMut(usize) -> bool) -> f64 {
    let mut times = [Vec::new(), Vec::new()];
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..SAMPLES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let kind = usize::from(random & 1 == 1);
        let begun = Instant::now();
        assert!(!std::hint::black_box(run(std::hint::black_box(kind))));
        times[kind].push(begun.elapsed().as_nanos());
    }
    let mut all: Vec<u128> = times.iter().flatten().copied().collect();
    all.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a position among a million"
    )]
    let slowest = all[(all.len() as f64 * KEPT) as usize];
    let [(one, spread_one), (other, spread_other)] = times.map(|times| {
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds, far below 2^52")]
        let kept: Vec<f64> = times
            .into_iter()
            .filter(|time| *time <= slowest)
            .map(|time| time as f64)
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "a million at most")]
        let count = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / count;
        let variance = kept.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    });
    (one - other) / (spread_one + spread_other).sqrt()
}
