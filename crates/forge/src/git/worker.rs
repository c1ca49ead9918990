//! Runs git in a child process: starts it, sends its request, watches it, and ends it.
//!
//! If a hostile remote's objects make libgit2 use up memory or time, or crash, that affects one child only. Each
//! request has a child of its own. It inherits nothing: no variables except those of proxies and certificates, no
//! working directory, no files; passwords come over its standard input. It ends when its standard input is closed,
//! which also happens when the daemon dies, however it dies.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::job::{Answer, Bounds, Job, Request};
use super::{Error, MAX_DAG_BYTES, MAX_DAG_FILE_BYTES, Mirror};
use crate::one_line::one_line;

/// The default memory that git may take for one fetch or one read.
pub const USUAL_MEMORY: u64 = 1 << 30;

/// The deadline of everything but a fetch and an archive.
const READ: Duration = Duration::from_secs(60);

/// The deadline for writing an archive of sources.
const ARCHIVE: Duration = Duration::from_secs(20 * 60);

/// How much longer than its own limit a fetch may take before the daemon ends it.
const GRACE: Duration = Duration::from_secs(30);

/// The largest file: an archive of sources, with its headers.
const FILE_BYTES: u64 = 10 << 30;

/// The longest answer: 50,000 heads, or 3,000 paths.
const ANSWER_BYTES: u64 = 64 << 20;

/// The message of a child that ran out of memory. The parent knows the limit.
pub(super) const OUT_OF_MEMORY: &str = "out of memory";

/// The most bytes of a child's standard error that are kept.
const SAID_BYTES: u64 = 4 << 10;

