//! `RUN --mount`: the files that a step sees in addition to its image.

use super::DockerfileFault;
use super::instruction::Instruction;

/// Checks a mount, and returns the stages and images that it takes files from.
pub(super) fn sources<'v>(
    instruction: &Instruction,
    value: &'v str,
) -> Result<Vec<&'v str>, DockerfileFault> {
    let mut found = Vec::new();
    // Options have no quotes, so that a comma always ends a field.
    for field in value.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match &*key.to_ascii_lowercase() {
            "type" => match &*value.to_ascii_lowercase() {
                "bind" | "cache" | "tmpfs" => {}
                "secret" | "ssh" => {
                    return instruction.fault(format!(
                        "builds have no secrets, so there is no --mount=type={value}: use the secret in `run`, \
                         where the stage names it under `secrets`"
                    ));
                }
                _ => {
                    return instruction.fault("expected --mount=type=bind, cache or tmpfs");
                }
            },
            // Unlike in COPY, a number does not name a stage.
            "from" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                return instruction.fault("expected the name of a stage or an image after `from=`");
            }
            "from" if value == "scratch" => {}
            "from" => found.push(value),
            // Caches of other repos have other prefixes to their names.
            "id" if value.contains('$') || value.contains("..") => {
                return instruction.fault("the `id` of a mount cannot hold `$` and `..`");
            }
            _ => {}
        }
    }
    Ok(found)
}
