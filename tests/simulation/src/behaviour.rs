//! The behaviour of a program when it is run: drawn from the seed and its place alone, so that it does not
//! depend on anything that happened before.

use std::time::Duration;

use trainyard_executor::AttemptSpec;

use crate::random::Random;

/// Names of stages whose programs may run without end begin so: such stages have a timeout.
pub(crate) const MAY_BE_ENDLESS: char = 't';

/// The behaviour of a program.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// How long it runs; none is without end.
    pub(crate) length: Option<Duration>,
    pub(crate) exit: i32,
    pub(crate) out_of_memory: bool,
    /// Pieces that it prints, each so long after its start.
    pub(crate) prints: Vec<(Duration, Vec<u8>)>,
    pub(crate) on_term: OnTerm,
    pub(crate) start: Start,
    pub(crate) image: Image,
    /// Whether it leaves what was declared.
    pub(crate) leaves_outputs: bool,
    pub(crate) metrics: String,
}

/// Its reaction to a request to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnTerm {
    Dies,
    /// It takes the request for a reason to end well.
    ExitsWell,
    Ignores,
}

/// Docker's answer to its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Works,
    /// It cannot be: the stage's fault.
    Refused,
    /// Docker fails to, each time.
    Breaks,
}

/// Whether its image is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Image {
    Ready,
    Slow,
    Missing,
}

impl Behaviour {
    pub(crate) fn of(seed: u64, spec: &AttemptSpec) -> Self {
        Self::at(
            seed,
            spec.run.0.unsigned_abs(),
            spec.stage.as_str(),
            spec.number,
        )
    }

    pub(crate) fn at(seed: u64, run: u64, stage: &str, number: u32) -> Self {
        let place = stage
            .bytes()
            .fold(0_u64, |sum, byte| sum * 256 + u64::from(byte));
        let mut random = Random::for_purpose(seed, &[run, place, u64::from(number)]);
        let random = &mut random;
        let endless = stage.starts_with(MAY_BE_ENDLESS) && random.chance(250);
        let longest = random.pick(&[0, 50, 2_000, 20_000]);
        let length = random.millis(0, longest);
        let exit = if random.chance(800) {
            0
        } else {
            random.pick(&[1, 2, 127, 137])
        };
        Self {
            length: (!endless).then_some(length),
            exit,
            out_of_memory: exit == 137 && random.chance(500),
            prints: prints(random, length),
            on_term: random.pick(&[
                OnTerm::Dies,
                OnTerm::Dies,
                OnTerm::ExitsWell,
                OnTerm::Ignores,
            ]),
            start: match random.below(60) {
                0 => Start::Refused,
                1 => Start::Breaks,
                _ => Start::Works,
            },
            image: match random.below(60) {
                0 => Image::Missing,
                1..=4 => Image::Slow,
                _ => Image::Ready,
            },
            leaves_outputs: random.chance(950),
            metrics: match random.below(12) {
                0 => "{\"auc\": \"good\"}".to_owned(),
                1 => "{}".to_owned(),
                _ => format!("{{\"auc\": 0.{}}}", random.between(1, 99)),
            },
        }
    }

    /// Its output after running for `ran`.
    pub(crate) fn printed(&self, ran: Duration) -> impl Iterator<Item = &(Duration, Vec<u8>)> {
        self.prints.iter().take_while(move |(at, _)| *at <= ran)
    }
}

fn prints(random: &mut Random, length: Duration) -> Vec<(Duration, Vec<u8>)> {
    let last = u64::try_from(length.as_millis()).unwrap_or_default();
    let count = random.pick(&[0, 1, 1, 2, 5]);
    let mut at: Vec<u64> = (0..count).map(|_| random.between(0, last)).collect();
    at.sort_unstable();
    let piece = |(place, at): (usize, u64)| {
        let mut text = format!("piece {place} of what is printed");
        if random.chance(600) {
            text.push('\n');
        }
        (Duration::from_millis(at), text.into_bytes())
    };
    at.into_iter().enumerate().map(piece).collect()
}
