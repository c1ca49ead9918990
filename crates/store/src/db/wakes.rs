//! Wakes: hints, without data, that a loop may have something to do.
//!
//! A wake is never the truth. A loop that is woken reads the database, and it also polls the database
//! from time to time without a wake. Within one process a wake takes microseconds; other processes
//! receive it through [`crate::db::notify`].

use std::sync::Arc;

use tokio::sync::{Notify, watch};

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
            /// Concerns that are still to be sent to other processes.
            pub(crate) outbox: Arc<Outbox>,
        }

        impl Default for Wakes {
            fn default() -> Self {
                let outbox = Arc::new(Outbox::default());
                Self {
                    $($field: Wake::new(Concern::$variant, Arc::clone(&outbox)),)*
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
    /// Logs grew.
    Logs = logs,
    /// Runs changed; viewers follow this.
    Runs = runs,
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

/// Concerns that wait to be sent to other processes; many wakes of one concern are sent as one.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: std::sync::atomic::AtomicU32,
    pub(crate) filled: Notify,
}

impl Outbox {
    fn add(&self, concern: Concern) {
        use std::sync::atomic::Ordering::Relaxed;
        let bit = 1 << concern as u32;
        if self.waiting.fetch_or(bit, Relaxed) & bit == 0 {
            self.filled.notify_one();
        }
    }

    /// Takes all waiting concerns.
    pub(crate) fn take(&self) -> Vec<Concern> {
        let waiting = self.waiting.swap(0, std::sync::atomic::Ordering::Relaxed);
        Concern::ALL
            .iter()
            .copied()
            .filter(|concern| waiting & (1 << *concern as u32) != 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_between_two_waits_is_not_lost() {
        let wakes = Wakes::default();
        let mut woken = wakes.plan.subscribe();
        wakes.plan.wake();
        wakes.plan.wake();
        woken.woken().await;
        assert_eq!(wakes.outbox.take(), [Concern::Plan]);
        assert_eq!(wakes.outbox.take(), []);
    }
}
