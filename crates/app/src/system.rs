//! The daemon itself: its properties, tokens, garbage collection.

use secrecy::SecretString;
use trainyard_api::{
    DaemonInfo, DaemonSummary, GcReport, GcRequest, Listing, NewToken, Token, TokenMade, Violation,
};
use trainyard_core::principal::Act;
use trainyard_store::{Error as StoreError, TokenInfo};

use crate::names;
use crate::{App, AppError, Result};

/// The longest name of a token, in characters.
const TOKEN_NAME_LONGEST: usize = 100;

impl App {
    pub async fn daemon(&self) -> Result<DaemonInfo> {
        let settings = self.settings();
        Ok(DaemonInfo {
            version: settings.version.clone(),
            instance: self.store().instance().await?.to_string(),
            url: settings.public_url.clone(),
            slots: settings.capacity.slots_total,
            pools: Some(
                settings
                    .capacity
                    .pools_total
                    .iter()
                    .map(|(name, slots)| (name.to_string(), *slots))
                    .collect(),
            ),
        })
    }

    pub async fn list_daemons(&self) -> Result<Listing<DaemonSummary>> {
        Ok(Listing::whole(self.store().list_daemons().await?))
    }

    pub async fn list_violations(&self) -> Result<Listing<Violation>> {
        Ok(Listing::whole(self.store().check_invariants().await?))
    }

    /// The holder of a token; `None` where it is unknown or was revoked.
    pub async fn authenticate(&self, presented: &SecretString) -> Result<Option<TokenInfo>> {
        Ok(self.store().authenticate(presented).await?)
    }

    pub async fn list_tokens(&self) -> Result<Listing<Token>> {
        Ok(Listing::whole(self.store().list_tokens().await?))
    }

    pub async fn create_token(&self, act: &Act, new: NewToken) -> Result<TokenMade> {
        let name = new.name.trim();
        if name.is_empty()
            || name.chars().count() > TOKEN_NAME_LONGEST
            || name.contains(char::is_control)
        {
            return Err(AppError::invalid(format!(
                "a token's name must have 1 to {TOKEN_NAME_LONGEST} characters, without control characters"
            )));
        }
        let (_, made) = self.store().create_token(act, name, new.scope).await?;
        Ok(made)
    }

    pub async fn revoke_token(&self, act: &Act, token: &str) -> Result<()> {
        match self.store().revoke_token(act, token).await {
            Err(error @ StoreError::NotFound { .. }) => {
                let tokens = self.store().list_tokens().await?;
                let in_use = tokens.iter().filter(|known| known.revoked_at.is_none());
                let help = names::meant(token, in_use.map(|known| known.name.as_str()))
                    .unwrap_or_else(|| "`trainyard token list` lists the tokens".to_owned());
                Err(AppError::from(error).help(help))
            }
            revoked => {
                revoked?;
                Ok(())
            }
        }
    }

    pub async fn gc(&self, act: &Act, request: GcRequest) -> Result<GcReport> {
        let dry_run = request.dry_run;
        let rule = &self.settings().retention;
        if !dry_run {
            self.store().request_gc(act).await?;
        }
        let pruned = self.store().prune(rule, dry_run).await?;
        let swept = self
            .store()
            .sweep_blobs(self.blobs(), dry_run.then_some(rule))
            .await?;
        if !dry_run {
            // The pruner also removes images and source archives, which this crate cannot reach.
            self.store().wakes().prune.wake();
        }
        Ok(GcReport {
            dry_run,
            runs: pruned.runs,
            logs: pruned.logs,
            deliveries: pruned.deliveries,
            dag_versions: pruned.dag_versions,
            artifact_files: swept.files,
            artifact_bytes: swept.bytes,
        })
    }
}
