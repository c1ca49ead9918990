//! The tasks that the loops spawn: supervisors, and removals of containers.
//!
//! A daemon spawns them as they are. A simulation wraps them, so that all tasks of one simulated daemon stop, go on and
//! end together.

use std::sync::Arc;

use futures_util::future::BoxFuture;

tokio::task_local! {
    static WRAP: Wrap;
}

/// Wraps every task of a daemon. Cheap to clone.
#[derive(Clone)]
pub struct Wrap(Arc<dyn Fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync>);

impl Wrap {
    pub fn new(
        wrap: impl Fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(wrap))
    }

    /// Wraps a task, and every task that it spawns.
    pub fn task(&self, work: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
        (self.0)(Box::pin(WRAP.scope(self.clone(), work)))
    }
}

impl std::fmt::Debug for Wrap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wrap")
    }
}

/// The task to spawn for `work`.
pub(crate) fn task(work: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
    match WRAP.try_with(Wrap::clone) {
        Ok(wrap) => wrap.task(work),
        Err(_) => Box::pin(work),
    }
}
