//! Limits for peers that have shown neither a valid token nor a valid signature: they can cause a bounded number of
//! database queries and a bounded number of log lines.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::warn;

/// Lines of one kind in a minute; the rest are counted.
const LINES_A_MINUTE: u64 = 10;

const MINUTE: Duration = Duration::from_secs(60);

/// The longest text of a stranger in a log line, in characters.
const TEXT_LONGEST: usize = 200;

/// Failed attempts of one address: the burst, and the rate per second after it.
const OF_ONE: Rate = Rate {
    at_once: 100.0,
    a_second: 10.0,
};

/// Failed attempts of all addresses together. For loopback, only this limit holds: a reverse proxy serves many
/// clients.
const OF_ALL: Rate = Rate {
    at_once: 1000.0,
    a_second: 100.0,
};

/// The most addresses whose attempts are counted separately.
const ADDRESSES_AT_MOST: usize = 4096;

/// The most tokens that are remembered as valid.
const TOKENS_AT_MOST: usize = 1024;

/// Kinds of log lines that a stranger can cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    RefusedDelivery,
    LargeDelivery,
    MalformedDelivery,
    NoRoom,
    AcceptFailed,
    TooManyAttempts,
}

impl Kind {
    /// The text after the number of suppressed lines.
    const fn in_words(self) -> &'static str {
        match self {
            Self::RefusedDelivery => "more webhook deliveries had no valid signature",
            Self::LargeDelivery => "more webhook deliveries were larger than limits.webhook",
            Self::MalformedDelivery => "more webhook deliveries could not be read",
            Self::NoRoom => "more connections were rejected because of http.connections",
            Self::AcceptFailed => "more times accepting a connection failed",
            Self::TooManyAttempts => {
                "more requests were rejected (429) after too many failed attempts"
            }
        }
    }
}

/// The limits for strangers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Strangers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    lines: Mutex<HashMap<Kind, Lines>>,
    attempts: Mutex<FailedAttempts>,
    good_tokens: Mutex<HashSet<[u8; 32]>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Too many attempts failed; the next one is allowed after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany(pub(crate) Duration);

impl Strangers {
    /// Counts an attempt of an address; a successful attempt is [given back](Self::give_back).
    pub(crate) fn take(&self, address: IpAddr) -> Result<(), TooMany> {
        let taken = lock(&self.0.attempts).take(address, Instant::now());
        if taken.is_err() && self.may_log(Kind::TooManyAttempts) {
            warn!(
                peer = %address,
                "rejecting requests (429): too many had no valid token or signature"
            );
        }
        taken
    }

    /// Uncounts a successful attempt.
    pub(crate) fn give_back(&self, address: IpAddr) {
        lock(&self.0.attempts).give_back(address);
    }

    /// Whether a token was valid at its last use: then its use is not counted as an attempt. The database still
    /// decides whether it is valid now.
    pub(crate) fn was_good(&self, token: &SecretString) -> bool {
        lock(&self.0.good_tokens).contains(&digest(token))
    }

    /// Remembers whether a token is valid.
    pub(crate) fn note_token(&self, token: &SecretString, is_good: bool) {
        let mut tokens = lock(&self.0.good_tokens);
        if !is_good {
            tokens.remove(&digest(token));
            return;
        }
        if tokens.len() >= TOKENS_AT_MOST {
            tokens.clear();
        }
        tokens.insert(digest(token));
    }

    pub(crate) fn log_refused_delivery(&self, repo: &str) {
        if self.may_log(Kind::RefusedDelivery) {
            warn!(
                repo = short(repo),
                "rejected a webhook delivery: invalid signature"
            );
        }
    }

    pub(crate) fn log_large_delivery(&self, repo: &str, at_most: usize) {
        if self.may_log(Kind::LargeDelivery) {
            warn!(
                repo = short(repo),
                "rejected a webhook delivery: it is larger than limits.webhook, which is {at_most} bytes"
            );
        }
    }

    pub(crate) fn log_malformed_delivery(&self, repo: &str, problem: &str) {
        if self.may_log(Kind::MalformedDelivery) {
            warn!(
                repo = short(repo),
                problem = short(problem),
                "rejected a webhook delivery with a valid signature: its body cannot be read"
            );
        }
    }

    pub(crate) fn log_no_room(&self, address: IpAddr) {
        if self.may_log(Kind::NoRoom) {
            warn!(
                peer = %address,
                "rejected a connection: there are as many as http.connections allows"
            );
        }
    }

    pub(crate) fn log_accept_failed(&self, error: &std::io::Error) {
        if self.may_log(Kind::AcceptFailed) {
            warn!("could not accept a connection; will retry: {error}");
        }
    }

    /// Logs how many lines were suppressed in past minutes.
    pub(crate) fn log_rest(&self) {
        let now = Instant::now();
        for (kind, lines) in lock(&self.0.lines).iter_mut() {
            if now.duration_since(lines.since) >= MINUTE {
                lines.turn(*kind, now);
            }
        }
    }

    fn may_log(&self, kind: Kind) -> bool {
        let now = Instant::now();
        lock(&self.0.lines)
            .entry(kind)
            .or_insert(Lines {
                since: now,
                count: 0,
            })
            .may_log(kind, now)
    }
}

fn digest(token: &SecretString) -> [u8; 32] {
    Sha256::digest(token.expose_secret().as_bytes()).into()
}

