//! As much of HTTP as pulling needs: one request and one answer a connection.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::digest::sha256;

/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// `/v2/`.
    pub(super) path: String,
    pub(super) from: Option<usize>,
}

impl Request {
    /// Reads one; `None` where there is none: engines try TLS first.
    pub(super) fn read(stream: &TcpStream) -> Option<Self> {
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut lines = BufReader::new(stream);
        let mut first = [0];
        lines.read_exact(&mut first).ok()?;
        if !first[0].is_ascii_uppercase() {
            return None;
        }
        let mut head = String::new();
        loop {
            let before = head.len();
            lines.read_line(&mut head).ok()?;
            if head[before..].trim_end().is_empty() {
                return Self::parse(&head);
            }
        }
    }

    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.lines();
        let path = lines.next()?.split(' ').nth(1)?.to_owned();
        let from = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let range = value.trim().strip_prefix("bytes=")?;
            let from = range.strip_suffix('-')?.parse().ok()?;
            name.eq_ignore_ascii_case("range").then_some(from)
        });
        Some(Self { path, from })
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    pub(super) fn whole(kind: &str, body: Vec<u8>) -> Self {
        Self::new(200, kind, "", body)
    }

    /// A blob, from a byte on where only that is wanted.
    pub(super) fn part_of(blob: Vec<u8>, from: Option<usize>) -> Self {
        const BLOB: &str = "application/octet-stream";
        match from.filter(|from| *from < blob.len()) {
            None => Self::whole(BLOB, blob),
            Some(from) => {
                let length = blob.len();
                let range = format!("Content-Range: bytes {from}-{}/{length}\r\n", length - 1);
                Self::new(206, BLOB, &range, blob[from..].to_vec())
            }
        }
    }

    /// The body that registries send with a status.
    pub(super) fn failure(status: u16) -> Self {
        let (code, message) = match status {
            401 => ("UNAUTHORIZED", "authentication required"),
            404 => ("MANIFEST_UNKNOWN", "manifest unknown"),
            429 => ("TOOMANYREQUESTS", "too many requests"),
            // Others come of proxies before them, which know no codes.
            _ => {
                return Self::new(status, "text/plain", "", b"out of order\n".to_vec());
            }
        };
        let body = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"{message}\"}}]}}");
        let more = if status == 429 {
            "Retry-After: 1\r\n"
        } else {
            ""
        };
        Self::new(status, "application/json", more, body.into_bytes())
    }

    fn new(status: u16, kind: &str, more: &str, body: Vec<u8>) -> Self {
        let head = format!(
            "HTTP/1.1 {status} As Asked\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Docker-Distribution-Api-Version: registry/2.0\r\nDocker-Content-Digest: sha256:{}\r\n\
             Content-Length: {}\r\n{more}\r\n",
            sha256(&body),
            body.len()
        );
        Self { head, body }
    }

    pub(super) fn send(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.write_all(self.head.as_bytes())?;
        stream.write_all(&self.body)
    }

    /// Sends half of what it promises.
    pub(super) fn send_half(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.write_all(self.head.as_bytes())?;
        stream.write_all(&self.body[..self.body.len() / 2])
    }

    /// Sends it in pieces.
    pub(super) fn send_slowly(
        &self,
        mut stream: &TcpStream,
        pieces: usize,
        pause: Duration,
    ) -> io::Result<()> {
        stream.write_all(self.head.as_bytes())?;
        for piece in self
            .body
            .chunks(self.body.len().div_ceil(pieces.max(1)).max(1))
        {
            std::thread::sleep(pause);
            stream.write_all(piece)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_the_rest_of_a_blob_is_understood() {
        let head =
            "GET /v2/team/image/blobs/sha256:1 HTTP/1.1\r\nHost: x\r\nRange: bytes=7-\r\n\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!(request.path, "/v2/team/image/blobs/sha256:1");
        assert_eq!(request.from, Some(7));
        let answer = Answer::part_of(b"0123456789".to_vec(), request.from);
        assert_eq!(answer.body, b"789");
        assert!(answer.head.contains("Content-Range: bytes 7-9/10\r\n"));
    }
}
