//! Webhook deliveries: the secret that signs them, and their record.

use secrecy::SecretString;
use trainyard_core::id::RepoId;
use trainyard_core::name::RepoName;
use trainyard_forge::webhook::{Delivery, Provider, Pushed, WebhookEvent};
use trainyard_store::{BranchMove, DeliveryRecorded, NewDelivery};

use crate::{App, Result};

/// What was done with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryTaken {
    Stored,
    /// It had been stored before.
    Known,
}

impl App {
    /// The repo of a name, and the secret that its deliveries are signed with; `None` where it takes no deliveries.
    pub async fn webhook_secret(&self, repo: &str) -> Result<Option<(RepoId, SecretString)>> {
        // A text that is not a valid name needs no query.
        match RepoName::new(repo) {
            Ok(_) => Ok(self.store().webhook_secret(repo).await?),
            Err(_) => Ok(None),
        }
    }

    /// Stores a delivery for a repo (its id and name) whose signature was verified. A sync of its repo processes it.
    pub async fn take_delivery(
        &self,
        repo: (RepoId, &str),
        provider: Provider,
        delivery: Delivery,
    ) -> Result<DeliveryTaken> {
        let mut why_nothing = "only pushes of branches start runs";
        let (event, push) = match delivery.event {
            WebhookEvent::Ping => ("ping".to_owned(), None),
            WebhookEvent::Other(name) => (name, None),
            WebhookEvent::Push(push) => {
                if let Pushed::Tag(_) = &push.reference {
                    why_nothing =
                        "tags start no runs; `trainyard dag trigger DAG --ref TAG` starts one";
                }
                let moved = match push.reference {
                    Pushed::Tag(_) => None,
                    Pushed::Branch(branch) => Some(BranchMove {
                        branch,
                        before: push.before.map(|sha| sha.to_string()),
                        after: push.after.map(|sha| sha.to_string()),
                        actor: push.pusher,
                    }),
                };
                ("push".to_owned(), moved)
            }
        };
        let new = NewDelivery {
            provider: provider.word().to_owned(),
            repo: repo.0,
            delivery_id: delivery.id,
            event,
            push,
            without_push: format!("nothing to do: {why_nothing}"),
        };
        Ok(match self.store().record_delivery(&new).await? {
            DeliveryRecorded::New(delivery) => {
                let (repo, event) = (repo.1, new.event);
                tracing::info!(repo, delivery.id = %delivery, event, "stored a webhook delivery");
                DeliveryTaken::Stored
            }
            DeliveryRecorded::Duplicate => DeliveryTaken::Known,
        })
    }
}
