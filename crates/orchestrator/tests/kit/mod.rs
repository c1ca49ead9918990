//! The common setup of the supervisor's tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::id::{AttemptId, Fence, InstanceId, RunId};
use trainyard_core::name::DagName;
use trainyard_core::run::{AttemptRef, Run, RunFacts};
use trainyard_core::stage::StageIndex;
use trainyard_executor::fake::Fake;
use trainyard_executor::{Ceilings, Limits};
use trainyard_orchestrator::attempt::assignment::Assignment;
use trainyard_orchestrator::attempt::layers::Layers;
use trainyard_orchestrator::attempt::supervisor::Surroundings;
use uuid::Uuid;

/// The first attempt of the one stage of a file.
pub(crate) fn assignment(text: &str) -> Assignment {
    let dag = Arc::new(trainyard_dagfile::parse("dag.yaml", text).dag.unwrap());
    let facts = RunFacts {
        id: RunId(1),
        repo: None,
        dag: DagName::new("dag").unwrap(),
        cause: "manual".to_owned(),
        commit: String::new(),
        branch: None,
        logical_time: Timestamp::UNIX_EPOCH,
        params: BTreeMap::new(),
    };
    Assignment {
        instance: InstanceId(Uuid::nil()),
        repo: None,
        attempt: AttemptId(Uuid::nil()),
        fence: Fence(1),
        reference: AttemptRef {
            stage: StageIndex(0),
            number: 1,
        },
        run: Arc::new(Run::new(&dag, facts)),
        dag,
        adopted: None,
    }
}

/// A scripted executor.
pub(crate) fn surroundings() -> Surroundings<Fake> {
    Surroundings {
        executor: Fake::new(),
        limits: Limits::default(),
        ceilings: Ceilings::default(),
        grace: Duration::from_secs(10),
        output_limit: 1 << 20,
        layers: Layers::new(0),
        scratch: std::env::temp_dir(),
    }
}
