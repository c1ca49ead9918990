//! An assignment: one claimed attempt with everything that is needed to run it.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use trainyard_core::adopted::Adopted;
use trainyard_core::dag::Dag;
use trainyard_core::id::{AttemptId, Fence, InstanceId, RepoId};
use trainyard_core::measure::{in_units, in_words};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::render::{RenderedImage, RenderedStage, render};
use trainyard_core::run::{AttemptRef, Run};
use trainyard_core::stage::Stage;
use trainyard_executor::{AttemptSpec, Blob, Ceilings, Handle, ImageRequest, InputSpec, Limits};

use crate::attempt::mask::Masker;

#[derive(Debug, Clone)]
pub struct Assignment {
    pub instance: InstanceId,
    /// The repo of its DAG; `None` for a file run by hand.
    pub repo: Option<RepoId>,
    pub attempt: AttemptId,
    pub fence: Fence,
    /// The attempt's place in its run.
    pub reference: AttemptRef,
    /// The DAG version that the run pins.
    pub dag: Arc<Dag>,
    /// The run as it was when the attempt was claimed.
    pub run: Arc<Run>,
    /// The record of an earlier claim, if any.
    pub adopted: Option<Adopted>,
}

/// The files and secrets that are fetched for an assignment before it can run.
#[derive(Debug, Clone, Default)]
pub struct Materials {
    /// A tar archive of the commit's source tree, compressed by zstd or not.
    pub source: Option<Arc<dyn Blob>>,
    /// The parts that it leaves out, in words.
    pub notes: Vec<String>,
    pub inputs: Vec<InputSpec>,
    /// Values of the secrets that the stage names.
    pub secrets: BTreeMap<String, SecretString>,
}

impl Assignment {
    /// The stage as declared.
    #[must_use]
    pub fn stage(&self) -> &Stage {
        self.dag.stage(self.reference.stage)
    }

    /// The container that an earlier claim recorded.
    #[must_use]
    pub fn adopted_container(&self) -> Option<Handle> {
        let container = self.adopted.as_ref()?.container.clone()?;
        Some(Handle {
            attempt: self.attempt,
            container,
        })
    }

    /// The stage with all expressions evaluated.
    ///
    /// # Errors
    /// An expression that cannot be evaluated.
    pub fn render(&self) -> Result<RenderedStage, Reason> {
        render(
            &self.dag,
            &self.run,
            self.reference.stage,
            self.reference.number,
        )
    }

    /// Whether the source tree is needed, as the stage's files or to build its image.
    #[must_use]
    pub fn needs_source(&self, rendered: &RenderedStage) -> bool {
        !self.run.facts.commit.is_empty()
            && (self.stage().program().checkout.tree
                || matches!(rendered.image, RenderedImage::Build { .. }))
    }

    /// The request for the stage's image.
    #[must_use]
    pub fn image_request(
        &self,
        rendered: &RenderedStage,
        materials: &Materials,
        defaults: &Limits,
    ) -> ImageRequest {
        ImageRequest {
            image: rendered.image.clone(),
            source: materials.source.clone(),
            repo: self.repo,
            branch: self.run.facts.branch.clone(),
            limits: self.limits(defaults),
        }
    }

    /// The request to the executor.
    #[must_use]
    pub fn spec(
        &self,
        rendered: &RenderedStage,
        materials: &Materials,
        image: &str,
        defaults: &Limits,
    ) -> AttemptSpec {
        let stage = self.stage();
        AttemptSpec {
            attempt: self.attempt,
            instance: self.instance,
            repo: self.repo,
            run: self.run.facts.id,
            dag: self.run.facts.dag.clone(),
            stage: stage.name.clone(),
            number: self.reference.number,
            fence: self.fence,
            image: image.to_owned(),
            command: rendered.command.clone(),
            env: rendered.env.clone(),
            secrets: materials.secrets.clone(),
            source: materials
                .source
                .clone()
                .filter(|_| stage.program().checkout.tree),
            inputs: materials.inputs.clone(),
            outputs: !stage.program().outputs.is_empty() || stage.program().metrics.is_some(),
            limits: self.limits(defaults),
        }
    }

    /// The stage's limits: its own, and the operator's defaults for the others.
    fn limits(&self, defaults: &Limits) -> Limits {
        let resources = &self.stage().program().resources;
        Limits {
            cpus: resources.cpus.or(defaults.cpus),
            memory: resources.memory.or(defaults.memory),
            shm: resources.shm.or(defaults.shm),
            pids: resources.pids.or(defaults.pids),
        }
    }

    /// Why the stage may not have the limits that it asks for; `None` if it may.
    #[must_use]
    pub fn beyond(&self, ceilings: &Ceilings) -> Option<Reason> {
        let stage = self.stage();
        let (asked, most) = (&stage.program().resources, &ceilings.limits);
        let size = |name: &'static str, asked: Option<u64>, most: Option<u64>| {
            let (asked, most) = asked.zip(most).filter(|(asked, most)| asked > most)?;
            Some((name, in_units(asked), in_units(most)))
        };
        let cpus = asked.cpus.zip(most.cpus);
        let pids = asked.pids.zip(most.pids);
        let timeout = stage.program().timeout.zip(ceilings.timeout);
        let (name, asked, most) = size("memory", asked.memory, most.memory)
            .or_else(|| size("shm", asked.shm, most.shm))
            .or_else(|| {
                let (asked, most) = cpus.filter(|(asked, most)| asked > most)?;
                Some(("cpus", asked.to_string(), most.to_string()))
            })
            .or_else(|| {
                let (asked, most) = pids.filter(|(asked, most)| asked > most)?;
                Some(("pids", asked.to_string(), most.to_string()))
            })
            .or_else(|| {
                let (asked, most) = timeout.filter(|(asked, most)| asked > most)?;
                Some(("timeout", in_words(asked), in_words(most)))
            })?;
        let message = format!(
            "the stage asks for {name}: {asked}, and the operator's ceiling is {most}; ask for less, or raise \
             stage.{name}_at_most in the daemon's configuration"
        );
        Some(Reason::new(ReasonCode::ContainerStart, message))
    }
}

impl Materials {
    pub async fn masker(&self) -> Masker {
        Masker::of(self.secrets.values().cloned().collect()).await
    }
}
