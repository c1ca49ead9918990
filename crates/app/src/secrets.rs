//! Secrets: set, list and remove them. No route returns a value.

use secrecy::SecretString;
use trainyard_api::{Listing, Secret, SecretValue};
use trainyard_core::name::SecretName;
use trainyard_core::principal::Act;
use trainyard_core::secret::SecretBranches;
use trainyard_store::Error as StoreError;

use crate::names;
use crate::{App, AppError, Result};

impl App {
    pub async fn list_secrets(&self, repo: &str) -> Result<Listing<Secret>> {
        let id = names::repo(self, repo).await?;
        Ok(Listing::whole(self.store().list_secrets(id).await?))
    }

    pub async fn set_secret(
        &self,
        act: &Act,
        repo: &str,
        name: &str,
        secret: SecretValue,
    ) -> Result<()> {
        let name = SecretName::new(name).map_err(|fault| AppError::invalid(fault.to_string()))?;
        if secret.value.is_empty() {
            return Err(AppError::invalid(format!("the value of {name} is empty")));
        }
        if secret.value.contains('\0') {
            return Err(AppError::invalid(format!(
                "the value of {name} contains a NUL character, which environment variables cannot hold"
            ))
            .help("encode it, as base64 does, and have the stage decode it"));
        }
        let branches = secret
            .branches
            .map(SecretBranches::new)
            .transpose()
            .map_err(AppError::invalid)?;
        let id = names::repo(self, repo).await?;
        let value = SecretString::from(secret.value);
        self.store()
            .set_secret(act, id, &name, &value, branches.as_ref())
            .await?;
        Ok(())
    }

    pub async fn remove_secret(&self, act: &Act, repo: &str, name: &str) -> Result<()> {
        let name = SecretName::new(name).map_err(|fault| AppError::invalid(fault.to_string()))?;
        let id = names::repo(self, repo).await?;
        match self.store().remove_secret(act, id, &name).await {
            Err(error @ StoreError::NotFound { .. }) => {
                let secrets = self.store().list_secrets(id).await?;
                let known = secrets.iter().map(|secret| secret.name.as_str());
                let help = names::meant(name.as_str(), known)
                    .unwrap_or_else(|| format!("`trainyard secret list --repo {repo}` lists them"));
                Err(AppError::from(error).help(help))
            }
            removed => {
                removed?;
                Ok(())
            }
        }
    }
}
