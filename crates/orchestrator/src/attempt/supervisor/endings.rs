//! Maps the ends of attempts to the core's events.

use std::borrow::Cow;
use std::collections::BTreeMap;

use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_core::name::MetricName;
use trainyard_core::outcome::{Outcome, Reason, ReasonCode};
use trainyard_core::stage::Stage;
use trainyard_executor::{Error, ErrorKind, Exit, Proof};

use crate::attempt::mask::Masker;
use crate::clock;

/// An end that Docker cannot date.
pub(super) fn ended(ending: Ending) -> AttemptEnd {
    AttemptEnd {
        ending,
        ended_at: clock::now(),
        ran_for: None,
        metrics: Default::default(),
    }
}

/// How an executor error ends the attempt: by the stage's fault, or not.
pub(super) fn ending_of(error: &Error) -> Ending {
    let reason = error.reason();
    match error.kind {
        ErrorKind::Start | ErrorKind::ImageBuild => Ending::Rejected(reason),
        ErrorKind::Gone => Ending::Lost(reason),
        ErrorKind::ImageNotFound
        | ErrorKind::ImagePull
        | ErrorKind::Mismatch
        | ErrorKind::TooLarge
        | ErrorKind::OutputUnfit
        | ErrorKind::NoAddresses
        | ErrorKind::Storage
        | ErrorKind::Unreachable
        | ErrorKind::Engine => Ending::Errored(reason),
    }
}

/// What is proved about an end that Docker saw, with or without a stop request.
pub(super) fn proved(proof: Proof, seen: Exit, stopped: bool) -> Ending {
    match proof {
        Proof::Ended { exit, asked } if stopped || asked => Ending::Stopped { code: exit.code },
        Proof::Ended { exit, .. } => Ending::Exited {
            code: exit.code,
            out_of_memory: exit.out_of_memory,
        },
        // After a stop request, the exit code does not matter: no record is needed.
        Proof::Killed | Proof::Unproved if stopped => Ending::Stopped { code: seen.code },
        Proof::Killed => Ending::Errored(Reason::new(
            ReasonCode::Killed,
            "its container was killed from outside (by Docker, its host, or a person); cause unknown",
        )),
        Proof::Unfit(why) => Ending::Rejected(Reason::new(ReasonCode::ContainerStart, why)),
        Proof::NeverRan(why) => Ending::Errored(Reason::new(ReasonCode::ContainerStart, why)),
        Proof::Unproved => Ending::Lost(Reason::new(
            ReasonCode::Unproved,
            format!(
                "its container ended (exit code {}), but left no record of how its program ended",
                seen.code
            ),
        )),
    }
}

/// An end that cannot be proved.
pub(super) fn lost(message: &str) -> AttemptEnd {
    ended(Ending::Lost(Reason::new(ReasonCode::Unproved, message)))
}

pub(super) fn reason_of(ending: &Ending) -> Option<&Reason> {
    match ending {
        Ending::Rejected(reason) | Ending::Errored(reason) | Ending::Lost(reason) => Some(reason),
        Ending::Exited { .. } | Ending::Stopped { .. } | Ending::Withdrawn => None,
    }
}

/// An end that its program did not cause, for the daemon's log: the outcome and the reason.
pub(super) fn fault_of(ending: &Ending) -> Option<(Outcome, Reason)> {
    match ending {
        Ending::Lost(reason) => Some((Outcome::Lost, reason.clone())),
        Ending::Errored(reason) => Some((Outcome::Errored, reason.clone())),
        Ending::Rejected(_)
        | Ending::Exited { .. }
        | Ending::Stopped { .. }
        | Ending::Withdrawn => None,
    }
}

/// The metrics without those whose names hold a secret: the stage chose the names. Names in the file's own gate are
/// public already.
pub(super) fn mask_names(
    metrics: BTreeMap<MetricName, f64>,
    stage: &Stage,
    masker: &Masker,
) -> BTreeMap<MetricName, f64> {
    let is_open = |name: &MetricName| {
        let is_asked_for = stage.program().gate.iter().any(|rule| rule.metric == *name);
        is_asked_for || matches!(masker.mask(name.as_str().as_bytes()), Cow::Borrowed(_))
    };
    let (mut open, hidden): (BTreeMap<_, _>, BTreeMap<_, _>) =
        metrics.into_iter().partition(|(name, _)| is_open(name));
    let free = (1..).filter_map(|number| MetricName::new(format!("redacted-{number}")).ok());
    let free: Vec<MetricName> = free
        .filter(|name| !open.contains_key(name))
        .take(hidden.len())
        .collect();
    open.extend(free.into_iter().zip(hidden.into_values()));
    open
}

pub(super) fn mask_ending(ending: &mut Ending, masker: &Masker) {
    match ending {
        Ending::Rejected(reason) | Ending::Errored(reason) | Ending::Lost(reason) => {
            reason.message = masker.mask_text(&reason.message);
        }
        Ending::Exited { .. } | Ending::Stopped { .. } | Ending::Withdrawn => {}
    }
}
