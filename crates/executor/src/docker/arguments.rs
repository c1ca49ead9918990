//! Checks the size of a program's variables and arguments against the kernel's limits.
//!
//! The kernel checks only when it executes the program, and reports just an error number that does not help the
//! user. So the orchestrator checks before a container is created.

use trainyard_core::measure::in_units;
use trainyard_core::stage::{
    ARGUMENT_BESIDE as BESIDE, ARGUMENT_LARGEST as ONE, ARGUMENTS_LARGEST as ALL,
};

use crate::error::{Error, ErrorKind};

/// Checks that the kernel will pass these to a program. The error does not show values: they may be secrets.
pub(super) fn check<'a>(
    program: impl IntoIterator<Item = &'a str>,
    variables: impl IntoIterator<Item = &'a str>,
) -> Result<(), Error> {
    let mut all = 0;
    for (index, argument) in program.into_iter().enumerate() {
        all += argument.len() + BESIDE;
        if argument.len() >= ONE {
            let size = in_units(argument.len() as u64);
            return Err(too_large(format!(
                "its script or argument {index} is too long: it has {size}, and the kernel passes at most 128 KiB in \
                 one; put it into a file of the repo and run that"
            )));
        }
    }
    for variable in variables {
        all += variable.len() + BESIDE;
        if variable.len() >= ONE {
            let name = variable.split('=').next().unwrap_or_default();
            let size = in_units(variable.len() as u64);
            return Err(too_large(format!(
                "its variable `{name}` is too long: it has {size}, and the kernel passes at most 128 KiB in one; \
                 put the value into a file, for example an output of an earlier stage"
            )));
        }
    }
    if all > ALL {
        let (size, limit) = (in_units(all as u64), in_units(ALL as u64));
        return Err(too_large(format!(
            "its variables and its command are too long: they have {size}, and the kernel passes at most {limit} of \
             the stage's own; put large values into files, for example outputs of an earlier stage"
        )));
    }
    Ok(())
}

/// The error for a limit that only the kernel could check.
pub(super) fn refused_by_kernel() -> Error {
    too_large(
        "its variables and its command, with those of its image, are too long for the kernel (usually 2 MiB in all, \
         128 KiB in one)"
            .to_owned(),
    )
}

/// Whether an error's text says that the kernel refused.
pub(super) fn is_refusal(text: &str) -> bool {
    text.contains("argument list too long")
}

fn too_large(what: String) -> Error {
    Error::new(
        ErrorKind::Start,
        format!("the program cannot be started: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_long_arguments_are_reported_by_name_and_size_without_their_values() {
        let large = format!("TOKEN={}", "s3cret".repeat(40_000));
        let error = check(["sh"], ["CI=true", &large]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Start);
        assert!(error.message.contains("`TOKEN`"), "{error}");
        assert!(error.message.contains("128 KiB"), "{error}");
        assert!(!error.message.contains("s3cret"), "{error}");
        let script = "x".repeat(200_000);
        let error = check(["sh", "-eu", "-c", &script], []).unwrap_err();
        assert!(error.message.contains("script"), "{error}");
        let some = format!("V={}", "x".repeat(100_000));
        let error = check(["sh"], vec![&*some; 20]).unwrap_err();
        assert!(
            error.message.contains("variables and its command"),
            "{error}"
        );
        assert_eq!(check(["sh"], vec![&*some; 19]), Ok(()));
        let most = format!("V={}", "x".repeat(ONE - 3));
        assert_eq!(check(["sh"], [&*most]), Ok(()));
        let more = format!("V={}", "x".repeat(ONE - 2));
        assert!(check(["sh"], [&*more]).is_err());
    }
}
