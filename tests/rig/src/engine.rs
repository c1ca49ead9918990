//! A Docker engine of a test's own, to be killed, frozen and restarted.
//!
//! All of it is separate from the machine's own Docker engine: data root, exec root, pid file, socket, containerd,
//! control group, and a bridge. It is configured to leave packet filters and forwarding alone, so its containers
//! reach this host and nothing else.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use trainyard_tests::daemon::signal;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::wait::until;

use crate::base_image;
use crate::bridge::Bridge;
use crate::disk::LoopDisk;
use crate::processes;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(300);

/// How long an orderly stop may take: it stops containers first.
const STOP: Duration = Duration::from_secs(300);

/// How a Docker engine is set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineOptions {
    pub live_restore: bool,
    /// The size in bytes of a disk of its own; the machine's without it.
    pub disk: Option<u64>,
    /// How often it tries a layer again by itself, 5 s later each time than the time before; five times without it.
    pub download_attempts: Option<u32>,
}

/// How much of a Docker engine is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// dockerd alone. The kernel takes its containerd along; shims and containers go on.
    Dockerd,
    /// All of it, shims and containers included, as when the power fails.
    Everything,
}

/// Docker's state of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub container: String,
    /// The attempt that it is labelled with.
    pub attempt: String,
    /// Docker's word: `created`, `running`, `exited`.
    pub state: String,
}

/// A running engine; everything of it is killed and removed when it is dropped.
#[derive(Debug)]
pub struct PrivateEngine {
    options: EngineOptions,
    dockerd: Option<Child>,
    disk: Option<LoopDisk>,
    bridge: Bridge,
    place: Place,
}

impl PrivateEngine {
    /// Starts one, with the image that scenarios run in.
    ///
    /// # Panics
    /// When dockerd is not installed or does not start; with the end of its log.
    #[must_use]
    pub fn start(options: EngineOptions) -> Self {
        let place = Place::new();
        let disk = options
            .disk
            .map(|size| LoopDisk::new(&place.join("disk"), &place.join("docker"), size));
        place.write("daemon.json", "{}");
        let mut engine = Self {
            options,
            dockerd: None,
            disk,
            bridge: Bridge::new(),
            place,
        };
        engine.up();
        engine.import_image();
        engine
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.place.join("docker.sock")
    }

    /// This host's address as its containers see it.
    #[must_use]
    pub const fn gateway(&self) -> Ipv4Addr {
        self.bridge.address()
    }

    /// Its disk, where it has one of its own.
    #[must_use]
    pub const fn disk(&self) -> Option<&LoopDisk> {
        self.disk.as_ref()
    }

