//! `Process`: attempts as processes on the daemon's own host, for trying things out and for hosts
//! without a container engine. There is no isolation: a stage can do what the daemon's user can.
//!
//! Each attempt has a folder of its own, and all that is known of it is in that folder, so a daemon
//! that starts again finds its attempts as they are. A small shell wrapper in a
//! session of its own runs the program and writes its exit code down; it outlives the daemon.
//!
//! What it does not do: `image:` and `build:` are ignored, stages run with what the host has.
//! Limits on memory, CPU and processes are not enforced. Programs that leave their session escape
//! `stop`. Secrets lie in a file only their owner can read between `create` and `start`.

mod collect;
mod folder;
mod launch;
mod layout;
mod logs;
mod session;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use trainyard_core::id::AttemptId;
use trainyard_core::stage::RelativePath;

use self::folder::Folder;
use self::launch::Launch;
use crate::contract::{
    Collected, Error, ErrorKind, Executor, Exit, Handle, ImageRequest, Listed, LogCursor,
    LogStream, PreparedImage, Proof, Status,
};
use crate::spec::AttemptSpec;

/// How often an adopted process is looked at; of its own children the daemon is told at once.
const LOOK: Duration = Duration::from_millis(20);

/// How long a program may take from the start of its wrapper to its own code.
const COMING_UP: Duration = Duration::from_secs(1);

/// How often a program that is coming up is looked for.
const LOOK_FOR_PROGRAM: Duration = Duration::from_millis(2);

/// How long a killed process may take to go.
const KILLED: Duration = Duration::from_secs(10);

/// Where attempts live and what every program gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessConfig {
    /// A folder of this executor's own; made where it is missing. One installation each.
    pub data_dir: PathBuf,
    /// Environment of every program beneath its own: `PATH` and the like. Nothing is inherited.
    pub env: BTreeMap<String, String>,
}

/// Runs attempts as processes. Clones share what they know of their children.
#[derive(Debug, Clone)]
pub struct Process {
    host: Arc<Host>,
}

#[derive(Debug)]
struct Host {
    attempts: PathBuf,
    place: String,
    env: BTreeMap<String, String>,
    children: Mutex<HashMap<AttemptId, Child>>,
}

/// A wrapper that this process started.
#[derive(Debug, Clone)]
struct Child {
    pid: u32,
    ended: watch::Receiver<bool>,
}

impl Process {
    /// Takes the data folder into use.
    ///
    /// # Errors
    /// `Storage` where it cannot be made.
    pub fn new(config: ProcessConfig) -> Result<Self, Error> {
        let attempts = config.data_dir.join("attempts");
        folder::make_private(&attempts).map_err(|error| {
            let place = attempts.display();
            Error::new(
                ErrorKind::Storage,
                format!("the folder {place} for processes cannot be used: {error}"),
            )
        })?;
        Ok(Self {
            host: Arc::new(Host {
                place: place(&attempts),
                attempts,
                env: config.env,
                children: Mutex::default(),
            }),
        })
    }

    /// The machine and the folder on it: who shares both finds the same processes.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.host.place
    }

    fn folder(&self, attempt: AttemptId) -> Folder {
        Folder::of(&self.host.attempts, attempt)
    }

    fn child(&self, attempt: AttemptId) -> Option<Child> {
        let children = self
            .host
            .children
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        children.get(&attempt).cloned()
    }

    async fn status(&self, attempt: AttemptId) -> Result<Option<Status>, Error> {
        let folder = self.folder(attempt);
        let spawned = self.child(attempt).map(|child| child.pid);
        blocking(move || Ok(folder.status(spawned))).await
    }

    /// Returns once the attempt does not run, or after `limit`; what is so then.
    async fn ended(&self, attempt: AttemptId, limit: Duration) -> Result<Option<Status>, Error> {
        let give_up = tokio::time::Instant::now().checked_add(limit);
        loop {
            let status = self.status(attempt).await?;
            let over = give_up.is_some_and(|moment| tokio::time::Instant::now() >= moment);
            if !matches!(status, Some(Status::Running { .. })) || over {
                return Ok(status);
            }
            tokio::select! {
                () = child_ended(self.child(attempt)) => {}
                () = sleep_until(give_up) => {}
            }
        }
    }

    fn spawned(&self, attempt: AttemptId, mut process: tokio::process::Child) {
        let Some(pid) = process.id() else { return };
        let (tell, ended) = watch::channel(false);
        self.host
            .children
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(attempt, Child { pid, ended });
        tokio::spawn(async move {
            // How it ended is in its folder; this only says that it did, and leaves no zombie.
            let _ = process.wait().await;
            tell.send_replace(true);
        });
    }

    fn forget(&self, attempt: AttemptId) {
        let mut children = self
            .host
            .children
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        children.remove(&attempt);
    }

    /// Signals all of the attempt's session. A program that is only coming up is waited for: a
    /// signal that comes between its fork and its own code is noticed by nobody.
    async fn signal(&self, attempt: AttemptId, signal: session::Signal) -> Result<(), Error> {
        let begun = tokio::time::Instant::now();
        loop {
            let folder = self.folder(attempt);
            let anyway = begun.elapsed() >= COMING_UP;
            let sent = blocking(move || Ok(folder.signal(signal, anyway))).await?;
            if sent || !matches!(self.status(attempt).await?, Some(Status::Running { .. })) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_FOR_PROGRAM).await;
        }
    }
}

