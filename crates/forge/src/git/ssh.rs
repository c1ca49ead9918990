//! Speaks to one remote over ssh, by the machine's own program `ssh`.
//!
//! 1. It is `ssh` and not a library: the code that speaks to untrusted hosts is then OpenSSH, which the machine's
//!    distribution patches, and not a second implementation of it in this program. libgit2's own ways are libssh2,
//!    which needs OpenSSL, and a call of `ssh` that does not take an address to connect to.
//! 2. It reads no configuration and no agent, never prompts, forwards nothing, and offers one key alone.
//! 3. It connects to an address that was checked here, and compares the host's key with the known hosts of this repo
//!    under the name in the repo's address.
//! 4. The key is never a file on a disk: `ssh` reads it out of this process' memory, by `/proc`.
//! 4. The key is never a file on a disk: `ssh` reads it out of this process' memory, by `/proc`.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use url::Host;

use super::credentials::SshKey;
use super::limits::Watch;
use super::session::{self, LIST_BYTES};
use super::{Error, RemoteUrl, UrlRules};
use crate::one_line::one_line;

/// The most bytes of an error message of `ssh` that are read.
const SAID_BYTES: u64 = 8 << 10;

/// The most bytes of a short answer that are read.
const ANSWER_BYTES: usize = 64 << 10;

/// How long `ssh` may take to end once the remote has closed the connection.
const ENDS: Duration = Duration::from_secs(2);

/// A conversation with one remote.
#[derive(Debug)]
pub(super) struct SshSession {
    runtime: tokio::runtime::Runtime,
    url: RemoteUrl,
    watch: Arc<Watch>,
    talk: Mutex<Talk>,
    received: AtomicUsize,
    /// The error of this conversation, since libgit2 passes on texts alone.
    failure: Mutex<Option<Error>>,
}

#[derive(Debug)]
struct Talk {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    errors: Option<JoinHandle<Vec<u8>>>,
    /// The files from which `ssh` reads the key and the known hosts.
    _files: [File; 2],
}

impl SshSession {
    /// Reads the remote's advertised refs. The list is as it came.
    pub(super) fn open(
        url: &RemoteUrl,
        key: Option<&SshKey>,
        rules: &UrlRules,
        watch: &Arc<Watch>,
    ) -> Result<(Self, Vec<u8>), Error> {
        let command = format!("git-upload-pack {}", quoted(&url.ssh_path()));
        Self::begin(url, key, rules, watch, &command, Self::list)
    }

    /// Asks for the remote's server of Git LFS. The answer is as it came.
    pub(super) fn lfs_place(
        url: &RemoteUrl,
        key: Option<&SshKey>,
        rules: &UrlRules,
        watch: &Arc<Watch>,
    ) -> Result<Vec<u8>, Error> {
        let command = format!("git-lfs-authenticate {} download", quoted(&url.ssh_path()));
        let begun = Self::begin(url, key, rules, watch, &command, Self::short_answer);
        begun.map(|(_, answer)| answer)
    }

