//! Runs a long-running container that the daemon itself needs, next to those of the attempts: today the
//! Postgres of `trainyard dev` on a machine without Postgres programs.
//!
//! It is found again by its name, outlives the daemon, and is started again after it was stopped: its
//! data is in its volume. It has none of the attempts' labels, so no sweep of attempts
//! finds it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState, HealthConfig, HealthStatusEnum,
    HostConfig, Mount, MountType, PortBinding,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::StreamExt;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use trainyard_core::image::ImageReference;
use trainyard_core::stage::PullPolicy;
use trainyard_failpoint::{AtPoint as _, Flow as _, Point};

use super::errors::{LONG, within};
use super::{Docker, Engine, status};
use crate::error::{Error, ErrorKind};

/// The label with the purpose of the container.
const COMPANION: &str = "io.trainyard.companion";

/// The address at which its port can be reached, on Docker's host only.
const LOOPBACK: &str = "127.0.0.1";

/// How long it may take until it is healthy, the first time with an empty volume.
const START: Duration = Duration::from_secs(120);

/// The time between two inspections.
const LOOK: Duration = Duration::from_millis(100);

/// How often Docker checks its health.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// How many lines of its log are shown where it does not start.
const LOG_LINES: &str = "20";

/// The description of the container.
#[derive(Clone)]
pub struct Companion {
    /// Its name, and that of its volume.
    pub name: String,
    /// Its purpose, for the label.
    pub purpose: String,
    /// The image to make it from; pulled where it is missing.
    pub image: String,
    /// Its environment. Any user of Docker can read it.
    pub env: Vec<(String, SecretString)>,
    /// Where its volume is mounted.
    pub mounted_at: String,
    /// The TCP port that it listens on.
    pub port: u16,
    /// A command in it that succeeds once it can be used.
    pub health: Vec<String>,
}

impl fmt::Debug for Companion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Companion")
            .field("name", &self.name)
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

impl Docker {
    /// Makes the container where there is none, starts it where it does not run, and waits until it
    /// can be used. Returns its port on the loopback address of Docker's host. `progress` takes
    /// lines for people.
    ///
    /// # Errors
    /// `ImageNotFound`, `ImagePull`; `Mismatch` where another program uses the name; `Start` where the container
    /// ends or is not healthy in time, with the end of its log; or a Docker error.
    pub async fn start_companion(
        &self,
        companion: &Companion,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<u16, Error> {
        let engine = &self.engine;
        match status::inspect(&engine.client, &companion.name).await? {
            None => engine.make_companion(companion, progress).await?,
            Some(found) => own(&found, companion)?,
        }
        // Starting a running container changes nothing.
        within(
            LONG,
            engine
                .client
                .start_container(&companion.name, None)
                .at(Point::StartCompanion),
        )
        .await
        .map_err(|call_error| call_error.into_error("start a container"))?;
        engine.usable_companion(companion).await
    }

    /// Stops a companion, if it exists and runs.
    ///
    /// # Errors
    /// A Docker error.
    pub async fn stop_companion(&self, name: &str, grace: Duration) -> Result<(), Error> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let stop = self
            .engine
            .client
            .stop_container(name, Some(options))
            .at(Point::StopCompanion);
        match within(grace + LONG, stop).await {
            Ok(()) => Ok(()),
            Err(call_error) if matches!(call_error.status(), Some(304 | 404)) => Ok(()),
            Err(call_error) => Err(call_error.into_error("stop a container")),
        }
    }
}

impl Engine {
    async fn make_companion(
        &self,
        companion: &Companion,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), Error> {
        let reference = ImageReference::parse(&companion.image)
            .map_err(|fault| Error::new(ErrorKind::ImageNotFound, fault.to_string()))?;
        let image = self
            .images
            .prepare(&self.config, &reference, PullPolicy::IfMissing, progress)
            .await?;
        let options = CreateContainerOptionsBuilder::default()
            .name(&companion.name)
            .build();
        let created = self
            .client
            .create_container(Some(options), body(companion, image.id))
            .at(Point::CreateCompanion);
        match within(LONG, created).await {
            Ok(_) => Ok(()),
            // Another process made one first; the next call checks its label.
            Err(call_error) if call_error.status() == Some(409) => Ok(()),
            Err(call_error) => Err(call_error.into_error("create a container")),
        }
    }

