//! Bounds how much the outputs of a run may take, all stages together, and tracks how much each attempt has taken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;
use trainyard_core::id::RunId;
use trainyard_core::measure::in_units;

/// The bounds of one attempt, and what it has taken of them.
#[derive(Debug)]
pub struct Allowance {
    bounds: Vec<Bound>,
    taken: u64,
}

/// One bound on the outputs of an attempt.
#[derive(Debug)]
struct Bound {
    /// The bounded thing, in words: `the outputs of one run`.
    what: &'static str,
    /// Its key in the configuration.
    key: &'static str,
    limit: u64,
    used: Arc<Used>,
}

/// The use of a bound: the bytes recorded at the last read, and those taken since.
#[derive(Debug, Default)]
struct Used {
    recorded: OnceCell<u64>,
    taken: AtomicU64,
}

impl Used {
    fn bytes(&self) -> u64 {
        let recorded = self.recorded.get().copied().unwrap_or_default();
        recorded.saturating_add(self.taken.load(Ordering::Relaxed))
    }
}

impl Allowance {
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            bounds: Vec::new(),
            taken: 0,
        }
    }

    /// How many more bytes may be taken now.
    #[must_use]
    pub fn left(&self) -> u64 {
        let left = |bound: &Bound| bound.limit.saturating_sub(bound.used.bytes());
        self.bounds.iter().map(left).min().unwrap_or(u64::MAX)
    }

    /// Takes some bytes. Concurrent attempts may leave too little.
    ///
    /// # Errors
    /// The bound that is exceeded, in words. Then nothing is taken.
    pub fn take(&mut self, bytes: u64) -> Result<(), String> {
        for bound in &self.bounds {
            bound.used.taken.fetch_add(bytes, Ordering::Relaxed);
        }
        self.taken = self.taken.saturating_add(bytes);
        let broken = |bound: &&Bound| bound.used.bytes() > bound.limit;
        let Some(broken) = self.bounds.iter().find(broken).map(Bound::words) else {
            return Ok(());
        };
        for bound in &self.bounds {
            bound.used.taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.taken -= bytes;
        Err(broken)
    }

    /// The bound that leaves the least, in words.
    #[must_use]
    pub fn words(&self) -> String {
        let left = |bound: &&Bound| bound.limit.saturating_sub(bound.used.bytes());
        self.bounds
            .iter()
            .min_by_key(left)
            .map(Bound::words)
            .unwrap_or_default()
    }

    /// Marks the taken bytes as recorded: they stay taken.
    pub fn recorded(mut self) {
        self.taken = 0;
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        for bound in &self.bounds {
            bound.used.taken.fetch_sub(self.taken, Ordering::Relaxed);
        }
    }
}

impl Bound {
    fn words(&self) -> String {
        let Self { what, key, .. } = self;
        format!(
            "{what} may take {} together ({key}), and {} are taken",
            in_units(self.limit),
            in_units(self.used.bytes())
        )
    }
}

/// The bounds of the runs that have attempts in progress.
#[derive(Debug)]
pub struct Allowances {
    of_a_run: u64,
    runs: Mutex<HashMap<RunId, Weak<Used>>>,
}

impl Allowances {
    /// `of_a_run` bytes for all outputs of a run.
    #[must_use]
    pub fn new(of_a_run: u64) -> Self {
        Self {
            of_a_run,
            runs: Mutex::default(),
        }
    }

    /// The allowance of an attempt of this run, of which `recorded` returns the bytes that are kept already. It
    /// is called once while any of the run's attempts is in progress: from then on, the bytes that attempts
    /// take are counted.
    ///
    /// # Errors
    /// The kept bytes cannot be read.
    pub async fn of<E>(
        &self,
        run: RunId,
        recorded: impl Future<Output = Result<u64, E>>,
    ) -> Result<Allowance, E> {
        let used = {
            let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            runs.retain(|_, used| used.strong_count() > 0);
            let known = runs.get(&run).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let used = Arc::default();
                runs.insert(run, Arc::downgrade(&used));
                used
            })
        };
        used.recorded.get_or_try_init(|| recorded).await?;
        Ok(Allowance {
            bounds: vec![Bound {
                what: "the outputs of one run",
                key: "limits.artifacts_of_a_run",
                limit: self.of_a_run,
                used,
            }],
            taken: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(1);

    async fn allowance(all: &Allowances, recorded: u64) -> Allowance {
        let allowance = all.of(RUN, async { Ok::<_, ()>(recorded) });
        allowance.await.unwrap()
    }

    #[tokio::test]
    async fn what_stages_of_a_run_take_side_by_side_counts_for_each() {
        let all = Allowances::new(100);
        let mut one = allowance(&all, 50).await;
        let mut other = allowance(&all, 50).await;
        one.take(30).unwrap();
        assert_eq!(other.left(), 20);
        let refused = other.take(21).unwrap_err();
        assert!(refused.contains("limits.artifacts_of_a_run"), "{refused}");
        other.take(20).unwrap();
        assert_eq!(one.left(), 0);
    }

    #[tokio::test]
    async fn what_was_not_recorded_is_given_back_and_what_was_is_not() {
        let all = Allowances::new(100);
        let stays = allowance(&all, 0).await;
        let mut failed = allowance(&all, 0).await;
        failed.take(60).unwrap();
        drop(failed);
        assert_eq!(stays.left(), 100);
        let mut kept = allowance(&all, 0).await;
        kept.take(60).unwrap();
        kept.recorded();
        assert_eq!(stays.left(), 40);
    }

    #[tokio::test]
    async fn once_a_run_has_no_attempts_its_recorded_use_is_read_again() {
        let all = Allowances::new(100);
        drop(allowance(&all, 90).await);
        assert_eq!(allowance(&all, 10).await.left(), 90);
    }
}