    /// Whether the process of dockerd is there, frozen or not.
    pub fn is_up(&mut self) -> bool {
        self.dockerd
            .as_mut()
            .is_some_and(|dockerd| dockerd.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// Starts dockerd again and waits until it answers. Nothing where it runs.
    ///
    /// # Panics
    /// When it does not start.
    pub fn up(&mut self) {
        if self.is_up() {
            return;
        }
        // A killed dockerd leaves them, and their numbers may be other processes' by now.
        let _ = std::fs::remove_file(self.place.join("docker.pid"));
        let _ = std::fs::remove_file(self.place.join("exec/containerd/containerd.pid"));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.place.join("dockerd.log"))
            .unwrap();
        let mut command = Command::new("dockerd");
        command
            .args(["--config-file", &self.path("daemon.json")])
            .args(["--host", &format!("unix://{}", self.path("docker.sock"))])
            .args(["--data-root", &self.path("docker")])
            .args(["--exec-root", &self.path("exec")])
            .args(["--pidfile", &self.path("docker.pid")])
            .args(["--bridge", self.bridge.name()])
            .args(["--cgroup-parent", &format!("/{}", self.bridge.name())])
            .args(["--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"])
            .args(["--userland-proxy=false", "--shutdown-timeout=5"]);
        if self.options.live_restore {
            command.arg("--live-restore");
        }
        if let Some(attempts) = self.options.download_attempts {
            command.args(["--max-download-attempts", &attempts.to_string()]);
        }
        let dockerd = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("dockerd; `make setup` installs it");
        self.dockerd = Some(dockerd);
        until("an answer of dockerd", START, || {
            assert!(self.is_up(), "dockerd ended:\n{}", self.end_of_log());
            self.try_docker(&["version", "--format", "{{.Server.Version}}"])
                .map_err(|problem| format!("{problem}\n{}", self.end_of_log()))
        });
    }

    /// Stops it in order: containers are stopped first, but with live-restore.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&mut self) {
        if let Some(mut dockerd) = self.dockerd.take() {
            signal(dockerd.id(), "TERM");
            until("the end of dockerd", STOP, || {
                dockerd.try_wait().unwrap().ok_or_else(|| self.end_of_log())
            });
        }
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// When something of it stays.
    pub fn kill(&mut self, what: Killed) {
        if let Some(mut dockerd) = self.dockerd.take() {
            let _ = dockerd.kill();
            let _ = dockerd.wait();
        }
        let ours = processes::with_command_line(&self.path("exec"));
        let is_shim = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("containerd-shim"))
        };
        let (shims, others): (Vec<u32>, Vec<u32>) = ours.into_iter().partition(is_shim);
        processes::kill_all(&others);
        if what == Killed::Everything {
            processes::kill_all(&shims);
            processes::kill_all(&processes::in_cgroup(self.bridge.name()));
            // Docker's files in /run are gone after a start of the machine.
            let runtime = self.place.join("exec");
            processes::unmount_below(&runtime);
            let _ = std::fs::remove_dir_all(&runtime);
        }
    }

    /// Freezes dockerd: the kernel accepts connections, but no answer comes.
    pub fn freeze(&self) {
        self.send("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.send("CONT");
    }

    /// Calls `docker` against it.
    ///
    /// # Panics
    /// When it fails.
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments)
            .unwrap_or_else(|problem| panic!("docker {arguments:?}: {problem}"))
    }

    /// The containers of an installation, in whatever state.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn containers_of(&self, instance: &str) -> Vec<Seen> {
        let filter = format!("label=io.trainyard.instance={instance}");
        let format = "{\"container\":\"{{.ID}}\",\"attempt\":\"{{.Label \"io.trainyard.attempt\"}}\",\"state\":\"{{.State}}\"}";
        let listing = self.docker(&[
            "ps",
            "-a",
            "--no-trunc",
            "--filter",
            &filter,
            "--format",
            format,
        ]);
        listing
            .lines()
            .map(|line| {
                let seen: Value = serde_json::from_str(line).unwrap();
                let word = |key: &str| seen[key].as_str().unwrap_or_default().to_owned();
                Seen {
                    container: word("container"),
                    attempt: word("attempt"),
                    state: word("state"),
                }
            })
            .collect()
    }

    /// The first process of a running container, by its number on this host.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn first_process(&self, container: &str) -> u32 {
        let pid = self.docker(&["inspect", "-f", "{{.State.Pid}}", container]);
        pid.parse().unwrap()
    }

    /// The children of a running container's first process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn programs(&self, container: &str) -> Vec<u32> {
        processes::children_of(self.first_process(container))
    }

    /// The folder of its own of a container, with its log.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn folder_of(&self, container: &str) -> PathBuf {
        let log = self.docker(&["inspect", "-f", "{{.LogPath}}", container]);
        Path::new(&log).parent().unwrap().to_owned()
    }

    /// All that dockerd printed, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.join("dockerd.log")).unwrap_or_default()
    }

    fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("docker")
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.path("docker.sock")),
            )
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the docker command; `make setup` installs it");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    fn import_image(&self) {
        let mut import = Command::new("docker")
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.path("docker.sock")),
            )
            .args(["import", "--change", "CMD [\"/bin/sh\"]"])
            .args(["--change", "ENV PATH=/bin", "-", IMAGE])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = import.stdin.take().unwrap();
        input.write_all(&base_image::archive()).unwrap();
        drop(input);
        assert!(import.wait().unwrap().success(), "docker import {IMAGE}");
    }

    fn send(&self, name: &str) {
        if let Some(dockerd) = &self.dockerd {
            signal(dockerd.id(), name);
        }
    }

    fn path(&self, name: &str) -> String {
        self.place.join(name).display().to_string()
    }

    fn end_of_log(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        // Also out of a panic: a second one would leave all of it behind.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.thaw();
            self.kill(Killed::Everything);
        }));
        drop(self.disk.take());
        processes::unmount_below(self.place.path());
        processes::remove_cgroup(self.bridge.name());
    }
}

/// The machine's own Docker engine and network as they are now, to be compared: the rig must not touch them.
///
/// # Panics
/// When the machine's engine does not answer.
#[must_use]
pub fn surroundings() -> String {
    let call = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let filters = call("iptables-save", &[]);
    let filters: Vec<&str> = filters
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('[').next().unwrap_or_default())
        .collect();
    let engine =
        trainyard_tests::engine::docker(&["info", "--format", "{{.ID}} {{.DockerRootDir}}"]);
    let bridge = call("ip", &["-o", "addr", "show", "docker0"]);
    let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
    let forward = std::fs::read_to_string(forward).unwrap_or_default();
    format!("{engine}\n{bridge}\n{forward}\n{}", filters.join("\n"))
}
