//! The supplies of a claimed attempt: from the repo's mirror, the artifact folder and the database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;
use tracing::warn;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::backoff::Backoff;
use trainyard_core::id::{AttemptId, RepoId};
use trainyard_core::name::{InputName, SecretName};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::render::RenderedStage;
use trainyard_executor::{InputSpec, LocalFile};
use trainyard_forge::CommitSha;
use trainyard_store::{Claim, Error, Store, StoredSecrets};

use crate::attempt::assignment::{Assignment, Materials};
use crate::attempt::mask::Masker;
use crate::attempt::needed_secrets::NeededSecrets;
use crate::attempt::sources::Archive;
use crate::attempt::supplies::Supplies;
use crate::records::StoreRecords;

/// The first wait for a database that does not answer.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait for a database that does not answer.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The supplies of one claimed attempt.
#[derive(Debug)]
pub(crate) struct ClaimSupplies<'a> {
    records: &'a StoreRecords,
    /// Holds the source tree's archive while the attempt is in progress.
    held: &'a OnceLock<Archive>,
    claim: &'a Claim,
    assignment: &'a Assignment,
    secrets: BTreeMap<String, SecretString>,
    are_known: bool,
    /// Why the attempt may not start: the secrets that it lacks.
    refused: Option<Reason>,
}

impl<'a> ClaimSupplies<'a> {
    /// Reads the secrets, which are masked in everything that the attempt prints.
    pub(crate) async fn new(
        records: &'a StoreRecords,
        held: &'a OnceLock<Archive>,
        claim: &'a Claim,
        assignment: &'a Assignment,
    ) -> Self {
        let own = &assignment.stage().program().secrets;
        let run = &assignment.run;
        let needed = NeededSecrets::of(&assignment.dag, run, assignment.reference.stage);
        let wanted = needed.names().cloned().collect();
        let (mut secrets, refused) =
            match secrets(&records.store, claim.attempt, claim.pinned.repo, &wanted).await {
                Ok(found) => {
                    let branch = run.facts.branch.as_deref();
                    let refused = needed.refusal(&found, &claim.pinned.repo_name, branch);
                    (found, refused)
                }
                Err(error) => {
                    let message = format!("secrets could not be read: {error}");
                    let reason = Reason::new(ReasonCode::MissingSecret, message);
                    (StoredSecrets::default(), Some(reason))
                }
            };
        // The other secrets were only checked.
        secrets.by_name.retain(|name, _| own.contains(name));
        // A started container has its secrets already: they are masked even if the stage may no longer have them.
        let are_known = secrets.by_name.len() == own.len();
        if !are_known && assignment.adopted.is_some() {
            warn!(
                "redacting all output of an adopted attempt: one of its secrets was removed, so it cannot be masked"
            );
        }
        Self {
            records,
            held,
            claim,
            assignment,
            secrets: secrets
                .by_name
                .into_iter()
                .map(|(name, secret)| (name.to_string(), secret.value))
                .collect(),
            are_known,
            refused,
        }
    }

    fn input(
        &self,
        name: &InputName,
        content: Option<&ArtifactContent>,
    ) -> Result<InputSpec, Reason> {
        let missing = |why: &str| {
            let source = &self.assignment.stage().program().inputs[name.as_str()];
            let message = format!("input {name}: {}.{} {why}", source.stage, source.output);
            Reason::new(ReasonCode::MissingInput, message)
        };
        let content =
            content.ok_or_else(|| missing("was not made, since its stage did not succeed"))?;
        let path = self.records.blobs.path_of(&content.sha256).ok_or_else(|| {
            missing("is gone from the artifact store; run the stage that makes it again")
        })?;
        Ok(InputSpec {
            name: name.clone(),
            content: content.clone(),
            blob: LocalFile::blob(path),
        })
    }

    async fn source(&self, rendered: &RenderedStage) -> Result<Option<&'a Archive>, Reason> {
        if !self.assignment.needs_source(rendered) {
            return Ok(None);
        }
        let fault = |problem: String| {
            let message = format!("the source tree of the commit could not be prepared: {problem}");
            Reason::new(ReasonCode::Source, message)
        };
        let commit =
            CommitSha::new(&self.claim.run.facts.commit).map_err(|e| fault(e.to_string()))?;
        let checkout = self.assignment.stage().program().checkout;
        let archive = self
            .records
            .sources
            .archive(self.claim.pinned.repo, &commit, checkout);
        let archive = archive.await;
        let archive = archive.map_err(|error| fault(error.to_string()))?;
        Ok(Some(self.held.get_or_init(|| archive)))
    }
}

impl Supplies for ClaimSupplies<'_> {
    async fn masker(&self) -> Masker {
        if !self.are_known && self.assignment.adopted.is_some() {
            return Masker::of_everything();
        }
        Masker::of(self.secrets.values().cloned().collect()).await
    }

    async fn fetch(mut self) -> Result<(RenderedStage, Materials), Reason> {
        if let Some(reason) = self.refused.take() {
            return Err(reason);
        }
        let rendered = self.assignment.render()?;
        let source = self.source(&rendered).await?;
        let inputs = self.claim.inputs.iter();
        let inputs = inputs
            .map(|(name, content)| self.input(name, content.as_ref()))
            .collect::<Result<_, _>>()?;
        let materials = Materials {
            source: source.map(|archive| LocalFile::blob(archive.path())),
            notes: source.map_or_else(Vec::new, |archive| archive.notes().to_vec()),
            inputs,
            secrets: self.secrets,
        };
        Ok((rendered, materials))
    }
}

/// The wanted secrets that are set. A database that does not answer is waited out: it says nothing about any secret.
async fn secrets(
    store: &Store,
    attempt: AttemptId,
    repo: RepoId,
    wanted: &BTreeSet<SecretName>,
) -> Result<StoredSecrets, Error> {
    if wanted.is_empty() {
        return Ok(StoredSecrets::default());
    }
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, attempt.0);
    loop {
        match store.secrets_for(repo, wanted).await {
            Err(error) if error.is_transient() => {
                store
                    .health()
                    .note_refusal(&error, Instant::now().into_std());
                warn!(%error, "secrets cannot be read; will retry");
                tokio::time::sleep(backoff.next_wait()).await;
            }
            answer => return answer,
        }
    }
}