/// The variables of proxies.
pub(super) const PROXIES: [&str; 7] = [
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// Further variables that a child gets: where certificates are, and libraries.
const INHERITED: [&str; 3] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH"];

/// How a child process is started.
#[derive(Debug, Clone)]
pub struct Worker {
    program: PathBuf,
    arguments: Vec<OsString>,
    memory: u64,
}

impl Worker {
    /// Children that are `program` with these arguments: the program has to call [`super::serve_one_request`].
    #[must_use]
    pub fn new(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self {
            program,
            arguments,
            memory: USUAL_MEMORY,
        }
    }

    /// Children that run this very program, even if its file has been replaced since.
    #[must_use]
    pub fn this_program(argument: &str) -> Self {
        Self::new("/proc/self/exe".into(), vec![argument.into()])
    }

    /// The same, with this many bytes of memory for each child.
    #[must_use]
    pub fn with_memory(self, memory: u64) -> Self {
        Self { memory, ..self }
    }

    /// Has a child carry out a request. A future that is dropped ends it.
    pub(super) async fn call(
        &self,
        mirror: &Mirror,
        what: &str,
        job: Job,
    ) -> Result<(Answer, Vec<u8>), Error> {
        let time = match &job {
            Job::Fetch { .. } => mirror.limits.time.saturating_add(GRACE),
            Job::SourceTar(_, _, Some(_)) => mirror.limits.time.saturating_add(ARCHIVE),
            Job::SourceTar(..) => ARCHIVE,
            _ => READ,
        };
        let is_fetch = matches!(job, Job::Fetch { .. });
        let bounds = Bounds {
            memory: self.memory,
            cpu: time,
            file: match is_fetch {
                // A pack and, after it, its index.
                true => (mirror.limits.bytes as u64).saturating_add(1 << 30),
                false => FILE_BYTES,
            },
        };
        let request = Request::new(mirror, bounds, job);
        let talk = async {
            let mut child = self.start().map_err(|error| not_started(&error))?;
            let said = talk(&mut child, &request).await;
            let status = child.wait().await.map_err(|error| not_started(&error))?;
            Ok::<_, Error>((said, status))
        };
        let Ok(ended) = tokio::time::timeout(time, talk).await else {
            return Err(Error::Exhausted {
                what: what.to_owned(),
                why: format!("git may take {} s for it", time.as_secs()),
            });
        };
        let (said, status) = ended?;
        match said {
            Ok(Said {
                answer: Ok(answer),
                texts,
                ..
            }) if status.success() => Ok((answer, texts)),
            Ok(Said {
                answer: Err(Error::Exhausted { why, .. }),
                ..
            }) if why == OUT_OF_MEMORY => Err(self.out_of_memory(what)),
            Ok(Said {
                answer: Err(error), ..
            }) if status.success() => Err(error),
            Ok(Said { errors, .. }) => Err(self.died(what, status, &errors, time)),
            Err((_, errors)) if !status.success() => Err(self.died(what, status, &errors, time)),
            Err((error, _)) => Err(Error::Crashed {
                what: what.to_owned(),
                why: format!("its process did not answer: {error}"),
            }),
        }
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .arg0("trainyard")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for name in PROXIES.iter().chain(&INHERITED) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.spawn()
    }

    fn out_of_memory(&self, what: &str) -> Error {
        Error::Exhausted {
            what: what.to_owned(),
            why: format!(
                "git may take {} MiB of memory for it; `git.memory` in the configuration permits more",
                self.memory >> 20
            ),
        }
    }

    /// The error for a child that ended without an answer.
    fn died(&self, what: &str, status: ExitStatus, errors: &[u8], time: Duration) -> Error {
        let errors = String::from_utf8_lossy(errors);
        let signal = status.signal().and_then(|n| Signal::try_from(n).ok());
        match signal {
            _ if is_out_of_memory(&errors) => self.out_of_memory(what),
            Some(Signal::SIGXCPU) => Error::Exhausted {
                what: what.to_owned(),
                why: format!("git may take {} s for it", time.as_secs()),
            },
            Some(Signal::SIGXFSZ) => Error::Exhausted {
                what: what.to_owned(),
                why: "git would have written a larger file than it may".to_owned(),
            },
            // By the kernel's OOM killer, or by an operator.
            Some(Signal::SIGKILL) => Error::Exhausted {
                what: what.to_owned(),
                why: "its process was killed, as the kernel does where memory is short".to_owned(),
            },
            signal => {
                let how = signal.map_or_else(|| status.to_string(), |signal| signal.to_string());
                let errors = one_line(&errors, 300);
                Error::Crashed {
                    what: what.to_owned(),
                    why: format!("its process ended with {how}: {errors}"),
                }
            }
        }
    }
}

/// The output of a child.
struct Said {
    answer: Result<Answer, Error>,
    texts: Vec<u8>,
    errors: Vec<u8>,
}

/// Sends the request, and reads all output. The input stays open until then.
async fn talk(child: &mut Child, request: &Request) -> Result<Said, (io::Error, Vec<u8>)> {
    let (Some(mut to), Some(out), Some(err)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err((io::Error::other("it has no pipes"), Vec::new()));
    };
    let asked = async {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        to.write_all(&line).await?;
        to.flush().await
    };
    let heard = async {
        let mut out = BufReader::new(out);
        let mut line = Vec::new();
        (&mut out)
            .take(ANSWER_BYTES)
            .read_until(b'\n', &mut line)
            .await?;
        let answer = serde_json::from_slice(&line)?;
        let mut texts = Vec::new();
        let most = (MAX_DAG_BYTES + MAX_DAG_FILE_BYTES) as u64;
        out.take(most).read_to_end(&mut texts).await?;
        Ok::<_, io::Error>((answer, texts))
    };
    let errors = async {
        let mut err = err;
        let mut said = Vec::new();
        let _ = (&mut err).take(SAID_BYTES).read_to_end(&mut said).await;
        // The rest is drained, so that the child does not block on it.
        let _ = tokio::io::copy(&mut err, &mut tokio::io::sink()).await;
        said
    };
    let talked = async {
        asked.await?;
        heard.await
    };
    let (talked, errors) = tokio::join!(talked, errors);
    match talked {
        Ok((answer, texts)) => Ok(Said {
            answer,
            texts,
            errors,
        }),
        Err(error) => Err((error, errors)),
    }
}

/// Whether a message is that of a process that ran out of memory.
pub(super) fn is_out_of_memory(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("out of memory")
        || text.contains("memory allocation of")
        || text.contains("cannot allocate memory")
}

fn not_started(error: &io::Error) -> Error {
    Error::disk("git's process cannot be started", error)
}
