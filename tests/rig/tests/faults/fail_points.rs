//! F1: the daemon dies, or gets an error for a call that succeeded, at every place where it has an effect: before and
//! after each commit to the database and each call to Docker. It continues from there as if nothing had happened. The
//! list of places is the program's own, so that none is left out.
//!
//! The gate tries a sample, the attempt protocol first; the long programme tries each place. `RIG_PLACE` is a
//! part of the name of those that are tried, where not all are: `store.hold_back`.

mod dev;
mod office;
mod play;
mod player;
mod push;
mod scenery;
mod seat;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use trainyard_rig::dice::Dice;
use trainyard_rig::fleet::Fleet;
use trainyard_rig::programme::within;
use trainyard_rig::trials::{Trial, Trials, Verdict};
use trainyard_tests::cli;
use trainyard_tests::place::Place;

use self::play::{Act, Mishaps, NO_CONTAINER, play};
use self::player::{Fall, Player};

use crate::{report, timed};

/// Everything is in hand again by then, counted from the start of the next daemon.
const IN_HAND: Duration = Duration::from_secs(5);

/// How many places the gate tries each way.
const SAMPLE: u32 = 5;

/// How many of a sample are of the attempt protocol, of four.
const OF_THE_PROTOCOL: usize = 3;

/// Whose effects are the attempt protocol.
const PROTOCOL: &[&str] = &[
    "store.start_run",
    "store.advance_run",
    "store.claim",
    "store.adopt",
    "store.note_created",
    "store.note_started",
    "store.append_log",
    "store.finish",
    "store.note_removed",
    "docker.inspect_image",
    "docker.create_container",
    "docker.upload",
    "docker.start_container",
    "docker.inspect_container",
    "docker.container_changes",
    "docker.wait_container",
    "docker.logs",
    "docker.fetch_record",
    "docker.collect",
    "docker.stop_container",
    "docker.remove_container",
    "docker.list_containers",
];

/// All places, as the program lists them, but for those of networks.
fn places() -> Vec<String> {
    let place = Place::new();
    let listed = cli::call(place.path(), &[], &["fail-points"]).good();
    let listed = listed.stdout.lines().filter(|place| !is_networks(place));
    listed.map(ToOwned::to_owned).collect()
}

/// Places that the network of a repo reaches. Daemons of the rig use Docker's own bridge: a network of a repo's own
/// would stay on this machine when their Docker is killed. The tests of the executor try networks.
fn is_networks(place: &str) -> bool {
    ["inspect_network", "create_network", "remove_network"]
        .iter()
        .any(|call| place.contains(call))
}

/// The places of the play.
fn daemons_places() -> Vec<String> {
    let mut places = places();
    let part = std::env::var("RIG_PLACE").unwrap_or_default();
    places.retain(|place| !is_companions(place) && place.contains(&part));
    places
}

/// Places that are reached by `trainyard dev` with a Postgres in a container only.
fn is_companions(place: &str) -> bool {
    place.contains("companion")
}

/// Without which a place is not reached.
fn mishaps(place: &str) -> Mishaps {
    Mishaps {
        container: place.starts_with("docker.remove_idle.")
            || place.starts_with("docker.container_changes."),
        engine: place.starts_with("store.tell_condition."),
    }
}

/// How often places are reached in a play in which nothing fails but what has to, by one process.
type Reached = BTreeMap<String, u64>;

/// The places that each act alone reaches. The same for all: the first test that needs it finds out.
static BY_ACT: OnceLock<BTreeMap<Act, Reached>> = OnceLock::new();

/// A fleet to play on.
struct Theatre {
    fleet: Fleet,
    record: PathBuf,
    _place: Place,
    is_open: bool,
}

impl Theatre {
    fn new(seed: u64) -> Self {
        let place = Place::new();
        Self {
            fleet: scenery::fleet(seed),
            record: place.join("reached"),
            _place: place,
            is_open: false,
        }
    }

    /// Opens with a play, so that there is something old for the next one.
    fn open(&mut self) {
        if !self.is_open {
            let _ = self.play_undisturbed(&[Act::Office], false);
            self.is_open = true;
        }
    }

    /// A play in which nothing fails but, where asked for, what has to for some places to be reached.
    /// Returns how often they were, and how long the slowest start took.
    fn play_undisturbed(&mut self, acts: &[Act], with_mishaps: bool) -> (Reached, Duration) {
        let mishaps = Mishaps {
            container: with_mishaps,
            engine: with_mishaps,
        };
        let plan = if with_mishaps { NO_CONTAINER } else { "" };
        let mut player = Player::new(&mut self.fleet, plan.to_owned(), self.record.clone());
        let wrong = play(&mut player, acts, mishaps);
        let falls = &player.falls;
        assert!(wrong.is_empty() && falls.is_empty(), "{wrong:?} {falls:?}");
        (player.reached(), player.recovery)
    }

