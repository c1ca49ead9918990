//! Tokens: whose they are, never their text.

use trainyard_api::{Token, TokenScope};

use crate::view::quantity::{moment, moment_or_dash};
use crate::view::table::{Rows, cell};

/// The list of tokens.
pub(crate) fn list(tokens: &[Token], width: Option<u16>) -> String {
    let heads = [
        "NAME",
        "SCOPE",
        "MADE (UTC)",
        "LAST USED (UTC)",
        "REVOKED (UTC)",
        "ID",
    ];
    let mut rows = Rows::new(&heads, width);
    for token in tokens {
        rows.add(vec![
            cell(&token.name),
            cell(match token.scope {
                TokenScope::Read => "read",
                TokenScope::Admin => "admin",
            }),
            cell(moment(token.created_at)),
            cell(moment_or_dash(token.last_used_at)),
            cell(moment_or_dash(token.revoked_at)),
            cell(&token.id),
        ]);
    }
    rows.text("no tokens")
}
