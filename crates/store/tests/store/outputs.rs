//! Outputs that attempts leave.

use std::time::Duration;

use trainyard_core::artifact::{ArtifactContent, ArtifactKind, KeptOutput};
use trainyard_core::retry::Retry;
use trainyard_core::stage::{DeclaredOutput, Keep, RelativePath};
use trainyard_store::ClaimCapacity;

use crate::kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn class_12_outputs_that_a_later_attempt_replaces_count_until_they_are_swept() {
    let place = Place::new().await;
    let mut make = stage("make", &[]);
    let always = DeclaredOutput {
        path: RelativePath::new("m").unwrap(),
        keep: Keep::Always,
    };
    make.program_mut()
        .outputs
        .insert("model".parse().unwrap(), always);
    make.program_mut().retry = Retry {
        attempts: 4,
        backoff: Duration::ZERO,
        ..Retry::default()
    };
    let run = place.start(place.dag(&dag("a", vec![make])).await).await;
    // The third has the same content as the second, which is on the disk once.
    for (byte, size, kept) in [
        ("aa", 10, 10),
        ("bb", 20, 30),
        ("bb", 20, 30),
        ("cc", 5, 35),
    ] {
        place.store.plan(run).await.unwrap();
        let claim = place.claim_one().await;
        let mut end = finished(&claim, bad());
        end.artifacts = vec![KeptOutput {
            name: "model".parse().unwrap(),
            content: ArtifactContent {
                kind: ArtifactKind::File,
                sha256: byte.repeat(32),
                size,
            },
        }];
        place.store.finish_attempt(end, None).await.unwrap();
        assert_eq!(place.store.kept_by_run(run).await.unwrap(), kept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_a_stage_are_those_of_its_last_attempt() {
    let place = Place::new().await;
    let mut train = stage("train", &[]);
    train.program_mut().retry = Retry {
        attempts: 3,
        backoff: Duration::ZERO,
        ..Retry::default()
    };
    let run = place.start(place.dag(&dag("a", vec![train])).await).await;
    for (name, result) in [("early", bad()), ("late", bad())] {
        place.store.plan(run).await.unwrap();
        let claim = place.claim_one().await;
        let mut end = result;
        end.metrics.insert(name.parse().unwrap(), 1.0);
        finish(&place.store, &claim, end).await.unwrap();
    }
    place.store.plan(run).await.unwrap();
    let _running = place.claim_one().await;
    // Another daemon reads the run from its rows.
    let detail = place
        .another()
        .await
        .run_detail(run, &ClaimCapacity::default())
        .await
        .unwrap();
    let names: Vec<&String> = detail.stages[0].metrics.keys().collect();
    assert_eq!(names, ["late"]);
    assert_eq!(place.count("select count(*) from metric").await, 2);
}
