//! The token that a daemon leaves for the command line of its machine.

use secrecy::SecretString;
use trainyard_api::{TokenMade, TokenScope};
use trainyard_core::id::TokenId;
use trainyard_core::principal::{Act, Principal};
use trainyard_store::Store;

use crate::data_dir::DataDir;
use crate::endpoint;
use crate::loops::Registered;
use crate::serve::ServeError;

/// The name of the token that every start writes for the command line.
const ADMIN_TOKEN: &str = "admin";

/// The token for the command line: the one of an earlier start, if it is still valid. While this daemon lives, the
/// token cannot be revoked.
pub(crate) async fn admin_token(
    store: &Store,
    data: &DataDir,
    daemon: &Registered,
) -> Result<SecretString, ServeError> {
    if let Some(token) = endpoint::read_token(data)?
        && let Some(info) = store.authenticate(&token).await?
        && info.scope == TokenScope::Admin
    {
        store.keep_token(info.id, daemon.id).await?;
        return Ok(token);
    }
    // Another daemon on this database may have such a token of its own, and so may a deleted data folder.
    let own = format!("{ADMIN_TOKEN}@{}", daemon.host);
    let act = Act::local(Principal::daemon(daemon.id, &daemon.host));
    let (id, made) = make_token(store, &act, &own).await?;
    store.keep_token(id, daemon.id).await?;
    Ok(made.secret.into())
}

async fn make_token(
    store: &Store,
    act: &Act,
    own: &str,
) -> Result<(TokenId, TokenMade), trainyard_store::Error> {
    for name in [ADMIN_TOKEN, own] {
        match store.create_token(act, name, TokenScope::Admin).await {
            Err(trainyard_store::Error::Conflict { .. }) => {}
            made => return made,
        }
    }
    // Its text is lost, so it is of no use any more.
    store.revoke_token(act, own).await?;
    store.create_token(act, own, TokenScope::Admin).await
}
