//! Classifies the end of an attempt.

use crate::Timestamp;
use crate::event::{AttemptEnd, Ending};
use crate::gate;
use crate::measure::in_units;
use crate::outcome::{Outcome, Reason, ReasonCode};
use crate::stage::Stage;

/// The meaning of an attempt's end: its outcome, and why.
///
/// A container that ended after it was asked to stop was stopped, whatever its exit code: a program
/// that catches the signal and exits with 0 has not done its work.
#[must_use]
pub fn classify(
    stage: &Stage,
    stop: Option<&(Timestamp, Reason)>,
    end: &AttemptEnd,
) -> (Outcome, Option<Reason>) {
    if let Ending::Lost(reason) = &end.ending {
        return (Outcome::Lost, Some(reason.clone()));
    }
    if let Some((asked_at, why)) = stop
        && (end.ended_at >= *asked_at
            || matches!(end.ending, Ending::Withdrawn | Ending::Stopped { .. }))
    {
        let timed_out = [ReasonCode::StageTimeout, ReasonCode::RunTimeout].contains(&why.code);
        let outcome = if timed_out {
            Outcome::TimedOut
        } else {
            Outcome::Cancelled
        };
        return (outcome, Some(why.clone()));
    }
    match &end.ending {
        Ending::Exited { code: 0, .. } => {
            let refusals = gate::refusals(&stage.program().gate, &end.metrics);
            if refusals.is_empty() {
                (Outcome::Succeeded, None)
            } else {
                let message = format!("gate refused: {}", refusals.join("; "));
                (
                    Outcome::Failed,
                    Some(Reason::new(ReasonCode::GateRefused, message)),
                )
            }
        }
        Ending::Exited {
            code,
            out_of_memory: true,
        } => (Outcome::Failed, Some(out_of_memory_reason(stage, *code))),
        Ending::Exited { code, .. } => (Outcome::Failed, Some(exit_reason(*code))),
        Ending::Rejected(reason) => (Outcome::Failed, Some(reason.clone())),
        Ending::Errored(reason) => (Outcome::Errored, Some(reason.clone())),
        Ending::Lost(reason) => (Outcome::Lost, Some(reason.clone())),
        // Trainyard did not request this stop. A person at Docker did, or Docker, which stops all containers when it
        // is shut down or restarted. The stage is not at fault, and may be retried.
        Ending::Stopped { code } => {
            let message = format!(
                "stopped from outside Trainyard (by an operator, or because Docker shut down); exit code {code}"
            );
            (
                Outcome::Errored,
                Some(Reason::new(ReasonCode::Killed, message)),
            )
        }
        Ending::Withdrawn => {
            let message = "cancelled before its container was created";
            (
                Outcome::Cancelled,
                Some(Reason::new(ReasonCode::CancelRequested, message)),
            )
        }
    }
}

/// Docker says only that the kernel killed some process of the container; signal 9 says that it
/// was the main one.
fn out_of_memory_reason(stage: &Stage, code: i32) -> Reason {
    let limit = stage
        .program()
        .resources
        .memory
        .map_or_else(String::new, |bytes| format!(" of {}", in_units(bytes)));
    let message = if code == 128 + 9 {
        format!("killed by the kernel: it used more than its memory limit{limit}")
    } else {
        format!(
            "exit code {code}, after the kernel killed a process in it that used more than its memory limit{limit}"
        )
    };
    Reason::new(ReasonCode::OutOfMemory, message)
}

const CAUSE_UNKNOWN: &str = ", cause unknown";

