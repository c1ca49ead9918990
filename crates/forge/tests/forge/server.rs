//! Web servers: one that serves repositories through git's own CGI program, and ones that misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request as received.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A web server on a free port, until dropped.
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers every request with the result of `answer`: a whole HTTP response.
    pub(crate) fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Self {
        Self::handling(move |mut stream, seen| {
            if let Some(request) = receive(&stream) {
                let response = answer(&request);
                seen.lock().unwrap().push(request);
                // The client may have hung up.
                let _ = stream.write_all(&response);
            }
            None
        })
    }

    /// Answers every request with this status and no content.
    pub(crate) fn status(status: &'static str) -> Self {
        Self::answering(move |_| response(status, "", b""))
    }

    /// Accepts connections and never answers.
    pub(crate) fn silent() -> Self {
        Self::handling(|stream, _| Some(stream))
    }

    /// Serves the repositories below `root`; `login` is the user name and password wanted.
    pub(crate) fn of_repositories(root: &Path, login: Option<&'static str>) -> Self {
        let root = root.to_owned();
        Self::answering(move |request| {
            let wanted = login.map(|login| format!("Basic {}", base64(login.as_bytes())));
            if wanted.is_some() && request.header("authorization") != wanted.as_deref() {
                let challenge = "WWW-Authenticate: Basic realm=\"git\"\r\n";
                return response("401 Unauthorized", challenge, b"");
            }
            cgi(&root, request)
        })
    }

    /// Answers with `head` and then `piece`, again and again, until the client hangs up.
    pub(crate) fn endless(head: &'static str, piece: &'static [u8]) -> Self {
        Self::handling(move |mut stream, _| {
            let _ = receive(&stream);
            let pieces = piece.repeat(64 * 1024 / piece.len());
            let mut sent = stream.write_all(head.as_bytes());
            while sent.is_ok() {
                sent = stream.write_all(&pieces);
            }
            None
        })
    }

    /// Serves the repositories below `root`, of which `old` has moved to `new`.
    pub(crate) fn moving(root: &Path, old: &'static str, new: &'static str) -> Self {
        let root = root.to_owned();
        Self::answering(move |request| {
            if request.path.contains(old) {
                let path = request.path.replace(old, new);
                let location = format!("Location: {path}?{}\r\n", request.query);
                return response("301 Moved Permanently", &location, b"");
            }
            cgi(&root, request)
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Connections that `handle` returns are held open until the server stops.
    fn handling(
        handle: impl Fn(TcpStream, &Mutex<Vec<Request>>) -> Option<TcpStream> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let (their_seen, their_stop) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                if their_stop.load(Ordering::SeqCst) {
                    return;
                }
                held.extend(handle(stream, &their_seen));
            }
        });
        Self {
            address,
            seen,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes it out of its wait for connections.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A whole HTTP response; `headers` end with a line break each.
pub(crate) fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn receive(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
    };
    let length = request
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

fn cgi(root: &PathBuf, request: &Request) -> Vec<u8> {
    let mut child = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env(
            "CONTENT_TYPE",
            request.header("content-type").unwrap_or_default(),
        )
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Requests are small enough for the pipe.
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&request.body)
        .unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&output[..end + 2]).into_owned();
    let status = head
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .unwrap_or("200 OK")
        .to_owned();
    response(&status, &head, &output[end + 4..])
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() {
                char::from(DIGITS[index as usize])
            } else {
                '='
            });
        }
    }
    text
}