    /// Waits until it is healthy; returns its port.
    async fn usable_companion(&self, companion: &Companion) -> Result<u16, Error> {
        let deadline = Instant::now() + START;
        loop {
            let found = status::inspect(&self.client, &companion.name)
                .await?
                .ok_or_else(|| super::errors::gone(&companion.name))?;
            let state = found.state.clone().unwrap_or_default();
            if !state.running.unwrap_or_default() {
                return Err(self.not_up(companion, "ended").await);
            }
            if is_healthy(&state) {
                return port(&found, companion.port).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Engine,
                        format!("the container {} has no port", companion.name),
                    )
                });
            }
            if Instant::now() >= deadline {
                return Err(self.not_up(companion, "is not healthy").await);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn not_up(&self, companion: &Companion, what: &str) -> Error {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail(LOG_LINES)
            .build();
        let mut said = String::new();
        let mut log = std::pin::pin!(
            self.client
                .logs(&companion.name, Some(options))
                .at(Point::CompanionLogs)
        );
        while let Ok(Some(Ok(output))) = tokio::time::timeout(LONG, log.next()).await {
            said.push_str(&output.to_string());
        }
        Error::new(
            ErrorKind::Start,
            format!(
                "the container {} {what}; the end of its log:\n{}",
                companion.name,
                said.trim_end()
            ),
        )
    }
}

/// Whether a container of that name is the companion.
fn own(found: &ContainerInspectResponse, companion: &Companion) -> Result<(), Error> {
    let labels = found
        .config
        .as_ref()
        .and_then(|config| config.labels.as_ref());
    let purpose = labels.and_then(|labels| labels.get(COMPANION));
    if purpose == Some(&companion.purpose) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Mismatch,
        format!(
            "a container named {} exists that Trainyard did not create; it is left alone",
            companion.name
        ),
    ))
}

fn is_healthy(state: &ContainerState) -> bool {
    let health = state.health.as_ref().and_then(|health| health.status);
    health == Some(HealthStatusEnum::HEALTHY)
}

fn port(found: &ContainerInspectResponse, port: u16) -> Option<u16> {
    let ports = found.network_settings.as_ref()?.ports.as_ref()?;
    let bound = ports.get(&format!("{port}/tcp"))?.as_ref()?;
    bound.first()?.host_port.as_ref()?.parse().ok()
}

fn body(companion: &Companion, image: String) -> ContainerCreateBody {
    let exposed = format!("{}/tcp", companion.port);
    let env = companion
        .env
        .iter()
        .map(|(name, value)| format!("{name}={}", value.expose_secret()));
    let mut health = vec!["CMD".to_owned()];
    health.extend(companion.health.iter().cloned());
    ContainerCreateBody {
        image: Some(image),
        env: Some(env.collect()),
        labels: Some(HashMap::from([(
            COMPANION.to_owned(),
            companion.purpose.clone(),
        )])),
        exposed_ports: Some(vec![exposed.clone()]),
        healthcheck: Some(HealthConfig {
            test: Some(health),
            interval: i64::try_from(HEALTH_EVERY.as_nanos()).ok(),
            retries: Some(i64::from(i32::MAX)),
            ..HealthConfig::default()
        }),
        host_config: Some(HostConfig {
            mounts: Some(vec![Mount {
                typ: Some(MountType::VOLUME),
                source: Some(companion.name.clone()),
                target: Some(companion.mounted_at.clone()),
                ..Mount::default()
            }]),
            port_bindings: Some(HashMap::from([(
                exposed,
                Some(vec![PortBinding {
                    host_ip: Some(LOOPBACK.to_owned()),
                    host_port: Some(String::new()),
                }]),
            )])),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}
