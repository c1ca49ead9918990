//! The state that all parts of a history share: time, chance, the frequency of faults, and the violations.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use trainyard_core::Timestamp;

use crate::held;
use crate::random::Random;
use crate::settings::{Mutation, Settings};
use crate::witness::Witness;

/// The invariants of every history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// An attempt's program is started at most once.
    StartedOnce,
    /// The end of an attempt is recorded once, and stays.
    RecordedOnce,
    /// Only what exited with code 0 has succeeded.
    ProvedSuccess,
    /// A program that ended because it was asked to has not succeeded.
    StoppedIsNoSuccess,
    /// An attempt's end is recorded when its program has ended.
    EndedBeforeRecorded,
    /// A stage has one live attempt, and no more attempts than its retry rule allows.
    RetryRule,
    /// A stage starts after what it needs, on the outcomes that it runs on.
    Order,
    /// Slots and pools are not given twice.
    Capacity,
    /// A later claim's fence is higher, and a fenced off supervisor touches nothing.
    Fences,
    /// A running program is asked to end before it is killed.
    Grace,
    /// A program is started with its files laid out.
    LaidOut,
    /// The log of what succeeded is whole, or says that it is not.
    WholeLog,
    /// Every run ends once faults stop.
    EveryRunEnds,
    /// No container is left once every run has ended.
    NothingLeft,
    /// The core decides nothing that it refuses itself, and does not panic.
    CoreAgrees,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub invariant: Invariant,
    /// When, since the history began.
    pub at: Duration,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} at +{:.3}s: {}",
            self.invariant,
            self.at.as_secs_f64(),
            self.what
        )
    }
}

/// How often what goes wrong, in per mille of the calls that it can happen to. Drawn once for each
/// history, most of it zero, so that histories differ in what goes wrong and not in how much.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weather {
    pub(crate) lose_request: u32,
    pub(crate) lose_answer: u32,
    /// Of what is lost, how much is noticed only by the caller's own deadline.
    pub(crate) silent: u32,
    /// An answer that Docker could not do it: before it did anything, or after.
    pub(crate) engine_error: u32,
    pub(crate) slow: u32,
    pub(crate) very_slow: u32,
    /// A wait or a log that never says anything again.
    pub(crate) hang: u32,
    pub(crate) lose_wake: u32,
    /// A daemon dies or stops at a call.
    pub(crate) kill_at_call: u32,
    pub(crate) pause_at_call: u32,
    /// A container is there and Docker says for a moment that it is not.
    pub(crate) overlooked: u32,
}

impl Weather {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut some = |worst: u64| -> u32 {
            if random.chance(400) {
                u32::try_from(1 + random.below(worst)).unwrap_or_default()
            } else {
                0
            }
        };
        Self {
            lose_request: some(80),
            lose_answer: some(80),
            silent: some(1000),
            engine_error: some(60),
            slow: some(200),
            very_slow: some(30),
            hang: some(150),
            lose_wake: some(1000),
            kill_at_call: some(25),
            pause_at_call: some(40),
            overlooked: some(30),
        }
    }
}

/// The state that all parts of a history share.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) seed: u64,
    pub(crate) witness: Mutex<Witness>,
    began: Instant,
    random: Mutex<Random>,
    weather: Mutex<Weather>,
    notes: Mutex<Vec<String>>,
    violations: Mutex<Vec<Violation>>,
}

impl World {
    /// Within a runtime whose time is paused.
    pub(crate) fn new(seed: u64, settings: Settings) -> Self {
        let mut random = Random::new(seed);
        let weather = Weather::draw(&mut random);
        Self {
            settings,
            seed,
            witness: Mutex::default(),
            began: Instant::now(),
            random: Mutex::new(random),
            weather: Mutex::new(weather),
            notes: Mutex::default(),
            violations: Mutex::default(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The true time. No part knows it: each has a clock that is off by something.
    pub(crate) fn now(&self) -> Timestamp {
        // 2026-11-23, noon.
        const EPOCH: i64 = 1_795_435_200;
        Timestamp::from_timestamp(EPOCH, 0).unwrap_or_default() + self.elapsed()
    }

    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut held(&self.random))
    }

    /// Whether this goes wrong now.
    pub(crate) fn strikes(&self, rate: impl FnOnce(&Weather) -> u32) -> bool {
        let per_mille = rate(&held(&self.weather));
        per_mille > 0 && self.draw(|random| random.chance(per_mille))
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        *held(&self.weather) = Weather::default();
        self.note(|| "faults stop".to_owned());
    }

    pub(crate) fn has(&self, mutation: Mutation) -> bool {
        self.settings.mutation == Some(mutation)
    }

    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if self.settings.trace {
            let line = format!("+{:>9.3} {}", self.elapsed().as_secs_f64(), what());
            held(&self.notes).push(line);
        }
    }

    pub(crate) fn violate(&self, invariant: Invariant, what: impl Into<String>) {
        let violation = Violation {
            invariant,
            at: self.elapsed(),
            what: what.into(),
        };
        self.note(|| format!("!!! {violation}"));
        held(&self.violations).push(violation);
    }

    pub(crate) fn demand(&self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violate(invariant, what());
        }
    }

    pub(crate) fn noticed(&self) -> (Vec<Violation>, Vec<String>) {
        let violations = std::mem::take(&mut *held(&self.violations));
        (violations, std::mem::take(&mut *held(&self.notes)))
    }
}
