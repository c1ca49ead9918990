//! The names by which images are looked up, and the part of their descriptions that is kept.

use bollard::models::ImageInspect;
use trainyard_core::image::{ImageReference, is_id};

use crate::contract::PreparedImage;
use crate::error::{Error, ErrorKind};

/// A name by which an image is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Id(String),
    Reference(ImageReference),
}

impl Name {
    pub(super) fn read(text: &str) -> Result<Self, Error> {
        if is_id(text) {
            return Ok(Self::Id(text.to_owned()));
        }
        ImageReference::parse(text)
            .map(Self::Reference)
            .map_err(|fault| Error::new(ErrorKind::ImageNotFound, fault.to_string()))
    }

    pub(super) fn sent(&self) -> String {
        match self {
            Self::Id(id) => id.clone(),
            Self::Reference(reference) => reference.exact(),
        }
    }

    /// Whether an image that Docker found has this name, and not only one that begins with it.
    pub(super) fn is_of(&self, found: &ImageInspect) -> bool {
        let any_is = |names: &Option<Vec<String>>, wanted: &str| {
            let names = names.as_deref().unwrap_or_default();
            names
                .iter()
                .filter_map(|name| ImageReference::parse(name).ok())
                .any(|name| name.exact() == wanted)
        };
        match self {
            Self::Id(id) => found.id.as_ref() == Some(id),
            Self::Reference(reference) if reference.digest().is_some() => {
                any_is(&found.repo_digests, &reference.exact())
            }
            Self::Reference(reference) => any_is(&found.repo_tags, &reference.exact()),
        }
    }
}

/// The most that an image's labels and variables may take, in bytes. Docker copies them into each
/// container's description, and each listing of containers has the labels of all.
const CONFIGURED_AT_MOST: usize = 256 * 1024;

pub(super) fn bounded(reference: &str, inspect: &ImageInspect) -> Result<(), Error> {
    let Some(config) = &inspect.config else {
        return Ok(());
    };
    let of_list =
        |list: &Option<Vec<String>>| list.iter().flatten().map(String::len).sum::<usize>();
    let labels = config.labels.iter().flatten();
    let size = labels
        .map(|(name, value)| name.len() + value.len())
        .sum::<usize>()
        + of_list(&config.env)
        + of_list(&config.cmd)
        + of_list(&config.entrypoint)
        + of_list(&config.on_build);
    if size <= CONFIGURED_AT_MOST {
        return Ok(());
    }
    let message = format!(
        "image `{reference}` cannot be used: its labels, variables and command take {size} bytes, and may \
         take {CONFIGURED_AT_MOST}"
    );
    Err(Error::new(ErrorKind::Start, message))
}

/// The error for an image whose description is longer than the bound.
pub(super) fn too_large(reference: &str) -> Error {
    let message = format!(
        "image `{reference}` cannot be used: its description is too long, and its labels, variables and command \
         may take {CONFIGURED_AT_MOST} bytes"
    );
    Error::new(ErrorKind::Start, message)
}

pub(super) fn prepared(name: &Name, inspect: &ImageInspect) -> PreparedImage {
    let id = inspect.id.clone().unwrap_or_else(|| name.sent());
    let digests = inspect.repo_digests.as_deref().unwrap_or_default();
    let is_same = |digest: &str| match (name, ImageReference::parse(digest)) {
        (Name::Reference(wanted), Ok(digest)) => digest.name() == wanted.name(),
        _ => false,
    };
    let shown = digests
        .iter()
        .find(|digest| is_same(digest))
        .or_else(|| digests.first())
        .cloned()
        .unwrap_or_else(|| id.clone());
    PreparedImage { id, shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_17_an_image_found_by_the_beginning_of_its_id_is_not_the_one_meant() {
        let found = ImageInspect {
            id: Some(format!("sha256:10be{}", "0".repeat(60))),
            repo_tags: Some(vec!["alpine:3".to_owned()]),
            repo_digests: Some(vec![format!("alpine@sha256:{}", "a".repeat(64))]),
            ..ImageInspect::default()
        };
        let is_of = |text: &str| Name::read(text).unwrap().is_of(&found);
        assert!(is_of("alpine:3") && is_of("docker.io/library/alpine:3"));
        assert!(is_of(&format!("alpine@sha256:{}", "a".repeat(64))));
        assert!(is_of(&format!("sha256:10be{}", "0".repeat(60))));
        for text in ["10be:latest", "alpine:10be", "alpine:3.1", "other:3"] {
            assert!(!is_of(text), "{text}");
        }
        for text in ["10be", "sha256:10be", "../version?x="] {
            assert_eq!(Name::read(text).unwrap_err().kind, ErrorKind::ImageNotFound);
        }
    }

    #[test]
    fn an_image_with_huge_labels_is_refused() {
        let labels = [("x".to_owned(), "y".repeat(CONFIGURED_AT_MOST))].into();
        let config = bollard::models::ImageConfig {
            labels: Some(labels),
            ..Default::default()
        };
        let inspect = ImageInspect {
            config: Some(config),
            ..ImageInspect::default()
        };
        assert!(bounded("x:1", &inspect).is_err());
        assert_eq!(bounded("x:1", &ImageInspect::default()), Ok(()));
    }

    #[test]
    fn an_image_is_shown_by_its_own_digest() {
        let digest = |name: &str, digit: &str| format!("{name}@sha256:{}", digit.repeat(64));
        let inspect = ImageInspect {
            id: Some("sha256:id".to_owned()),
            repo_digests: Some(vec![digest("other", "1"), digest("team/image", "2")]),
            ..ImageInspect::default()
        };
        let name = Name::read("team/image:1").unwrap();
        assert_eq!(prepared(&name, &inspect).shown, digest("team/image", "2"));
        let local = ImageInspect {
            id: Some("sha256:id".to_owned()),
            ..ImageInspect::default()
        };
        assert_eq!(prepared(&name, &local).shown, "sha256:id");
    }
}
