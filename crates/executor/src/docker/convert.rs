//! Converts an attempt's spec to a request to Docker. This code is pure, and the only place where a
//! container's powers are decided: a DAG file has no words for anything that is not set here.
//!
//! - No capabilities but the few for files and users of the container itself (`capabilities`), no new privileges, no
//!   devices, no socket of Docker, no mounts but the init's own (read-only), and never privileged.
//! - Memory is limited without swap on top, so that a stage that outgrows its limit is killed
//!   instead of slowing down its host.
//! - Secrets are environment variables: any user of Docker can read them by inspecting the container,
//!   and is root on that host anyway. They are in no label and no command.
//! - Docker keeps a bounded log (`json-file`, two files of half the size each): when it is full, the
//!   older file is dropped. Log that was read before stays in Trainyard's own store.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions, RestartPolicy, RestartPolicyNameEnum,
};
use secrecy::ExposeSecret;
use trainyard_core::id::AttemptId;
use trainyard_core::render::RenderedCommand;
use trainyard_init::Nonce;

use super::arguments;
use super::connect::DockerConfig;
use super::init;
use super::labels::{self, FirstProcess};
use super::layout::{INPUTS, OUTPUTS, WORKSPACE};
use crate::error::{Error, ErrorKind};
use crate::shell;
use crate::spec::{AttemptSpec, Limits};

/// Files that a container may read but not write: Docker's own list, and the files that Docker keeps for each
/// container outside of its layer, where their size is not counted.
const READ_ONLY: [&str; 8] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
];

/// The name of an attempt's container.
pub(super) fn name(attempt: AttemptId) -> String {
    format!("trainyard-{attempt}")
}

/// The parameters of a program that runs under the init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnderInit<'a> {
    pub(super) volume: &'a str,
    /// Proves that a record is the init's own.
    pub(super) nonce: Nonce,
    /// The image's entry point and command, for a stage without a command.
    pub(super) default: Vec<String>,
}

/// The request to create the container.
pub(super) fn container(
    spec: &AttemptSpec,
    config: &DockerConfig,
    network: Option<String>,
    under_init: Option<UnderInit<'_>>,
) -> Result<ContainerCreateBody, Error> {
    let mut host = host(&Bounds::of(&spec.limits, network), config);
    let mut first = FirstProcess::Program;
    let (entrypoint, cmd) = match under_init {
        None => program(spec.command.as_ref())?,
        Some(UnderInit {
            volume,
            nonce,
            default,
        }) => {
            host.mounts = Some(vec![mount(volume)]);
            let (entrypoint, cmd) = match program(spec.command.as_ref())? {
                (None, None) => (Some(default), None),
                own => own,
            };
            let program: Vec<String> = [entrypoint, cmd].into_iter().flatten().flatten().collect();
            if program.is_empty() {
                let message = "neither the stage nor its image has a command to run";
                return Err(Error::new(ErrorKind::Start, message));
            }
            let init = [init::PATH, init::LATCH, init::START, nonce.as_str()];
            let init = init.map(str::to_owned).to_vec();
            first = FirstProcess::Init(nonce);
            (Some(init), Some(program))
        }
    };
    let environment = environment(spec);
    let words = [&entrypoint, &cmd].into_iter().flatten().flatten();
    arguments::check(
        words.map(String::as_str),
        environment.iter().map(String::as_str),
    )?;
    Ok(ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint,
        cmd,
        env: Some(environment),
        // An image's own command runs in the image's own directory.
        working_dir: spec.command.as_ref().map(|_| WORKSPACE.to_owned()),
        // Not the image's stop signal: see the init.
        stop_signal: Some("SIGTERM".to_owned()),
        labels: Some(labels::of(spec, &first)),
        attach_stdin: Some(false),
        open_stdin: Some(false),
        tty: Some(false),
        // An image's health check is for services; here it would only cost time.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    })
}

/// Entry point and command. The stage's command replaces the image's entry point, which would change the meaning
/// of a script.
type Program = (Option<Vec<String>>, Option<Vec<String>>);

fn program(command: Option<&RenderedCommand>) -> Result<Program, Error> {
    let items = match command {
        None => return Ok((None, None)),
        Some(RenderedCommand::Script(script)) => shell::program(script),
        Some(RenderedCommand::Exec(items)) => items.clone(),
    };
    match items.split_first() {
        Some((first, rest)) => Ok((Some(vec![first.clone()]), Some(rest.to_vec()))),
        None => Err(Error::new(ErrorKind::Start, "the stage's command is empty")),
    }
}

fn environment(spec: &AttemptSpec) -> Vec<String> {
    let mut all: BTreeMap<&str, &str> = BTreeMap::new();
    all.extend(
        spec.env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    all.extend(
        spec.secrets
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose_secret())),
    );
    all.extend([("INPUTS", INPUTS), ("OUTPUTS", OUTPUTS)]);
    all.iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// The limits of all that runs for a stage: its container, and the build of its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bounds {
    nano_cpus: Option<i64>,
    memory: Option<i64>,
    shm: Option<i64>,
    pids: Option<i64>,
    network: Option<String>,
}

