//! The token that a daemon leaves for the command line of its machine.

use secrecy::SecretString;
use trainyard_core::id::DaemonId;
use trainyard_store::{Scope, Store, TokenInfo};

use crate::data_dir::DataDir;
use crate::endpoint;
use crate::serve::ServeError;

/// The name of the token that every start writes for the command line.
const ADMIN_TOKEN: &str = "admin";

/// The token for the command line: the one of an earlier start, if it is still valid. While this daemon lives, the
/// token cannot be revoked.
pub(crate) async fn admin_token(
    store: &Store,
    data: &DataDir,
    daemon: DaemonId,
) -> Result<SecretString, ServeError> {
    if let Some(token) = endpoint::read_token(data)?
        && let Some(info) = store.authenticate(&token).await?
        && info.scope == Scope::Admin
    {
        store.keep_token(info.id, daemon).await?;
        return Ok(token);
    }
    // Another daemon on this database may have such a token of its own, and so may a deleted data folder.
    let host = nix::unistd::gethostname().unwrap_or_default();
    let own = format!(
        "{ADMIN_TOKEN}@{}:{}",
        host.to_string_lossy(),
        data.path().display()
    );
    let (info, token) = make_token(store, &own).await?;
    store.keep_token(info.id, daemon).await?;
    Ok(token)
}

async fn make_token(
    store: &Store,
    own: &str,
) -> Result<(TokenInfo, SecretString), trainyard_store::Error> {
    for name in [ADMIN_TOKEN, own] {
        match store.create_token(name, Scope::Admin).await {
            Err(trainyard_store::Error::Conflict { .. }) => {}
            made => return made,
        }
    }
    // Its text is lost, so it is of no use any more.
    store.revoke_token(own).await?;
    store.create_token(own, Scope::Admin).await
}