/// An exit code in words. 126, 127 and 128 + n have the meaning that POSIX shells give them.
fn exit_reason(code: i32) -> Reason {
    let (kind, message) = match code {
        126 => (
            ReasonCode::CommandNotFound,
            "exit code 126: a command could not be executed".into(),
        ),
        127 => (
            ReasonCode::CommandNotFound,
            "exit code 127: a command was not found".into(),
        ),
        129..=192 => {
            let signal = code - 128;
            // The signal alone explains a crash. For the other signals, the sender is unknown.
            let (name, cause) = match signal {
                1 => (" (SIGHUP)", CAUSE_UNKNOWN),
                2 => (" (SIGINT)", CAUSE_UNKNOWN),
                4 => (
                    " (SIGILL)",
                    ": it ran an instruction that this processor does not have, as in a library built for another one",
                ),
                6 => (
                    " (SIGABRT)",
                    ": it ended itself, as after a failed assertion; its log may say which",
                ),
                7 => (
                    " (SIGBUS)",
                    ": it accessed memory that is not there, mostly because /dev/shm is full: `resources: {shm: 1GiB}` \
                     enlarges it",
                ),
                8 => (" (SIGFPE)", ": it divided a whole number by zero"),
                9 => (" (SIGKILL)", CAUSE_UNKNOWN),
                11 => (
                    " (SIGSEGV)",
                    ": it crashed, as it accessed memory that is not its own; mostly a fault of a native library",
                ),
                13 => (
                    " (SIGPIPE)",
                    ": it wrote into a pipe that no program read any more",
                ),
                15 => (" (SIGTERM)", CAUSE_UNKNOWN),
                _ => ("", CAUSE_UNKNOWN),
            };
            let message = format!("exit code {code}: killed by signal {signal}{name}{cause}");
            (ReasonCode::Killed, message)
        }
        code => (ReasonCode::ExitCode, format!("exit code {code}")),
    };
    Reason::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::CancelledBy;
    use crate::stage::{ImageSource, PullPolicy, RunOn, StageKind, StageProgram};

    fn stage() -> Stage {
        let image = ImageSource::Reference {
            image: crate::expression::Template::literal("alpine:3"),
            pull: PullPolicy::IfMissing,
        };
        Stage {
            name: "train".parse().unwrap(),
            needs: Vec::new(),
            run_on: [RunOn::Success].into(),
            condition: None,
            kind: StageKind::Program(StageProgram::new(image)),
        }
    }

    #[test]
    fn what_was_stopped_has_not_succeeded_though_docker_s_clock_is_behind() {
        let asked_at = Timestamp::UNIX_EPOCH;
        let why = CancelledBy::Actor("ada".to_owned()).reason();
        let end = |ending| AttemptEnd {
            ending,
            ended_at: asked_at - std::time::Duration::from_secs(5),
            ran_for: None,
            metrics: Default::default(),
        };
        let outcome = |ending| classify(&stage(), Some(&(asked_at, why.clone())), &end(ending)).0;
        assert_eq!(outcome(Ending::Stopped { code: 0 }), Outcome::Cancelled);
        let ended_before = Ending::Exited {
            code: 0,
            out_of_memory: false,
        };
        assert_eq!(outcome(ended_before), Outcome::Succeeded);
    }

    #[test]
    fn a_stop_from_outside_is_not_a_fault_of_the_stage_and_not_a_cancellation() {
        let end = AttemptEnd {
            ending: Ending::Stopped { code: 0 },
            ended_at: Timestamp::UNIX_EPOCH,
            ran_for: None,
            metrics: Default::default(),
        };
        let (outcome, reason) = classify(&stage(), None, &end);
        assert_eq!(outcome, Outcome::Errored);
        let reason = reason.unwrap();
        assert_eq!(reason.code, ReasonCode::Killed);
        assert!(reason.message.contains("from outside"), "{reason}");
    }

    #[test]
    fn exit_codes_are_explained_in_words() {
        assert_eq!(exit_reason(3).message, "exit code 3");
        assert_eq!(exit_reason(127).code, ReasonCode::CommandNotFound);
        assert_eq!(
            exit_reason(137).message,
            "exit code 137: killed by signal 9 (SIGKILL), cause unknown"
        );
        assert_eq!(
            exit_reason(139).message,
            "exit code 139: killed by signal 11 (SIGSEGV): it crashed, as it accessed memory that is not its own; mostly \
             a fault of a native library"
        );
        assert!(
            exit_reason(135)
                .message
                .contains("`resources: {shm: 1GiB}`")
        );
    }
}
