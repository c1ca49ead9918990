//! Waits between retries. They double up to a bound, and each varies by up to a quarter, so that callers that failed
//! together do not retry together.

use std::time::Duration;

use uuid::Uuid;

/// The waits of one caller. Its variation comes from an id, so a simulation repeats.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    noise: u64,
}

impl Backoff {
    /// Waits from `first` up to `longest`, for the caller with the id `of`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration, of: Uuid) -> Self {
        let (high, low) = of.as_u64_pair();
        Self {
            first,
            longest,
            next: first,
            noise: high ^ low,
        }
    }

    /// The wait before the next retry.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.longest);
        wait.saturating_mul(384 + self.noise()) / 512
    }

    /// Begins again with the first wait.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// A number from 0 to 255, by SplitMix64.
    fn noise(&mut self) -> u32 {
        self.noise = self.noise.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.noise;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        u32::from(mixed.to_be_bytes()[0])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waits(mut backoff: Backoff, count: usize) -> Vec<Duration> {
        (0..count).map(|_| backoff.next_wait()).collect()
    }

    proptest! {
        #[test]
        fn waits_double_to_their_bound_within_a_quarter_and_repeat_for_the_same_id(
            first in 1_u64..10_000,
            times in 1_u32..1_000,
            id in any::<u128>(),
            before in 0_usize..20,
        ) {
            let first = Duration::from_millis(first);
            let longest = first * times;
            let mut backoff = Backoff::new(first, longest, Uuid::from_u128(id));
            prop_assert_eq!(waits(backoff.clone(), 40), waits(backoff.clone(), 40));
            for _ in 0..before {
                backoff.next_wait();
            }
            backoff.reset();
            let mut exact = first;
            for wait in waits(backoff, 40) {
                prop_assert!(wait >= exact * 3 / 4 && wait <= exact * 5 / 4, "{wait:?} for {exact:?}");
                exact = (exact * 2).min(longest);
            }
        }
    }

    #[test]
    fn two_callers_do_not_retry_together() {
        let of = |id| {
            let second = Duration::from_secs(1);
            waits(Backoff::new(second, second, Uuid::from_u128(id)), 20)
        };
        let together = of(1).into_iter().zip(of(2)).filter(|(a, b)| a == b);
        assert!(together.count() < 5);
    }
}
