//! A registry of images of a test's own, on the loop-back address, which an engine may use without TLS.
//!
//! It has one image, the one that stages of the rig run in, and only gives. That is enough for an engine
//! to fetch it as it fetches any other.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::base_image;

/// What kind of thing a manifest is.
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Serves until the process ends.
#[derive(Debug)]
pub struct Registry {
    image: String,
}

#[derive(Debug)]
struct Content {
    manifest: Vec<u8>,
    /// By digest.
    blobs: [(String, Vec<u8>); 2],
}

impl Registry {
    /// Starts one.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let content = Arc::new(Content::new());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = Arc::clone(&content);
                // The engine may hang up when it has what it wants.
                std::thread::spawn(move || drop(serve(&content, stream)));
            }
        });
        Self {
            image: format!("{address}/rig/base:1"),
        }
    }

    /// The reference of its image.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }
}

impl Content {
    fn new() -> Self {
        let layer = base_image::archive();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": config.len(),
                "digest": digest(&config),
            },
            "layers": [{
                // Engines tell by its first bytes that it is not compressed.
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": layer.len(),
                "digest": digest(&layer),
            }],
        });
        Self {
            manifest: manifest.to_string().into_bytes(),
            blobs: [(digest(&config), config), (digest(&layer), layer)],
        }
    }

    /// What is at a path, and its type.
    fn at(&self, path: &str) -> Option<(&'static str, &[u8])> {
        if path == "/v2/" {
            return Some(("application/json", b"{}"));
        }
        if path.contains("/manifests/") {
            return Some((MANIFEST, &self.manifest));
        }
        let (_, wanted) = path.split_once("/blobs/")?;
        let (_, blob) = self.blobs.iter().find(|(digest, _)| digest == wanted)?;
        Some(("application/octet-stream", blob))
    }
}

fn serve(content: &Content, mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for header in lines {
        if header?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    let Some((kind, body)) = content.at(path) else {
        return stream.write_all(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\nConnection: close\r\n\r\n",
        body.len(),
        digest(body)
    );
    stream.write_all(head.as_bytes())?;
    if method == Some("GET") {
        stream.write_all(body)?;
    }
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// This machine's, as images call it.
const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}
