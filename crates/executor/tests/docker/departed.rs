//! An attempt whose container was removed gets no second one, even if the database asks for it.

use trainyard_executor::conformance::{Candidate, check};
use trainyard_executor::{Containers, ErrorKind};

use crate::place::{RealDocker, script};

#[tokio::test]
async fn an_attempt_that_ran_and_was_removed_is_not_created_again() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let spec = kit.spec_of(script("true"));
        let (handle, code) = kit.run(&executor, &spec).await;
        assert_eq!(code, 0);
        executor.remove(&handle).await.unwrap();
        let refused = executor.create(&spec).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Gone, "{refused}");
        let listed = executor.list().await.unwrap();
        assert!(
            listed
                .iter()
                .all(|seen| seen.handle.attempt != spec.attempt)
        );
        kit
    })
    .await;
}
