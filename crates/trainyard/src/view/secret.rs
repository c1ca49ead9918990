//! Secrets: their names, never their values.

use trainyard_api::Secret;

use crate::view::screen::Screen;
use crate::view::table::{Rows, cell, moment};

pub(crate) fn list(secrets: &[Secret], screen: Screen) -> String {
    let heads = ["REPO", "SECRET", "SET", "BRANCHES"];
    let mut rows = Rows::new(&heads, screen)
        .moments(2)
        .names(&[0, 1])
        .droppable(&[2]);
    for secret in secrets {
        rows.add(vec![
            cell(&secret.repo),
            cell(&secret.name),
            moment(secret.updated_at, screen),
            cell(branches(secret)),
        ]);
    }
    rows.text("no secrets; `trainyard secret set NAME --repo REPO` sets one")
}

/// The branches whose runs get it.
fn branches(secret: &Secret) -> String {
    if secret.branches.is_empty() {
        "followed".to_owned()
    } else {
        secret.branches.join(", ")
    }
}
