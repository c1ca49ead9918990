//! Secrets: their names, never their values.

use trainyard_api::Secret;

use crate::view::quantity::moment;
use crate::view::table::{Rows, cell};

/// The list of secrets.
pub(crate) fn list(secrets: &[Secret], width: Option<u16>) -> String {
    let mut rows = Rows::new(&["REPO", "SECRET", "SET (UTC)"], width);
    for secret in secrets {
        rows.add(vec![
            cell(&secret.repo),
            cell(&secret.name),
            cell(moment(secret.updated_at)),
        ]);
    }
    rows.text("no secrets; `trainyard secret set NAME --repo REPO` sets one")
}
