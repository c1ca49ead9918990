//! Reading a reference by the grammar of the distribution project.

use super::{
    ALGORITHMS, DEFAULT_REGISTRY, ImageReference, LONGEST_NAME, LONGEST_TAG, OFFICIAL,
    ReferenceFault, is_hex, is_host,
};

pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
}

impl<'a> Reader<'a> {
    fn fault<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ReferenceFault> {
        Err(ReferenceFault {
            text: self.text.to_owned(),
            message: message.into(),
            at,
        })
    }

    /// Where a part of the text begins.
    fn at(&self, part: &str) -> usize {
        part.as_ptr() as usize - self.text.as_ptr() as usize
    }

    pub(super) fn reference(&self) -> Result<ImageReference, ReferenceFault> {
        let text = self.text;
        if text.is_empty() {
            return self.fault(0, "it is empty; write it as NAME:TAG or NAME@DIGEST");
        }
        // Nothing valid is longer, and nothing below costs more than the text is long.
        if text.len() > LONGEST_NAME + LONGEST_TAG + 160 {
            return self.fault(0, format!("it is longer than {LONGEST_NAME} bytes"));
        }
        self.refuse_ids()?;
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => (rest, Some(self.digest(digest)?)),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(self.tag(tag)?)),
            _ => (rest, None),
        };
        let (registry, path) = self.registry(name)?;
        self.path(path)?;
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{OFFICIAL}/{path}")
        } else {
            path.to_owned()
        };
        if registry.len() + 1 + repository.len() > LONGEST_NAME {
            return self.fault(0, format!("its name is longer than {LONGEST_NAME} bytes"));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(ToOwned::to_owned),
        };
        Ok(ImageReference {
            registry,
            repository,
            tag,
            digest: digest.map(ToOwned::to_owned),
        })
    }

    /// Docker searches by the beginning of an image's id wherever a text could be one.
    fn refuse_ids(&self) -> Result<(), ReferenceFault> {
        let text = self.text;
        let algorithm = text.split(':').next().unwrap_or_default();
        if text.contains(':') && ALGORITHMS.iter().any(|(name, _)| *name == algorithm) {
            return self.fault(
                0,
                "this is the id of an image, and ids are not accepted; write it as NAME:TAG or NAME@DIGEST",
            );
        }
        if is_hex(text) {
            return self.fault(
                0,
                format!(
                    "this could be the beginning of an image's id; if it is a name, add the tag: `{}`",
                    if text.len() < 64 {
                        format!("{text}:latest")
                    } else {
                        "NAME:TAG".to_owned()
                    }
                ),
            );
        }
        Ok(())
    }

    fn registry<'n>(&self, name: &'n str) -> Result<(String, &'n str), ReferenceFault> {
        let Some((first, rest)) = name.split_once('/') else {
            return Ok((DEFAULT_REGISTRY.to_owned(), name));
        };
        if !is_host(first) {
            return Ok((DEFAULT_REGISTRY.to_owned(), name));
        }
        self.host(first)?;
        let registry = first.to_ascii_lowercase();
        Ok(match registry.as_str() {
            "index.docker.io" => (DEFAULT_REGISTRY.to_owned(), rest),
            _ => (registry, rest),
        })
    }

    fn host(&self, host: &str) -> Result<(), ReferenceFault> {
        let (name, port) = match host.split_once(':') {
            None => (host, None),
            Some((name, port)) => (name, Some(port)),
        };
        if name.starts_with('[') {
            return self.fault(
                self.at(host),
                "an IPv6 address cannot be the host of a registry here; expected a name such as registry.example.com",
            );
        }
        for label in name.split('.') {
            let right = !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if !right {
                return self.fault(
                    self.at(label),
                    "expected the host of a registry, such as registry.example.com:5000",
                );
            }
        }
        match port {
            Some(port)
                if port.parse::<u16>().is_err() || !port.bytes().all(|b| b.is_ascii_digit()) =>
            {
                self.fault(
                    self.at(port),
                    "expected a port number after the registry's host",
                )
            }
            _ => Ok(()),
        }
    }

    fn path(&self, path: &str) -> Result<(), ReferenceFault> {
        for component in path.split('/') {
            if let Err(offset) = component_of(component) {
                return self.fault(
                    self.at(component) + offset,
                    "expected a name of a-z and 0-9, with `.`, `_`, `__` or `-` only between these",
                );
            }
        }
        Ok(())
    }

    fn tag(&self, tag: &'a str) -> Result<&'a str, ReferenceFault> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let wrong = tag
            .char_indices()
            .find(|(at, c)| !(is_word(*c) || (*at > 0 && matches!(c, '.' | '-'))));
        match wrong {
            _ if tag.is_empty() => self.fault(self.at(tag), "expected a tag after `:`"),
            Some((at, _)) => self.fault(
                self.at(tag) + at,
                "expected a tag of letters, digits, `_`, `.` and `-`",
            ),
            None if tag.len() > LONGEST_TAG => self.fault(
                self.at(tag),
                format!("a tag has at most {LONGEST_TAG} characters"),
            ),
            None => Ok(tag),
        }
    }

    fn digest(&self, digest: &'a str) -> Result<&'a str, ReferenceFault> {
        let known = digest.split_once(':').is_some_and(|(algorithm, hex)| {
            ALGORITHMS.contains(&(algorithm, hex.len())) && is_hex(hex)
        });
        if known {
            Ok(digest)
        } else {
            self.fault(
                self.at(digest),
                "expected a digest after `@`: sha256: and 64 hex digits in lower case",
            )
        }
    }
}

/// Checks one part of a repository's path; the error is the place of the fault.
fn component_of(text: &str) -> Result<(), usize> {
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let plain = bytes[at..].iter().take_while(|byte| is_plain(byte)).count();
        if plain == 0 {
            return Err(at);
        }
        at += plain;
        if at == bytes.len() {
            return Ok(());
        }
        let rest = &bytes[at..];
        at += match rest {
            [b'_', b'_', ..] => 2,
            [b'_' | b'.', ..] => 1,
            [b'-', ..] => rest.iter().take_while(|byte| **byte == b'-').count(),
            _ => return Err(at),
        };
    }
}
