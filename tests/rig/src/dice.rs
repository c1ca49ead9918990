//! Randomness that a seed repeats.
//!
//! SplitMix64: a few lines, no dependency, and the same numbers on every machine for ever, which is
//! all that a seed in a report is good for.

use std::time::Duration;

/// A sequence of numbers that depends on nothing but its seed.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The sequence of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub const fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 where that is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.roll() % bound }
    }

    /// Whether a chance of `probability` (0 to 1) comes true.
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits of a roll are more than a probability needs"
    )]
    pub fn chance(&mut self, probability: f64) -> bool {
        ((self.roll() >> 11) as f64) / ((1_u64 << 53) as f64) < probability
    }

    /// A time between `least` and `most`, to the microsecond.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        least + Duration::from_micros(self.below(span.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_sequence() {
        let of = |seed| {
            let mut dice = Dice::new(seed);
            (0..5).map(|_| dice.roll()).collect::<Vec<_>>()
        };
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn chances_come_true_about_as_often_as_they_should() {
        let mut dice = Dice::new(1);
        let hits = (0..10_000).filter(|_| dice.chance(0.25)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| dice.chance(1.0)));
        assert!((0..1_000).all(|_| !dice.chance(0.0)));
    }

    #[test]
    fn a_time_stays_between_its_bounds() {
        let (least, most) = (Duration::from_millis(5), Duration::from_millis(9));
        let mut dice = Dice::new(3);
        assert!((0..1_000).all(|_| (least..=most).contains(&dice.between(least, most))));
        assert_eq!(dice.between(most, most), most);
    }
}
