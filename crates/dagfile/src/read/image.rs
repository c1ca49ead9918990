//! `image` and `build`, of a stage and of `defaults`.

use std::collections::BTreeMap;

use trainyard_core::expression::Template;
use trainyard_core::image::{ImageReference, is_proxy_argument};
use trainyard_core::name::VariableName;
use trainyard_core::stage::{BuildSource, ImageSource, PullPolicy, RelativePath};
use trainyard_core::text::shortened;

use super::FileReader;
use super::fields::Fields;
use super::places::ImagePlaces;
use super::stage::Defaults;
use crate::diagnostic::DiagnosticCode as Code;
use crate::document;
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

impl FileReader<'_> {
    pub(super) fn image(
        &mut self,
        fields: &Fields<'_>,
        what: &str,
        places: &mut ImagePlaces,
    ) -> Image {
        let found = match (fields.get("image"), fields.get("build")) {
            (Some(node), None) => {
                places.image = Some(node.clone());
                self.reference(node)
            }
            (None, Some(node)) => {
                places.image = Some(node.clone());
                self.build(node, places).map(ImageSource::Build)
            }
            (Some(image), Some(node)) => {
                let span = fields
                    .key("build")
                    .map_or(node.span.clone(), |key| key.span.clone());
                self.sink
                    .error(
                        Code::Conflict,
                        span,
                        format!("{what} has both `image` and `build`"),
                    )
                    .help("keep one: an image by reference, or one built from the commit");
                self.reference(image);
                self.build(node, places);
                None
            }
            (None, None) if fields.lacks("image") && fields.lacks("build") => return Image::None,
            (None, None) => None,
        };
        found.map_or(Image::Wrong, Image::One)
    }

    fn reference(&mut self, node: &Node) -> Option<ImageSource> {
        let image = self.template(node, "the image")?;
        if image.is_literal()
            && let Err(fault) = ImageReference::requested(image.source())
        {
            let end = image.source().len();
            let span = self.part(node, &(fault.at..end.max(fault.at + 1)));
            self.invalid(&span, fault.to_string());
            return None;
        }
        Some(ImageSource::Reference {
            image,
            pull: PullPolicy::default(),
        })
    }

    /// The image of a stage: its own, or that of `defaults`.
    pub(super) fn stage_image(
        &mut self,
        what: &str,
        key: &Key,
        fields: &Fields<'_>,
        defaults: &Defaults,
        places: &mut ImagePlaces,
    ) -> ImageSource {
        let own_pull = self.pull(fields);
        let mut source = match (self.image(fields, what, places), &defaults.image) {
            (Image::One(source), _) => source,
            (Image::None, DefaultImage::One(source, default_places)) => {
                *places = default_places.clone();
                source.clone()
            }
            (Image::Wrong, _) | (Image::None, DefaultImage::Wrong) => return some_image(),
            (Image::None, DefaultImage::None) => {
                // An approval, once supported, needs none; it is refused by itself.
                if fields.get("approval").is_none() {
                    self.sink
                        .error(
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
                self.sink.error(
                    Code::Conflict,
                    key.span.clone(),
                    "`pull` does not go with `build`",
                );
            }
            (ImageSource::Build(_), None) => {}
        }
        source
    }

    fn build(&mut self, node: &Node, places: &mut ImagePlaces) -> Option<BuildSource> {
        let default_file = RelativePath::new("Dockerfile").ok()?;
        if let Value::Scalar { .. } = &node.value {
            let context = self.path(node, "the context")?;
            let (dockerfile, args) = (default_file, BTreeMap::new());
            let at = node.span.clone();
            self.sink
                .outside
                .add_build((&context, at), (&dockerfile, None));
            return Some(BuildSource {
                context,
                dockerfile,
                args,
                target: None,
            });
        }
        let fields = self.fields(node, "`build`", document::Build::FORM)?;
        let context = match fields.get("context") {
            None if fields.is_meant("context") => None,
            None => RelativePath::new(".").ok(),
            Some(node) => self.path(node, "the context"),
        };
        let dockerfile = match fields.get("dockerfile") {
            None => Some(default_file),
            Some(node) => self.path(node, "the Dockerfile"),
        };
        let mut args = BTreeMap::new();
        if let Some(node) = fields.get("args") {
            for (key, value) in self.map(node, "build arguments").unwrap_or_default() {
                let name = self.checked_name::<VariableName>(&key.text, &key.span);
                let value_template = self.template(value, "a build argument");
                if let Some(template) = &value_template {
                    let what = format!("the build argument `{}`", shortened(&key.text));
                    self.check_argument(&what, key.text.len() + 1, template, value);
                    self.warn_of_habits(&what, template, value);
                }
                if is_proxy_argument(&key.text) {
                    let message = format!("the build argument `{}` cannot be set", key.text);
                    self.sink.error(Code::InvalidValue, key.span.clone(), message)
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
            .and_then(|node| self.plain(node, "the target"))
            .map(ToOwned::to_owned);
        let (context, dockerfile) = (context?, dockerfile?);
        let at = |key| fields.get(key).map(|node: &Node| node.span.clone());
        let context_at = at("context").unwrap_or_else(|| node.span.clone());
        self.sink
            .outside
            .add_build((&context, context_at), (&dockerfile, at("dockerfile")));
        Some(BuildSource {
            context,
            dockerfile,
            args,
            target,
        })
    }
}

/// In place of an image that is wrong.
pub(super) fn some_image() -> ImageSource {
    ImageSource::Reference {
        image: Template::literal("alpine:3"),
        pull: PullPolicy::default(),
    }
}

impl FileReader<'_> {
    pub(super) fn pull(&mut self, fields: &Fields<'_>) -> Option<PullPolicy> {
        let choices = PullPolicy::ALL.map(|policy| (policy.as_str(), policy));
        self.one_of(fields.get("pull")?, "`pull`", &choices)
    }
}