impl Bounds {
    pub(super) fn of(limits: &Limits, network: Option<String>) -> Self {
        let bytes = |size: Option<u64>| size.map(|size| i64::try_from(size).unwrap_or(i64::MAX));
        Self {
            nano_cpus: limits.cpus.map(nano_cpus),
            memory: bytes(limits.memory),
            shm: bytes(limits.shm),
            pids: limits.pids.map(i64::from),
            network,
        }
    }

    /// The limits as a part of the query of a classic build. Docker's API has no parameters there for the number of
    /// processes, capabilities and new privileges: these keep Docker's defaults.
    pub(super) fn build_query(self) -> Vec<(&'static str, String)> {
        /// Docker's period of accounting, in microseconds.
        const PERIOD: i64 = 100_000;
        let quota = self.nano_cpus.map(|cpus| cpus / (1_000_000_000 / PERIOD));
        let numbers = [
            ("memory", self.memory),
            ("memswap", self.memory),
            ("shmsize", self.shm),
            ("cpuperiod", quota.map(|_| PERIOD)),
            ("cpuquota", quota.map(|quota| quota.max(1000))),
        ];
        let numbers = numbers
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?.to_string())));
        let network = self.network.map(|network| ("networkmode", network));
        std::iter::once(("version", "1".to_owned()))
            .chain(network)
            .chain(numbers)
            .collect()
    }
}

