//! The fake's builds: the build argument `FAKE` is a script, one directive on each line.
//!
//! | directive  | what the build does                                 |
//! |------------|-----------------------------------------------------|
//! | `log=TEXT` | prints a line                                       |
//! | `sleep=2s` | takes that long                                     |
//! | `yes=TEXT` | prints the line a hundred times a second, for ever |
//! | `hang`     | never ends                                          |

use std::collections::BTreeMap;
use std::time::Duration;

use super::script::duration;
use crate::error::{Error, ErrorKind};

/// How many lines `yes` prints in a second.
const LINES: usize = 100;

/// Builds as the arguments say; without `FAKE`, at once.
pub(super) async fn build(
    args: &BTreeMap<String, String>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Error> {
    let script = args.get("FAKE").map(String::as_str).unwrap_or_default();
    for directive in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let wrong = |problem: String| {
            let message = format!("the fake's script is wrong at `{directive}`: {problem}");
            Error::new(ErrorKind::ImageBuild, message)
        };
        match directive.split_once('=') {
            Some(("log", text)) => progress(text.to_owned()),
            Some(("sleep", time)) => tokio::time::sleep(duration(time).map_err(wrong)?).await,
            Some(("yes", text)) => loop {
                (0..LINES).for_each(|_| progress(text.to_owned()));
                tokio::time::sleep(Duration::from_secs(1)).await;
            },
            None if directive == "hang" => std::future::pending().await,
            Some(_) | None => return Err(wrong("unknown directive".to_owned())),
        }
    }
    Ok(())
}
