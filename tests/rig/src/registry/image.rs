//! An image as a registry keeps it: a manifest, a configuration, one layer.

use serde_json::json;

use super::Part;
use crate::base_image;
use crate::dice::Dice;
use crate::digest::sha256;

/// The kind of manifest that Docker engines of all versions take.
pub(super) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// How much of a layer is peculiar to its image, in bytes: half a layer is more than a buffer.
const PECULIAR: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Image {
    pub(super) manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Image {
    /// The image that stages of the rig run in, with a file that `seed` makes.
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let peculiar: Vec<u8> = std::iter::repeat_with(|| dice.roll().to_be_bytes())
            .take(PECULIAR / 8)
            .flatten()
            .collect();
        let layer = base_image::archive_with("peculiar", &peculiar);
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let described = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "size": bytes.len(), "digest": digest(bytes)});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described("application/vnd.docker.container.image.v1+json", &config),
            // Docker inspects the content, and accepts one that is not compressed as well.
            "layers": [described("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer)],
        });
        Self {
            manifest: manifest.to_string().into_bytes(),
            config,
            layer,
        }
    }

    pub(super) fn manifest_digest(&self) -> String {
        digest(&self.manifest)
    }

    /// The blob of this digest, and what part it is.
    pub(super) fn blob(&self, wanted: &str) -> Option<(Option<Part>, Vec<u8>)> {
        if wanted == digest(&self.layer) {
            Some((Some(Part::Layer), self.layer.clone()))
        } else if wanted == digest(&self.config) {
            Some((None, self.config.clone()))
        } else {
            None
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}
