//! Wakes: hints, without data, that a loop may have something to do.
//!
//! A wake is never the truth. A loop that is woken reads the database, and it also polls the database
//! from time to time without a wake. Within one process a wake takes microseconds; other processes
//! receive it through [`crate::db::notify`]. Viewers follow [topics](crate::db::topics) instead.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::db::topics::{Topic, Topics};

/// How many topics are sent to other processes at a time. Where more have changed, all followers there are woken.
const TOPICS_AT_MOST: usize = 512;

macro_rules! concerns {
    ($($(#[$doc:meta])* $variant:ident = $field:ident,)*) => {
        /// The subject of a wake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Concern {
            $($(#[$doc])* $variant,)*
        }

        impl Concern {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name that is sent between processes.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($field),)* }
            }
        }

        /// One [`Wake`] for each concern.
        #[derive(Debug, Clone)]
        pub struct Wakes {
            $($(#[$doc])* pub $field: Wake,)*
            /// What viewers follow.
            pub topics: Topics,
            /// Wakes that are still to be sent to other processes.
            pub(crate) outbox: Arc<Outbox>,
        }

        impl Default for Wakes {
            fn default() -> Self {
                let outbox = Arc::new(Outbox::default());
                Self {
                    $($field: Wake::new(Concern::$variant, Arc::clone(&outbox)),)*
                    topics: Topics::new(Arc::clone(&outbox)),
                    outbox,
                }
            }
        }

        impl Wakes {
            #[must_use]
            pub fn of(&self, concern: Concern) -> &Wake {
                match concern { $(Concern::$variant => &self.$field,)* }
            }
        }
    };
}

concerns! {
    /// Attempts may have become claimable.
    Dispatch = dispatch,
    /// Runs may have to be planned, or planned earlier than expected.
    Plan = plan,
    /// Attempts were asked to stop.
    Supervise = supervise,
    /// Schedules changed.
    Schedule = schedule,
    /// A repo is due for a fetch.
    Sync = sync,
    /// A sync has ended.
    Synced = synced,
    /// A user asked to delete now what retention does not keep.
    Prune = prune,
}

/// The wake of one concern.
#[derive(Debug, Clone)]
pub struct Wake {
    concern: Concern,
    here: watch::Sender<()>,
    outbox: Arc<Outbox>,
}

impl Wake {
    fn new(concern: Concern, outbox: Arc<Outbox>) -> Self {
        Self {
            concern,
            here: watch::Sender::new(()),
            outbox,
        }
    }

    /// Wakes every listener, here and in other processes.
    pub fn wake(&self) {
        self.wake_here();
        self.wake_others();
    }

    /// Wakes the listeners in other processes.
    pub(crate) fn wake_others(&self) {
        self.outbox.add(self.concern);
    }

    /// Wakes the listeners in this process.
    pub(crate) fn wake_here(&self) {
        self.here.send_replace(());
    }

    /// Listens from now on. A wake that comes between two waits is kept until the next wait, so subscribe first, then
    /// read the database, then wait.
    #[must_use]
    pub fn subscribe(&self) -> Woken {
        Woken {
            wake: self.here.subscribe(),
        }
    }
}

/// A listener of a [`Wake`].
#[derive(Debug)]
pub struct Woken {
    wake: watch::Receiver<()>,
}

impl Woken {
    /// Waits for a wake since the last wait. Never ends once the store is gone. Dropping the future loses nothing.
    pub async fn woken(&mut self) {
        if self.wake.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Wakes and changes that wait to be sent to other processes; many of one concern or topic are sent as one.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    unsent: Mutex<Unsent>,
    pub(crate) filled: Notify,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unsent {
    pub(crate) concerns: BTreeSet<Concern>,
    pub(crate) topics: HashSet<Topic>,
    /// Whether more topics have changed than these.
    pub(crate) and_more: bool,
}

impl Outbox {
    fn add(&self, concern: Concern) {
        if self.lock().concerns.insert(concern) {
            self.filled.notify_one();
        }
    }

    pub(crate) fn add_topic(&self, topic: Topic) {
        let mut unsent = self.lock();
        if unsent.topics.len() == TOPICS_AT_MOST {
            unsent.and_more = true;
        } else if unsent.topics.insert(topic) {
            self.filled.notify_one();
        }
    }

    /// Takes all that waits.
    pub(crate) fn take(&self) -> Unsent {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use trainyard_core::id::RunId;

    use super::*;

    #[tokio::test]
    async fn a_wake_between_two_waits_is_not_lost() {
        let wakes = Wakes::default();
        let mut woken = wakes.plan.subscribe();
        wakes.plan.wake();
        wakes.plan.wake();
        woken.woken().await;
        assert_eq!(
            wakes.outbox.take().concerns,
            BTreeSet::from([Concern::Plan])
        );
        assert_eq!(wakes.outbox.take(), Unsent::default());
    }

    #[test]
    fn the_changes_that_wait_to_be_sent_have_a_bound() {
        let wakes = Wakes::default();
        for run in 0..TOPICS_AT_MOST as i64 {
            wakes.topics.changed(Topic::Run(RunId(run)));
        }
        wakes.topics.changed(Topic::Run(RunId(-1)));
        let unsent = wakes.outbox.take();
        assert_eq!(
            (unsent.topics.len(), unsent.and_more),
            (TOPICS_AT_MOST, true)
        );
    }
}
