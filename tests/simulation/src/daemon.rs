//! A simulated daemon: the orchestrator's own loops over a simulated store and a simulated Docker.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trainyard_core::id::InstanceId;
use trainyard_executor::{Ceilings, Limits};
use trainyard_orchestrator::attempt::layers::Layers;
use trainyard_orchestrator::attempt::supervisor::Surroundings;
use trainyard_orchestrator::health::leadership::Leadership;
use trainyard_orchestrator::health::space::Floor;
use trainyard_orchestrator::loops::attempt_loops::AttemptLoops;
use trainyard_orchestrator::loops::{LoopOptions, keeper};
use trainyard_store::{ClaimCapacity, Retention};
use uuid::Uuid;

use crate::docker::Docker;
use crate::records::SimulatedRecords;
use crate::store::SLOTS;

/// How long a daemon's claims hold without being renewed.
pub(crate) const LEASE: Duration = keeper::TICK.saturating_mul(3);

/// How long a program has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// Registers a daemon in its process, and starts its loops.
pub(crate) async fn begin(
    records: SimulatedRecords,
    docker: Docker,
    host: usize,
    scratch: PathBuf,
) {
    let (daemon, leased_at) = loop {
        let asked = Instant::now();
        match records.register(host, LEASE).await {
            Ok(daemon) => break (daemon, asked),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    };
    let process = Arc::clone(records.process());
    records
        .world()
        .note(|| format!("{} is daemon {}", process.name, daemon.0.as_u128()));
    let options = LoopOptions {
        instance: InstanceId(Uuid::from_u128(1)),
        daemon,
        surroundings: Surroundings {
            executor: docker,
            limits: Limits::default(),
            ceilings: Ceilings::default(),
            grace: GRACE,
            output_limit: 1 << 20,
            layers: Layers::new(0),
            scratch: scratch.clone(),
        },
        engine_id: None,
        capacity: ClaimCapacity {
            slots_total: SLOTS,
            pools_total: crate::dags::pools(),
            stages_of_a_repo: None,
        },
        lease: LEASE,
        leased_at,
        sources: scratch,
        retention: Retention::default(),
        artifacts_of_a_run: u64::MAX,
        places: Vec::new(),
        floor: Floor::Usual,
    };
    let loops = AttemptLoops::new(
        records,
        options,
        Leadership::new(),
        CancellationToken::new(),
    );
    loops.run(|_, work| {
        let this = Arc::clone(&process);
        process.spawn(async move {
            work.await;
            // A daemon ends with any of its loops: here because another one has taken its place.
            this.kill();
        });
    });
}