    /// Resolves the host, rejects it if it is in a place that is not followed, has it run a command, and reads
    /// its first output.
    fn begin(
        url: &RemoteUrl,
        key: Option<&SshKey>,
        rules: &UrlRules,
        watch: &Arc<Watch>,
        command: &str,
        first: impl Fn(&Self) -> Result<Vec<u8>, Error>,
    ) -> Result<(Self, Vec<u8>), Error> {
        let failed = |why: String| Error::Unreachable {
            url: url.to_string(),
            why,
        };
        let key = key.ok_or_else(|| Error::AuthenticationFailed {
            url: url.to_string(),
            why: "ssh needs a key: `trainyard repo set` takes --ssh-key and --known-hosts"
                .to_owned(),
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(format!("threads cannot be started: {error}")))?;
        let host = url
            .host()
            .ok_or_else(|| failed("it names no host".to_owned()))?;
        let addresses: Vec<IpAddr> = match &host {
            Host::Domain(name) => {
                let found = runtime.block_on(session::look_up(name, url.ssh_port()));
                found.map_err(failed)?.iter().map(|it| it.ip()).collect()
            }
            Host::Ipv4(ip) => vec![IpAddr::V4(*ip)],
            Host::Ipv6(ip) => vec![IpAddr::V6(*ip)],
        };
        for address in &addresses {
            session::admit(url, rules, &host.to_string(), *address)?;
        }
        let mut runtime = Some(runtime);
        let mut last = failed("its name has no address".to_owned());
        for address in addresses {
            let Some(runtime_now) = runtime.take() else {
                break;
            };
            let (talk, runtime_now) = start(url, key, address, command, runtime_now)?;
            let session = Self {
                runtime: runtime_now,
                url: url.clone(),
                watch: Arc::clone(watch),
                talk: Mutex::new(talk),
                received: AtomicUsize::new(0),
                failure: Mutex::default(),
            };
            match first(&session) {
                Ok(said) => return Ok((session, said)),
                Err(error @ Error::Unreachable { .. }) => last = error,
                Err(error) => return Err(error),
            }
            runtime = Some(session.runtime);
        }
        Err(last)
    }

    /// The error of this conversation, where libgit2 only reports that there was one.
    pub(super) fn failure(&self) -> Option<Error> {
        locked(&self.failure).take()
    }

    /// Reads the remote's next output, in the middle of a libgit2 call.
    pub(super) fn read(&self, to: &mut [u8]) -> io::Result<usize> {
        self.receive(to).map_err(|error| self.keep(error))
    }

    /// Writes to the remote, in the middle of a libgit2 call.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut talk = locked(&self.talk);
        let written = self.held(async { talk.to.write_all(bytes).await });
        let problem = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) => self.ended(&mut talk),
            Err(error) => error,
        };
        Err(self.keep(problem))
    }

    fn keep(&self, error: Error) -> io::Error {
        let shown = one_line(&error.to_string(), 300).replace('\0', " ");
        locked(&self.failure).get_or_insert(error);
        io::Error::other(shown)
    }

    /// The remote's list of refs: lines with their lengths, up to an empty one.
    fn list(&self) -> Result<Vec<u8>, Error> {
        let no_git = || Error::NotFound {
            url: self.url.to_string(),
            why: "the server there does not speak git".to_owned(),
        };
        let mut list = Vec::new();
        loop {
            let length = self.exactly(4)?;
            let length_read = std::str::from_utf8(&length).ok();
            let length_read = length_read.and_then(|hex| usize::from_str_radix(hex, 16).ok());
            let rest = match length_read.ok_or_else(no_git)? {
                0 => 0,
                length => length.checked_sub(4).ok_or_else(no_git)?,
            };
            list.extend_from_slice(&length);
            if length == b"0000" {
                return Ok(list);
            }
            list.extend(self.exactly(rest)?);
            if list.len() > LIST_BYTES {
                return Err(session::list_too_long(&self.url));
            }
        }
    }

    /// Reads all of the remote's output, which is short.
    fn short_answer(&self) -> Result<Vec<u8>, Error> {
        let mut answer = vec![0; ANSWER_BYTES];
        let mut at = 0;
        while at < answer.len() {
            match self.receive(&mut answer[at..])? {
                0 if at == 0 => return Err(self.ended(&mut locked(&self.talk))),
                0 => break,
                more => at += more,
            }
        }
        answer.truncate(at);
        Ok(answer)
    }

    fn exactly(&self, count: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; count];
        let mut at = 0;
        while at < count {
            match self.receive(&mut bytes[at..])? {
                0 => return Err(self.ended(&mut locked(&self.talk))),
                more => at += more,
            }
        }
        Ok(bytes)
    }

    fn receive(&self, to: &mut [u8]) -> Result<usize, Error> {
        let mut talk = locked(&self.talk);
        let count = match self.held(async { talk.from.read(to).await })? {
            Ok(count) => count,
            Err(_) => return Err(self.ended(&mut talk)),
        };
        drop(talk);
        self.watch.waited(Duration::ZERO, count as u64);
        let received = self.received.fetch_add(count, Ordering::Relaxed) + count;
        if !self.watch.goes_on(received) {
            return Err(Error::of_watch(&self.url, &self.watch).unwrap_or(Error::Cancelled));
        }
        Ok(count)
    }

    fn held<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let received = &self.received;
        self.watch.held(
            &self.runtime,
            &self.url,
            || received.load(Ordering::Relaxed),
            work,
        )
    }

    /// The error in what `ssh` printed at its end.
    fn ended(&self, talk: &mut Talk) -> Error {
        let errors = talk.errors.take();
        let said = self.runtime.block_on(async {
            let heard = async {
                let _ = talk.child.wait().await;
                match errors {
                    Some(errors) => errors.await.unwrap_or_default(),
                    None => Vec::new(),
                }
            };
            tokio::time::timeout(ENDS, heard).await.unwrap_or_default()
        });
        of_words(self.url.to_string(), &String::from_utf8_lossy(&said))
    }
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts `ssh`, within the runtime that then waits for it.
fn start(
    url: &RemoteUrl,
    key: &SshKey,
    address: IpAddr,
    remote_command: &str,
    runtime: tokio::runtime::Runtime,
) -> Result<(Talk, tokio::runtime::Runtime), Error> {
    let failed = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => Error::Unreachable {
            url: url.to_string(),
            why:
                "the program `ssh` is not on the daemon's machine; Debian has it as openssh-client"
                    .to_owned(),
        },
        _ => Error::disk("ssh cannot be started", error),
    };
    let key_file = in_memory("key", key.key.expose_secret()).map_err(|error| failed(&error))?;
    let hosts_file = in_memory("hosts", &key.known_hosts).map_err(|error| failed(&error))?;
    let mut command = Command::new("ssh");
    // Without a configuration file; the destination is a fixed word, which HostName replaces.
    command.args(["-F", "none", "-T", "-x", "-a"]);
    for option in options(url, address, &key_file, &hosts_file) {
        command.arg("-o").arg(option);
    }
    command
        .args(["--", "remote"])
        .arg(remote_command)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    end_with_this_thread(&mut command);
    let guard = runtime.enter();
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(to), Some(from), Some(errors)) = pipes else {
        return Err(failed(&io::Error::other("it has no pipes")));
    };
    let errors = runtime.spawn(async move {
        let mut errors = errors;
        let mut said = Vec::new();
        let _ = (&mut errors).take(SAID_BYTES).read_to_end(&mut said).await;
        let _ = tokio::io::copy(&mut errors, &mut tokio::io::sink()).await;
        said
    });
    drop(guard);
    let talk = Talk {
        child,
        to,
        from,
        errors: Some(errors),
        _files: [key_file, hosts_file],
    };
    Ok((talk, runtime))
}