    /// Plays with one failure at a place, in an act that reaches it and at one of the first times; in all acts if
    /// that causes no failure.
    fn try_at(&mut self, place: &str, action: &str, dice: &mut Dice) -> Verdict {
        self.open();
        let by_act = BY_ACT.get_or_init(|| {
            let alone = Act::ALL.map(|act| (act, self.play_undisturbed(&[act], false).0));
            alone.into()
        });
        let mut coming: Vec<(Act, u64)> = by_act
            .iter()
            .filter_map(|(act, reached)| Some((*act, *reached.get(place)?)))
            .collect();
        let besides = mishaps(place);
        // No act reaches them by itself.
        coming.extend(besides.engine.then_some((Act::Office, 1)));
        coming.extend(besides.container.then_some((Act::Push, 1)));
        let verdict = match coming.as_slice() {
            [] => None,
            acts => {
                let (act, often) = acts[usize::try_from(dice.below(acts.len() as u64)).unwrap()];
                let nth = 1 + dice.below(often.min(3));
                self.try_once(&[act], place, action, nth)
            }
        };
        verdict
            .or_else(|| self.try_once(&Act::ALL, place, action, 1))
            .unwrap_or_else(|| Verdict {
                violations: vec![format!("{place} was not reached")],
                recovery: None,
            })
    }

    /// `None` if no failure happened.
    fn try_once(&mut self, acts: &[Act], place: &str, action: &str, nth: u64) -> Option<Verdict> {
        let besides = mishaps(place);
        let at = format!("{place}={action}@{nth}");
        let plan = if besides.container {
            format!("{NO_CONTAINER};{at}")
        } else {
            at.clone()
        };
        let mut player = Player::new(&mut self.fleet, plan, self.record.clone());
        let (mut violations, took) = timed(|| play(&mut player, acts, besides));
        report(&format!(
            "F1: {at} in {acts:?}: {:.1} s",
            took.as_secs_f64()
        ));
        if player.reached().get(place).is_none_or(|times| *times < nth) {
            return None;
        }
        // A start that gets a failure ends, and says so.
        let may_fall = |fall: &Fall| action == "abort" || matches!(fall, Fall::Starting(_));
        if player.falls.len() > 1 || !player.falls.iter().all(may_fall) {
            violations.push(format!("it ended: {:?}", player.falls));
        }
        if action == "abort" && player.falls.is_empty() {
            violations.push("it did not end".to_owned());
        }
        let recovery = player.recovery;
        if recovery > within(IN_HAND) {
            violations.push(format!("in hand {recovery:?} after a start"));
        }
        if !violations.is_empty() {
            violations.insert(0, format!("{at} in {acts:?}"));
        }
        Some(Verdict {
            violations,
            recovery: Some(recovery),
        })
    }
}

/// The places of a number of trials: all of them in order, or a sample that mostly is of the attempt
/// protocol.
fn chosen(trials: &Trials, places: &[String]) -> Vec<String> {
    if trials.count as usize >= places.len() {
        return places.to_vec();
    }
    let mut dice = Dice::new(trials.seed);
    let is_protocol = |place: &&String| {
        PROTOCOL
            .iter()
            .any(|point| place.rsplit_once('.').is_some_and(|(of, _)| of == *point))
    };
    let (mut protocol, mut others): (Vec<_>, Vec<_>) = places.iter().partition(is_protocol);
    let mut sample = Vec::new();
    for number in 0..trials.count as usize {
        let from = if number % 4 < OF_THE_PROTOCOL && !protocol.is_empty() || others.is_empty() {
            &mut protocol
        } else {
            &mut others
        };
        let index = usize::try_from(dice.below(from.len() as u64)).unwrap();
        sample.push(from.swap_remove(index).clone());
    }
    sample
}

fn try_places(trials: &Trials, places: &[String], action: &str) {
    let chosen = chosen(trials, places);
    let summary = trials.run(
        |trial: Trial| Theatre::new(trial.seed),
        |trial, theatre| {
            let place = &chosen[(trial.number as usize - 1) % chosen.len()];
            theatre.try_at(place, action, &mut trial.dice())
        },
        |theatre| theatre.fleet.testimony(),
    );
    summary.assert_clean(trials);
}

#[test]
fn every_place_is_reached() {
    let trials = Trials::new("F1 every place is reached", "all places", 1).long(1);
    let listed = places();
    let summary = trials.run(
        |trial| Theatre::new(trial.seed),
        |_, theatre| {
            theatre.open();
            let (reached, recovery) = theatre.play_undisturbed(&Act::ALL, true);
            let mut reached: BTreeSet<String> = reached.into_keys().collect();
            reached.extend(dev::reached());
            let (count, all) = (reached.len(), listed.len());
            report(&format!("F1: {count} of {all} places reached"));
            let missed = listed.iter().filter(|place| !reached.contains(*place));
            let violations = missed
                .map(|place| format!("not reached: {place}"))
                .collect();
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        |theatre| theatre.fleet.testimony(),
    );
    summary.assert_clean(&trials);
}

#[test]
fn a_daemon_that_dies_anywhere_is_followed_by_one_that_goes_on() {
    let places = daemons_places();
    let trials = Trials::new(
        "F1 daemon dies at a place",
        "all places, in hand 5 s after the next start",
        SAMPLE,
    )
    .long(u32::try_from(places.len()).unwrap());
    try_places(&trials, &places, "abort");
}

#[test]
fn a_daemon_that_gets_a_failure_goes_on() {
    let places = daemons_places();
    let trials = Trials::new(
        "F1 a call fails at a place, its effect or not",
        "all places, 0 run twice, all runs end",
        SAMPLE,
    )
    .long(u32::try_from(places.len()).unwrap());
    try_places(&trials, &places, "err");
}
