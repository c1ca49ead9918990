//! Tokens: their names, never their texts.

use trainyard_api::{Token, TokenScope};

use crate::view::screen::Screen;
use crate::view::table::{Rows, cell, moment};

pub(crate) fn list(tokens: &[Token], screen: Screen) -> String {
    let heads = ["NAME", "SCOPE", "MADE", "LAST USED", "REVOKED", "ID"];
    let mut rows = Rows::new(&heads, screen)
        .moments(2)
        .moments(3)
        .moments(4)
        .names(&[0])
        .droppable(&[2, 3])
        .whole();
    for token in tokens {
        rows.add(vec![
            cell(&token.name),
            cell(match token.scope {
                TokenScope::Read => "read",
                TokenScope::Admin => "admin",
            }),
            moment(token.created_at, screen),
            moment(token.last_used_at, screen),
            moment(token.revoked_at, screen),
            cell(&token.id),
        ]);
    }
    rows.text("no tokens")
}