fn place(attempts: &Path) -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", machine.trim(), attempts.display())
}

/// Returns when a child has ended; for a process that is not our child, when it is time to look.
async fn child_ended(child: Option<Child>) {
    match child {
        Some(mut child) if !*child.ended.borrow() => {
            // A closed channel means that the runtime goes down.
            let _ = child.ended.wait_for(|ended| *ended).await;
        }
        Some(_) | None => tokio::time::sleep(LOOK).await,
    }
}

async fn sleep_until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Runs what touches files on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(ErrorKind::Engine, error.to_string())))
}

fn gone(attempt: AttemptId) -> Error {
    Error::new(
        ErrorKind::Gone,
        format!("there is no folder of attempt {attempt} on this host"),
    )
}

impl Executor for Process {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn prepare(
        &self,
        _request: &ImageRequest,
        _progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        Ok(PreparedImage {
            id: "host".to_owned(),
            shown: "host".to_owned(),
        })
    }

    async fn create(&self, spec: &AttemptSpec) -> Result<Handle, Error> {
        let folder = self.folder(spec.attempt);
        let spec = spec.clone();
        let env = self.host.env.clone();
        blocking(move || {
            let launch = Launch::new(&spec, env, &folder)?;
            folder.create(&spec, &launch)?;
            Ok(Handle {
                attempt: spec.attempt,
                container: folder.name(),
            })
        })
        .await
    }

    async fn start(&self, handle: &Handle) -> Result<(), Error> {
        let attempt = handle.attempt;
        let folder = self.folder(attempt);
        let spawned = blocking(move || folder.start()).await?;
        match spawned {
            launch::Started::Now(child) => self.spawned(attempt, child),
            launch::Started::Before => {}
            launch::Started::NoFolder => return Err(gone(attempt)),
        }
        Ok(())
    }

    fn starts_once(&self) -> bool {
        true
    }

    async fn prove(&self, _: &Handle, seen: &Exit) -> Result<Proof, Error> {
        Ok(Proof::by_engine(seen))
    }

    async fn inspect(&self, handle: &Handle) -> Result<Option<Status>, Error> {
        self.status(handle.attempt).await
    }

    async fn wait(&self, handle: &Handle) -> Result<Status, Error> {
        let attempt = handle.attempt;
        self.ended(attempt, Duration::MAX)
            .await?
            .ok_or_else(|| gone(attempt))
    }

    async fn logs(&self, handle: &Handle, after: Option<LogCursor>) -> Result<LogStream, Error> {
        let attempt = handle.attempt;
        let folder = self.folder(attempt);
        if !folder.exists() {
            return Err(gone(attempt));
        }
        Ok(logs::follow(folder, self.child(attempt), after))
    }

    async fn collect(
        &self,
        handle: &Handle,
        output: &RelativePath,
        to: &Path,
        limit: u64,
    ) -> Result<Option<Collected>, Error> {
        let folder = self.folder(handle.attempt);
        if !folder.exists() {
            return Err(gone(handle.attempt));
        }
        let (output, to) = (output.clone(), to.to_owned());
        blocking(move || collect::collect(&folder.outputs(), &output, &to, limit)).await
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        let attempt = handle.attempt;
        match self.status(attempt).await? {
            None | Some(Status::Exited { .. } | Status::Unknown) => return Ok(()),
            Some(Status::Created) => return self.remove(handle).await,
            Some(Status::Running { .. }) => {}
        }
        let steps = [
            (session::Signal::SIGTERM, grace),
            (session::Signal::SIGKILL, KILLED),
        ];
        for (signal, patience) in steps {
            self.signal(attempt, signal).await?;
            match self.ended(attempt, patience).await? {
                Some(Status::Running { .. }) => {}
                Some(Status::Unknown) => {
                    // The wrapper went with its program; who ended it is known here.
                    let folder = self.folder(attempt);
                    return blocking(move || folder.record_exit(128 + signal as i32)).await;
                }
                Some(Status::Created | Status::Exited { .. }) | None => return Ok(()),
            }
        }
        Err(Error::new(
            ErrorKind::Engine,
            format!("the processes of attempt {attempt} do not end, even by SIGKILL"),
        ))
    }

    async fn remove(&self, handle: &Handle) -> Result<(), Error> {
        let attempt = handle.attempt;
        if let Some(Status::Running { .. }) = self.status(attempt).await? {
            self.signal(attempt, session::Signal::SIGKILL).await?;
            self.ended(attempt, KILLED).await?;
        }
        self.forget(attempt);
        let folder = self.folder(attempt);
        blocking(move || folder.remove()).await
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        let attempts = self.host.attempts.clone();
        blocking(move || folder::list(&attempts)).await
    }
}
