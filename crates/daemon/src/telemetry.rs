//! Telemetry: log lines on standard error, and metrics at `/metrics`.
//!
//! Rules for log lines:
//! 1. The message alone says what happened.
//! 2. Data for programs is in fields, with units in their names.
//! 3. A failure is logged once, where it is handled.
//! 4. No log line contains the value of a secret, at any level.
//!
//! Libraries do not follow these rules: the Docker client logs the body of each request at `debug`, and with it the
//! environment of stages. So their events stop at `info`, whatever the filter says.

use std::io::{IsTerminal, stderr};
use std::panic::PanicHookInfo;

use metrics_exporter_prometheus::PrometheusBuilder;
use thiserror::Error;
use tracing::{Level, Metadata, error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use trainyard_store::fleet;
use trainyard_web::Render;

use crate::config::{Log, LogFormat};

/// Logging cannot be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter is invalid; [`crate::Config`] contains only valid ones.
    #[error("invalid log level {level:?}")]
    Filter {
        level: String,
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was set up before.
    #[error("logging is set up already")]
    Again(#[source] TryInitError),
    /// A recorder of metrics is installed already.
    #[error("metrics are recorded already")]
    Recorded,
}

/// Sends log lines to standard error, and panics into the log. Colours only on a terminal, and not
/// where `NO_COLOR` is set. Below `info`, only events of our own crates are logged.
///
/// # Errors
/// The filter is invalid, or logging was set up before.
pub fn install(log: &Log) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&log.level).map_err(|source| TelemetryError::Filter {
        level: log.level.clone(),
        source,
    })?;
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(is_trusted));
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    match log.format {
        LogFormat::Text => {
            let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry
                .with(lines.with_ansi(colours).with_target(false))
                .try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(TelemetryError::Again)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Whether an event cannot contain secrets: it is ours, or at `info` or above.
fn is_trusted(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let crate_name = target.split("::").next().unwrap_or(target);
    *metadata.level() <= Level::INFO
        || crate_name == "trainyard"
        || crate_name.starts_with("trainyard_")
}

/// Installs the recorder of metrics. Returns its renderer.
///
/// # Errors
/// A recorder is installed already.
pub fn record_metrics() -> Result<Render, TelemetryError> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Recorded)?;
    fleet::metrics::begin();
    Ok(Render::new(move || handle.render()))
}

/// Logs a panic as one event like others, since programs that read the log expect no other lines.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let thread = std::thread::current();
    error!(
        panic.place = place,
        panic.thread = thread.name().unwrap_or("unnamed"),
        panic.backtrace = %std::backtrace::Backtrace::capture(),
        "panicked: {message}; this is a bug in Trainyard"
    );
}
