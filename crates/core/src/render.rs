//! A stage made ready to run: expressions replaced by values, environment put together.

use std::collections::BTreeMap;

use crate::dag::Dag;
use crate::expression::{Facts, Template};
use crate::image::ImageReference;
use crate::outcome::{Reason, ReasonCode};
use crate::run::{Run, rfc3339};
use crate::stage::{BuildSource, Command, ImageSource, PullPolicy, RelativePath, StageIndex};

/// A stage with nothing left to evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedStage {
    /// The image to run in.
    pub image: RenderedImage,
    /// The command to run; `None` runs the image's own command.
    pub command: Option<RenderedCommand>,
    /// Environment variables, without secrets and without what depends on the executor
    /// (`INPUTS`, `OUTPUTS`).
    pub env: BTreeMap<String, String>,
}

/// Where the image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderedImage {
    Reference {
        image: ImageReference,
        pull: PullPolicy,
    },
    /// The image that a stage of the same run ran in: `${{ stages.NAME.image }}` and nothing else. Only
    /// so can an image be named by its id.
    OfStage {
        /// As it was recorded for that stage: by digest, or the id.
        image: String,
        /// When it is fetched, where it was recorded by digest.
        pull: PullPolicy,
    },
    /// An image built from the source tree.
    Build {
        context: RelativePath,
        /// The Dockerfile within the context.
        dockerfile: RelativePath,
        args: BTreeMap<String, String>,
        /// The stage of a multi-stage Dockerfile to stop at.
        target: Option<String>,
    },
}

/// The command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderedCommand {
    /// A script for `sh -eu`, with `pipefail` where that has it.
    Script(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// Renders a stage for one attempt.
///
/// # Errors
/// An expression that cannot be evaluated, as a reason of code `expression`.
pub fn render(
    dag: &Dag,
    run: &Run,
    index: StageIndex,
    attempt: u32,
) -> Result<RenderedStage, Reason> {
    let stage = dag.stage(index);
    let facts = run.expression_facts_of(dag, index);
    let text = |template: &Template| {
        template
            .render(&facts)
            .map_err(|fault| Reason::new(ReasonCode::Expression, fault.to_string()))
    };
    let image = match &stage.program().image {
        ImageSource::Reference { image, pull } => match image_of_stage(image, &facts) {
            Some(image) => RenderedImage::OfStage {
                image: image.to_owned(),
                pull: *pull,
            },
            None => RenderedImage::Reference {
                image: reference(image, &text(image)?)?,
                pull: *pull,
            },
        },
        ImageSource::Build(BuildSource {
            context,
            dockerfile,
            args,
            target,
        }) => RenderedImage::Build {
            context: context.clone(),
            dockerfile: dockerfile.clone(),
            args: args
                .iter()
                .map(|(name, value)| Ok((name.to_string(), text(value)?)))
                .collect::<Result<_, Reason>>()?,
            target: target.clone(),
        },
    };
    let command = match &stage.program().command {
        None => None,
        Some(Command::Script(script)) => Some(RenderedCommand::Script(script.clone())),
        Some(Command::Exec(items)) => Some(RenderedCommand::Exec(
            items.iter().map(text).collect::<Result<_, Reason>>()?,
        )),
    };
    let mut env = own_environment(run, &facts);
    env.insert("TRAINYARD_STAGE".to_owned(), stage.name.to_string());
    env.insert("TRAINYARD_ATTEMPT".to_owned(), attempt.to_string());
    for (name, value) in &stage.program().env {
        env.insert(name.to_string(), text(value)?);
    }
    Ok(RenderedStage {
        image,
        command,
        env,
    })
}

/// The image of an earlier stage, where a template is that and nothing else.
fn image_of_stage<'a>(template: &Template, facts: &'a Facts) -> Option<&'a str> {
    let named = template.stage_of_image()?;
    let (_, stage) = (facts.stages.iter()).find(|(name, _)| name.as_str() == named)?;
    stage.image.as_deref()
}

fn reference(template: &Template, rendered: &str) -> Result<ImageReference, Reason> {
    ImageReference::requested(rendered).map_err(|fault| {
        let message = if template.is_literal() {
            fault.to_string()
        } else {
            format!("`image: {}` gives an {fault}", template.source())
        };
        Reason::new(ReasonCode::ImageNotFound, message)
    })
}

fn own_environment(run: &Run, facts: &Facts) -> BTreeMap<String, String> {
    let own = [
        ("CI", "true".to_owned()),
        ("TRAINYARD_RUN_ID", run.facts.id.to_string()),
        ("TRAINYARD_DAG", run.facts.dag.to_string()),
        ("TRAINYARD_COMMIT", facts.commit.clone()),
        ("TRAINYARD_BRANCH", facts.branch.clone()),
        ("TRAINYARD_CAUSE", facts.cause.clone()),
        ("TRAINYARD_LOGICAL_TIME", rfc3339(run.facts.logical_time)),
    ];
    let params = run.facts.params.iter().map(|(name, value)| {
        (
            format!("TRAINYARD_PARAM_{}", name.as_str().to_ascii_uppercase()),
            value.to_string(),
        )
    });
    own.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .chain(params)
        .collect()
}
