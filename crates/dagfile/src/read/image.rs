//! `image` and `build`, of a stage and of `defaults`.

use std::collections::BTreeMap;

use trainyard_core::expression::Template;
use trainyard_core::image::{ImageReference, is_proxy_argument};
use trainyard_core::name::VariableName;
use trainyard_core::stage::{BuildSource, ImageSource, PullPolicy, RelativePath};
use trainyard_core::text::shortened;

use super::fields::{self, Fields};
use super::output::path;
use super::places::ImagePlaces;
use super::stage::Defaults;
use super::{arguments, expressions, keys};
use crate::diagnostic::{DiagnosticCode as Code, Sink};
use crate::tree::{Key, Node, Value};

/// The image of stages with neither `image` nor `build`.
#[derive(Debug, Default)]
pub(super) enum DefaultImage {
    #[default]
    None,
    /// There is one, but it is wrong: stages without one do not lack it.
    Wrong,
    One(ImageSource, ImagePlaces),
}

impl DefaultImage {
    /// How many build arguments it has.
    pub(super) fn args(&self) -> usize {
        match self {
            Self::One(ImageSource::Build(build), _) => build.args.len(),
            Self::One(ImageSource::Reference { .. }, _) | Self::None | Self::Wrong => 0,
        }
    }
}

/// The meaning of `image` and `build`, in a stage or in `defaults`.
pub(super) enum Image {
    None,
    Wrong,
    One(ImageSource),
}

pub(super) fn image(
    fields: &Fields<'_>,
    what: &str,
    places: &mut ImagePlaces,
    sink: &mut Sink<'_>,
) -> Image {
    let found = match (fields.get("image"), fields.get("build")) {
        (Some(node), None) => {
            places.image = Some(node.clone());
            reference(node, sink)
        }
        (None, Some(node)) => {
            places.image = Some(node.clone());
            build(node, places, sink).map(ImageSource::Build)
        }
        (Some(image), Some(node)) => {
            let span = fields
                .key("build")
                .map_or(node.span.clone(), |key| key.span.clone());
            sink.error(
                Code::Conflict,
                span,
                format!("{what} has both `image` and `build`"),
            )
            .help("keep one: an image by reference, or one built from the commit");
            reference(image, sink);
            build(node, places, sink);
            None
        }
        (None, None) if fields.lacks("image") && fields.lacks("build") => return Image::None,
        (None, None) => None,
    };
    found.map_or(Image::Wrong, Image::One)
}

fn reference(node: &Node, sink: &mut Sink<'_>) -> Option<ImageSource> {
    let image = expressions::template(node, "the image", sink)?;
    if image.is_literal()
        && let Err(fault) = ImageReference::requested(image.source())
    {
        let end = image.source().len();
        let span = fields::part(node, &(fault.at..end.max(fault.at + 1)), sink);
        fields::invalid(&span, fault.to_string(), sink);
        return None;
    }
    Some(ImageSource::Reference {
        image,
        pull: PullPolicy::default(),
    })
}

/// The image of a stage: its own, or that of `defaults`.
pub(super) fn stage_image(
    what: &str,
    key: &Key,
    fields: &Fields<'_>,
    defaults: &Defaults,
    places: &mut ImagePlaces,
    sink: &mut Sink<'_>,
) -> ImageSource {
    let own_pull = pull(fields, sink);
    let mut source = match (image(fields, what, places, sink), &defaults.image) {
        (Image::One(source), _) => source,
        (Image::None, DefaultImage::One(source, default_places)) => {
            *places = default_places.clone();
            source.clone()
        }
        (Image::Wrong, _) | (Image::None, DefaultImage::Wrong) => return some_image(),
        (Image::None, DefaultImage::None) => {
            // An approval, once supported, needs none; it is refused by itself.
            if fields.get("approval").is_none() {
                sink.error(
                    Code::Missing,
                    key.span.clone(),
                    format!("{what} needs an `image`"),
                )
                .help("add `image: alpine:3`, or `build: .` to build one from the commit");
            }
            return some_image();
        }
    };
    match (&mut source, fields.key("pull")) {
        (ImageSource::Reference { pull, .. }, _) => {
            *pull = own_pull.or(defaults.pull).unwrap_or_default();
        }
        (ImageSource::Build(_), Some(key)) => {
            sink.error(
                Code::Conflict,
                key.span.clone(),
                "`pull` does not go with `build`",
            );
        }
        (ImageSource::Build(_), None) => {}
    }
    source
}

fn build(node: &Node, places: &mut ImagePlaces, sink: &mut Sink<'_>) -> Option<BuildSource> {
    let default_file = RelativePath::new("Dockerfile").ok()?;
    if let Value::Scalar { .. } = &node.value {
        let context = path(node, "the context", sink)?;
        let (dockerfile, args) = (default_file, BTreeMap::new());
        let at = node.span.clone();
        sink.outside.add_build((&context, at), (&dockerfile, None));
        return Some(BuildSource {
            context,
            dockerfile,
            args,
            target: None,
        });
    }
    let fields = Fields::of(node, "`build`", keys::BUILD, sink)?;
    let context = match fields.get("context") {
        None if fields.is_meant("context") => None,
        None => RelativePath::new(".").ok(),
        Some(node) => path(node, "the context", sink),
    };
    let dockerfile = match fields.get("dockerfile") {
        None => Some(default_file),
        Some(node) => path(node, "the Dockerfile", sink),
    };
    let mut args = BTreeMap::new();
    if let Some(node) = fields.get("args") {
        for (key, value) in fields::map(node, "build arguments", sink).unwrap_or_default() {
            let name = fields::checked_name::<VariableName>(&key.text, &key.span, sink);
            let value_template = expressions::template(value, "a build argument", sink);
            if let Some(template) = &value_template {
                let what = format!("the build argument `{}`", shortened(&key.text));
                arguments::check_one(&what, key.text.len() + 1, template, value, sink);
            }
            if is_proxy_argument(&key.text) {
                let message = format!("the build argument `{}` cannot be set", key.text);
                sink.error(Code::InvalidValue, key.span.clone(), message)
                    .help(format!(
                    "Docker gives what one build fetches through its proxy to other builds; write \
                         `ENV {}=...` in the Dockerfile",
                    key.text
                ));
            }
            if let (Some(name), Some(template)) = (name, value_template) {
                places.build_args.insert(name.clone(), value.clone());
                args.insert(name, template);
            }
        }
    }
    let target = fields
        .get("target")
        .and_then(|node| expressions::plain(node, "the target", sink))
        .map(ToOwned::to_owned);
    let (context, dockerfile) = (context?, dockerfile?);
    let at = |key| fields.get(key).map(|node: &Node| node.span.clone());
    let context_at = at("context").unwrap_or_else(|| node.span.clone());
    sink.outside
        .add_build((&context, context_at), (&dockerfile, at("dockerfile")));
    Some(BuildSource {
        context,
        dockerfile,
        args,
        target,
    })
}

/// In place of an image that is wrong.
pub(super) fn some_image() -> ImageSource {
    ImageSource::Reference {
        image: Template::literal("alpine:3"),
        pull: PullPolicy::default(),
    }
}

pub(super) fn pull(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<PullPolicy> {
    let choices = PullPolicy::ALL.map(|policy| (policy.as_str(), policy));
    fields::one_of(fields.get("pull")?, "`pull`", &choices, sink)
}