fn options(url: &RemoteUrl, address: IpAddr, key: &File, hosts: &File) -> Vec<String> {
    let file = |file: &File| format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let mut options: Vec<String> = [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=none",
        "CheckHostIP=no",
        "UpdateHostKeys=no",
        "VerifyHostKeyDNS=no",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        "ProxyCommand=none",
        "ProxyJump=none",
        "ControlMaster=no",
        "ControlPath=none",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "Tunnel=no",
        "ConnectTimeout=10",
        "LogLevel=ERROR",
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    options.extend([
        format!("IdentityFile={}", file(key)),
        format!("UserKnownHostsFile={}", file(hosts)),
        format!("HostName={address}"),
        format!("HostKeyAlias={}", url.known_host()),
        format!("Port={}", url.ssh_port()),
        format!("User={}", url.ssh_user()),
    ]);
    options
}

/// A file in memory alone, which `ssh` accepts as a key: only this user may read it.
fn in_memory(name: &str, text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    // ssh rejects a key whose last line has no line end.
    if !text.ends_with('\n') {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

#[expect(unsafe_code, reason = "only a system call runs between fork and exec")]
fn end_with_this_thread(command: &mut Command) {
    // SAFETY: `prctl` allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        });
    }
}

/// Quotes a word for the remote's shell.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// `ssh` has one exit code for all its failures, and passes on what the remote prints.
fn of_words(url: String, said: &str) -> Error {
    let why = one_line(said.trim(), 300);
    let says = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
    if says(&["REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
        return Error::Untrusted {
            url,
            why: "the host's key differs from the one in the known hosts of this repo".to_owned(),
        };
    }
    if says(&["host key is known for", "Host key verification failed"]) {
        return Error::Untrusted {
            url,
            why: format!("{why}; the known hosts of this repo do not have its key"),
        };
    }
    if says(&["Load key", "invalid format", "error in libcrypto"]) {
        let why = format!("the key of this repo cannot be read: {why}");
        return Error::AuthenticationFailed { url, why };
    }
    if says(&["Permission denied"]) {
        let why = format!("it does not accept the key of this repo: {why}");
        return Error::AuthenticationFailed { url, why };
    }
    if says(&[
        "not appear to be a git repository",
        "not found",
        "No such file",
    ]) {
        return Error::NotFound { url, why };
    }
    let why = if why.is_empty() {
        "it closed the connection without a message".to_owned()
    } else {
        why
    };
    Error::Unreachable { url, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_12_a_path_is_one_word_for_the_remotes_shell() {
        assert_eq!(quoted("/team/model.git"), "'/team/model.git'");
        assert_eq!(quoted("/a'; touch x; '"), r"'/a'\''; touch x; '\'''");
    }

    #[test]
    fn ssh_failures_are_different_errors() {
        let of = |said: &str| of_words("u".to_owned(), said);
        assert!(matches!(
            of("git@h: Permission denied (publickey)."),
            Error::AuthenticationFailed { .. }
        ));
        assert!(matches!(
            of("No ED25519 host key is known for h and you have requested strict checking."),
            Error::Untrusted { .. }
        ));
        assert!(matches!(
            of("ERROR: Repository not found."),
            Error::NotFound { .. }
        ));
        assert!(matches!(
            of("ssh: connect to host 10.0.0.1 port 22: Connection refused"),
            Error::Unreachable { .. }
        ));
    }
}
