//! Explains why a build failed.

use super::super::errors::{CallError, is_disk_full};
use super::super::image::cause_of;
use crate::error::{Error, ErrorKind};

/// The error of a failed build. The output of the build is in the log already.
pub(super) fn not_built(call_error: &CallError) -> Error {
    let text = shortened(call_error.text());
    let lower = text.to_lowercase();
    // A base image that was removed meanwhile, or an error from a registry.
    let is_of_registry = lower.starts_with("get ")
        || lower.starts_with("head ")
        || [
            "error parsing http",
            "unexpected http",
            "http status",
            "toomanyrequests",
        ]
        .iter()
        .any(|words| lower.contains(words))
        || (!is_of_step(&lower)
            && [
                "failed to do request",
                "failed to resolve source",
                "failed to copy:",
            ]
            .iter()
            .any(|words| lower.contains(words)));
    if is_of_registry {
        let message = format!(
            "the image could not be built, because one that it needs could not be pulled: {}",
            cause_of(&lower)
        );
        return Error::new(ErrorKind::ImagePull, message);
    }
    if is_disk_full(&lower) || matches!(call_error, CallError::Silent(_)) {
        return call_error.clone().into_error("build an image");
    }
    if was_disturbed(&lower) {
        let message = format!("an image was removed while Docker searched its cache: {text}");
        return Error::new(ErrorKind::Engine, message);
    }
    let mut message = format!("the image could not be built: {text}");
    if !is_of_step(&lower) && lower.contains("unknown flag:") {
        message.push_str(". The BuildKit of a newer Docker may know it");
    }
    Error::new(ErrorKind::ImageBuild, message)
}

/// Whether an image was removed while the classic builder searched its cache. Docker reads all images that were made
/// from the same parent, one after the other, and fails where one is gone: that concerns no step of this build, and the
/// next try does not see the image any more.
fn was_disturbed(lower: &str) -> bool {
    lower.starts_with("unable to find image \"sha256:")
}

/// Whether BuildKit says how a command of a step ended, and so repeats the command.
fn is_of_step(lower: &str) -> bool {
    lower.starts_with("process \"") || lower.starts_with("executor failed running")
}

/// The error's text, without the names of the parts of BuildKit that passed it on.
fn shortened(text: &str) -> &str {
    const PASSED_ON: [&str; 5] = [
        "failed to create LLB definition:",
        "failed to solve with frontend dockerfile.v0:",
        "failed to solve:",
        "failed to build LLB:",
        "rpc error: code = Unknown desc =",
    ];
    let mut text = text.trim();
    while let Some(rest) = PASSED_ON.iter().find_map(|words| text.strip_prefix(words)) {
        text = rest.trim_start();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> Error {
        not_built(&CallError::InStream(text.to_owned()))
    }

    #[test]
    fn why_buildkit_failed_is_reported_without_the_parts_that_passed_it_on() {
        let text = "failed to solve with frontend dockerfile.v0: failed to build LLB: executor failed running \
                    [/bin/sh -c x]: exit code: 7";
        assert_eq!(
            failure(text).message,
            "the image could not be built: executor failed running [/bin/sh -c x]: exit code: 7"
        );
    }

    #[test]
    fn an_option_that_this_buildkit_does_not_know_is_reported_as_such() {
        let error = failure("dockerfile parse error on line 2: unknown flag: parents");
        assert!(
            error
                .message
                .ends_with("The BuildKit of a newer Docker may know it")
        );
    }

    #[test]
    fn a_build_whose_earlier_steps_were_removed_meanwhile_is_retried() {
        let error = failure("unable to find image \"sha256:fc9b72ebf14e\"");
        assert!(error.is_transient(), "{error}");
        let of_step =
            failure("process \"/bin/sh -c unable to find image\" did not complete: exit code: 1");
        assert!(!of_step.is_transient(), "{of_step}");
    }

    #[test]
    fn class_14_what_a_registry_answered_to_buildkit_is_not_shown() {
        let error = failure("failed to solve: failed to do request: Head \"http://x\": secret");
        assert_eq!(error.kind, ErrorKind::ImagePull);
        assert!(!error.message.contains("secret"), "{error}");
        let of_step = failure(
            "process \"/bin/sh -c echo failed to do request\" did not complete: exit code: 1",
        );
        assert_eq!(of_step.kind, ErrorKind::ImageBuild);
    }
}
