//! Secrets: their names, never their values.

use trainyard_api::Secret;

use crate::view::quantity::moment;
use crate::view::table::{Rows, cell};

/// The list of secrets.
pub(crate) fn list(secrets: &[Secret], width: Option<u16>) -> String {
    let mut rows = Rows::new(&["REPO", "SECRET", "SET (UTC)", "BRANCHES"], width);
    for secret in secrets {
        rows.add(vec![
            cell(&secret.repo),
            cell(&secret.name),
            cell(moment(secret.updated_at)),
            cell(branches(secret)),
        ]);
    }
    rows.text("no secrets; `trainyard secret set NAME --repo REPO` sets one")
}

/// Whose runs get it.
fn branches(secret: &Secret) -> String {
    if secret.branches.is_empty() {
        "followed".to_owned()
    } else {
        secret.branches.join(", ")
    }
}