/// A stranger's text, shortened for a log line. The log format escapes it.
fn short(text: &str) -> String {
    match text.char_indices().nth(TEXT_LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
    }
}

/// The number of lines of one kind in the present minute.
#[derive(Debug)]
struct Lines {
    since: Instant,
    count: u64,
}

impl Lines {
    fn may_log(&mut self, kind: Kind, now: Instant) -> bool {
        if now.duration_since(self.since) >= MINUTE {
            self.turn(kind, now);
        }
        self.count += 1;
        self.count <= LINES_A_MINUTE
    }

    fn turn(&mut self, kind: Kind, now: Instant) {
        let left_out = self.left_out();
        if left_out > 0 {
            warn!("in the last minute {left_out} {}", kind.in_words());
        }
        self.since = now;
        self.count = 0;
    }

    const fn left_out(&self) -> u64 {
        self.count.saturating_sub(LINES_A_MINUTE)
    }
}

/// A limit on failed attempts.
#[derive(Debug, Clone, Copy)]
struct Rate {
    at_once: f64,
    a_second: f64,
}

/// The rest of a rate.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self {
            left: rate.at_once,
            at: now,
        }
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        let since = now.duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * rate.a_second).min(rate.at_once);
        self.at = now;
    }

    fn take(&mut self, rate: Rate, now: Instant) -> Result<(), TooMany> {
        self.refill(rate, now);
        if self.left < 1.0 {
            let wait = (1.0 - self.left) / rate.a_second;
            return Err(TooMany(Duration::from_secs_f64(wait)));
        }
        self.left -= 1.0;
        Ok(())
    }

    fn give_back(&mut self, rate: Rate) {
        self.left = (self.left + 1.0).min(rate.at_once);
    }
}

/// The rest of each address, and of all together.
#[derive(Debug, Default)]
struct FailedAttempts {
    of_all: Option<Bucket>,
    of_each: HashMap<IpAddr, Bucket>,
}

impl FailedAttempts {
    fn take(&mut self, address: IpAddr, now: Instant) -> Result<(), TooMany> {
        if !address.is_loopback() {
            if self.of_each.len() >= ADDRESSES_AT_MOST && !self.of_each.contains_key(&address) {
                self.forget(now);
            }
            let bucket = self
                .of_each
                .entry(address)
                .or_insert_with(|| Bucket::full(OF_ONE, now));
            bucket.take(OF_ONE, now)?;
        }
        let of_all = self.of_all.get_or_insert_with(|| Bucket::full(OF_ALL, now));
        of_all.take(OF_ALL, now)
    }

    fn give_back(&mut self, address: IpAddr) {
        if let Some(bucket) = self.of_each.get_mut(&address) {
            bucket.give_back(OF_ONE);
        }
        if let Some(bucket) = &mut self.of_all {
            bucket.give_back(OF_ALL);
        }
    }

    /// Makes room: drops the refilled buckets or, where there are none, all. The limit of all addresses still holds
    /// then.
    fn forget(&mut self, now: Instant) {
        self.of_each.retain(|_, bucket| {
            bucket.refill(OF_ONE, now);
            bucket.left < OF_ONE.at_once
        });
        if self.of_each.len() >= ADDRESSES_AT_MOST {
            self.of_each.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn failures(attempts: &mut FailedAttempts, from: &str, now: Instant) -> usize {
        (0..10_000)
            .take_while(|_| attempts.take(address(from), now).is_ok())
            .count()
    }

    #[test]
    fn an_address_that_fails_too_often_waits_and_another_does_not() {
        let (mut attempts, now) = (FailedAttempts::default(), Instant::now());
        assert_eq!(failures(&mut attempts, "192.0.2.1", now), 100);
        assert_eq!(failures(&mut attempts, "192.0.2.2", now), 100);
        let later = now + Duration::from_secs(1);
        assert_eq!(failures(&mut attempts, "192.0.2.1", later), 10);
    }

    #[test]
    fn all_addresses_together_have_a_bound_and_so_has_what_is_remembered_of_them() {
        let (mut attempts, now) = (FailedAttempts::default(), Instant::now());
        let taken = (0..20_000_u32)
            .filter(|number| {
                let from = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
                attempts.take(from, now).is_ok()
            })
            .count();
        assert_eq!(taken, 1000);
        assert!(attempts.of_each.len() <= ADDRESSES_AT_MOST);
    }

    #[test]
    fn an_attempt_that_is_given_back_costs_nothing() {
        let (mut attempts, now) = (FailedAttempts::default(), Instant::now());
        for _ in 0..5_000 {
            attempts.take(address("192.0.2.1"), now).unwrap();
            attempts.give_back(address("192.0.2.1"));
        }
    }

    #[test]
    fn a_minute_has_ten_lines_of_a_kind_and_the_rest_are_counted() {
        let now = Instant::now();
        let mut lines = Lines {
            since: now,
            count: 0,
        };
        let kind = Kind::RefusedDelivery;
        let logged = (0..5_000).filter(|_| lines.may_log(kind, now)).count();
        assert_eq!((logged, lines.left_out()), (10, 4_990));
        assert!(lines.may_log(kind, now + MINUTE));
        assert_eq!(lines.left_out(), 0);
    }

    #[test]
    fn a_long_text_of_a_stranger_is_cut_at_a_character() {
        let cut = short(&"ä".repeat(15_000));
        assert!(cut.len() < 500 && cut.ends_with("(30000 bytes)"), "{cut}");
        assert_eq!(short("shop"), "shop");
    }
}
