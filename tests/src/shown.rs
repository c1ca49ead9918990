//! Parts of the JSON that the command line prints.

use serde_json::Value;

/// The items of a listing.
///
/// # Panics
/// When it is none.
#[track_caller]
#[must_use]
pub fn items(listing: &Value) -> &Vec<Value> {
    listing
        .as_array()
        .or_else(|| listing["items"].as_array())
        .unwrap_or_else(|| panic!("not a listing: {listing}"))
}

/// A stage of a run as `run show --output json` prints it.
///
/// # Panics
/// When the run has no such stage.
#[track_caller]
#[must_use]
pub fn stage<'a>(run: &'a Value, name: &str) -> &'a Value {
    run["stages"]
        .as_array()
        .and_then(|stages| stages.iter().find(|stage| stage["name"] == name))
        .unwrap_or_else(|| panic!("no stage {name} in {run}"))
}
