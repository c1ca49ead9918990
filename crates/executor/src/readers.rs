//! The readers of input that pushers and stages' programs wrote, for the fuzz targets: each takes any bytes, and
//! drops the result.

use std::collections::BTreeMap;
use std::path::Path;

use trainyard_core::stage::RelativePath;

use crate::blob::InMemory;
use crate::docker;
use crate::docker::dockerfile::{BuildKit, Builder};

/// The largest output that [`output`] keeps, in bytes.
const LARGEST_OUTPUT: u64 = 1 << 20;

pub fn dockerfile(bytes: &[u8]) {
    let buildkit = Builder::BuildKit(BuildKit {
        version: (29, 0),
        arch: "amd64".to_owned(),
    });
    for builder in [Builder::Classic, buildkit] {
        drop(docker::dockerfile::read(
            bytes,
            &BTreeMap::new(),
            None,
            &builder,
        ));
    }
}

/// Reads a `.dockerignore`, and matches a path against it.
pub fn dockerignore(text: &str, path: &str) {
    if let Ok(rules) = docker::dockerignore::DockerIgnore::parse(text) {
        let _ = rules.ignores(path);
    }
}

/// Unpacks the archive in which Docker sends an output.
pub fn output(archive: &[u8]) {
    let Ok(output) = RelativePath::new("model") else {
        return;
    };
    let to = InMemory::default();
    let path = Path::new("/trainyard/outputs/model");
    drop(docker::collect::keep(
        archive,
        &output,
        path,
        &to,
        LARGEST_OUTPUT,
    ));
}