fn host(bounds: &Bounds, config: &DockerConfig) -> HostConfig {
    let bounds = bounds.clone();
    let capabilities = config.capabilities.names().iter();
    HostConfig {
        nano_cpus: bounds.nano_cpus,
        memory: bounds.memory,
        memory_swap: bounds.memory,
        shm_size: bounds.shm,
        pids_limit: bounds.pids,
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(capabilities.map(|name| (*name).to_owned()).collect()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        auto_remove: Some(false),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        init: Some(false),
        readonly_paths: Some(READ_ONLY.map(str::to_owned).to_vec()),
        network_mode: bounds.network,
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                (
                    "max-size".to_owned(),
                    (config.log_size / 2).max(1).to_string(),
                ),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    }
}

/// The mount of the init: read-only, so that no process in the container can change it.
fn mount(volume: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(init::FOLDER.to_owned()),
        read_only: Some(true),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

/// CPUs in Docker's unit, a billionth.
fn nano_cpus(cpus: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast from f64 saturates, and no host has that many CPUs"
    )]
    let nano = (cpus * 1e9).round() as i64;
    nano
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::spec;

    fn created(command: Option<RenderedCommand>) -> ContainerCreateBody {
        let mut spec = spec();
        spec.command = command;
        let config = DockerConfig::new(spec.instance);
        let under_init = UnderInit {
            volume: "init",
            nonce: Nonce::new([0; 32]),
            default: vec!["/serve".to_owned()],
        };
        container(&spec, &config, Some("stages".to_owned()), Some(under_init)).unwrap()
    }

    #[test]
    fn a_container_gets_what_its_spec_says_and_no_other_powers() {
        let created = created(Some(RenderedCommand::Script("echo hi".to_owned())));
        insta::assert_json_snapshot!(serde_json::to_value(created).unwrap());
    }

    #[test]
    fn a_command_replaces_the_entry_point_of_the_image() {
        let items = ["python", "train.py"].map(str::to_owned).to_vec();
        let exec = created(Some(RenderedCommand::Exec(items.clone())));
        let entrypoint = exec.entrypoint.unwrap();
        assert_eq!((&*entrypoint[0], exec.cmd), (init::PATH, Some(items)));
    }

    #[test]
    fn the_command_of_an_image_runs_in_the_working_directory_of_the_image() {
        let own = created(None);
        assert_eq!(own.cmd, Some(vec!["/serve".to_owned()]));
        assert_eq!(own.working_dir, None);
    }

    #[test]
    fn no_limit_is_no_limit() {
        let spec = spec();
        let bounds = Bounds::of(&Limits::default(), None);
        assert_eq!(bounds.clone().build_query(), [("version", "1".to_owned())]);
        let host = host(&bounds, &DockerConfig::new(spec.instance));
        assert_eq!(
            (
                host.memory,
                host.memory_swap,
                host.nano_cpus,
                host.pids_limit
            ),
            (None, None, None, None)
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(256))]

        #[test]
        fn class_15_whatever_a_stage_says_its_container_has_no_other_powers(
            text in "(\\PC|privileged|--privileged|/var/run/docker.sock:/x){0,8}",
            cpus in proptest::option::of(0.01..64.0),
            memory in proptest::option::of(0_u64..=u64::MAX),
            pids in proptest::option::of(1_u32..),
            exec in proptest::bool::ANY,
        ) {
            let mut spec = spec();
            spec.command = Some(if exec {
                RenderedCommand::Exec(vec![text.clone()])
            } else {
                RenderedCommand::Script(text.clone())
            });
            spec.env.insert("TEXT".to_owned(), text);
            spec.limits = Limits { cpus, memory, shm: memory, pids };
            let config = DockerConfig::new(spec.instance);
            let under_init = UnderInit { volume: "init", nonce: Nonce::new([0; 32]), default: Vec::new() };
            let network = Some("of-repo".to_owned());
            let body = container(&spec, &config, network, Some(under_init)).unwrap();
            let mut host = body.host_config.unwrap();
            // Values that differ between runs are removed; the rest is compared.
            host.nano_cpus = None;
            host.memory = None;
            host.memory_swap = None;
            host.shm_size = None;
            host.pids_limit = None;
            proptest::prop_assert_eq!(host, HostConfig {
                readonly_paths: Some(READ_ONLY.map(str::to_owned).to_vec()),
                cap_drop: Some(vec!["ALL".to_owned()]),
                cap_add: Some(
                    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]
                        .map(str::to_owned)
                        .to_vec(),
                ),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                privileged: Some(false),
                auto_remove: Some(false),
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::NO),
                    maximum_retry_count: None,
                }),
                init: Some(false),
                network_mode: Some("of-repo".to_owned()),
                mounts: Some(vec![mount("init")]),
                log_config: Some(HostConfigLogConfig {
                    typ: Some("json-file".to_owned()),
                    config: Some(HashMap::from([
                        ("max-size".to_owned(), (64 << 20).to_string()),
                        ("max-file".to_owned(), "2".to_owned()),
                    ])),
                }),
                ..HostConfig::default()
            });
        }
    }

    #[test]
    fn class_15_a_build_has_the_limits_of_its_stage() {
        let bounds = Bounds::of(&spec().limits, Some("stages".to_owned()));
        let query: Vec<String> = bounds
            .build_query()
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            query.join("&"),
            "version=1&networkmode=stages&memory=67108864&memswap=67108864&shmsize=16777216&cpuperiod=100000\
             &cpuquota=150000"
        );
    }

    #[test]
    fn secrets_are_in_the_environment_and_nowhere_else() {
        let mut body = created(None);
        let env = body.env.take().unwrap();
        assert!(env.contains(&"TOKEN=hush".to_owned()), "{env:?}");
        assert!(!serde_json::to_string(&body).unwrap().contains("hush"));
    }
}
