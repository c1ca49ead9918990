//! Topics: what viewers follow. A topic exists while it is followed, so a change without followers costs one lookup in
//! a map, and a follower of one run is not woken by the others.
//!
//! As with [wakes](crate::db::wakes), a change carries no data and may be lost between processes: a follower reads the
//! database, and reads it again every [`READ_AGAIN`] without a change.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use trainyard_core::id::{AttemptId, RunId};

use crate::db::wakes::Outbox;

/// How long a follower waits for a change before it reads the database again.
pub(crate) const READ_AGAIN: Duration = Duration::from_secs(5);

/// Something that viewers follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The states and the events of a run.
    Run(RunId),
    /// The log of an attempt.
    Log(AttemptId),
}

impl fmt::Display for Topic {
    /// The name that is sent between processes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run) => write!(f, "run:{run}"),
            Self::Log(attempt) => write!(f, "log:{attempt}"),
        }
    }
}

impl FromStr for Topic {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let (kind, id) = word.split_once(':').ok_or(())?;
        match kind {
            "run" => id.parse().map(|id| Self::Run(RunId(id))).map_err(drop),
            "log" => id.parse().map(|id| Self::Log(AttemptId(id))).map_err(drop),
            _ => Err(()),
        }
    }
}

/// The topics that are followed in this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Topics {
    followed: Arc<Mutex<HashMap<Topic, watch::Sender<()>>>>,
    outbox: Arc<Outbox>,
}

impl Topics {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Self {
        Self {
            followed: Arc::default(),
            outbox,
        }
    }

    /// Follows a topic from now on. A change between two waits is kept until the next wait, so follow first, then read
    /// the database, then wait.
    #[must_use]
    pub fn follow(&self, topic: Topic) -> Follower {
        let mut followed = self.lock();
        // Two followers that end at the same moment leave their topic to the next one.
        followed.retain(|_, sender| sender.receiver_count() > 0);
        let sender = followed
            .entry(topic)
            .or_insert_with(|| watch::Sender::new(()));
        Follower {
            changes: sender.subscribe(),
            topic,
            topics: self.clone(),
        }
    }

    /// Wakes the followers of a topic, here and in other processes.
    pub(crate) fn changed(&self, topic: Topic) {
        self.changed_here(topic);
        self.outbox.add_topic(topic);
    }

    /// Wakes the followers of a topic in this process.
    pub(crate) fn changed_here(&self, topic: Topic) {
        if let Some(sender) = self.lock().get(&topic) {
            sender.send_replace(());
        }
    }

    /// Wakes all followers in this process: changes may have been lost.
    pub(crate) fn all_changed_here(&self) {
        for sender in self.lock().values() {
            sender.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, watch::Sender<()>>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows a [`Topic`] until it is dropped.
#[derive(Debug)]
pub struct Follower {
    changes: watch::Receiver<()>,
    topic: Topic,
    topics: Topics,
}

impl Follower {
    /// Waits for a change since the last wait. Returns `false` where none came for a while: one may have been lost, so
    /// it is time to read again. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> bool {
        // The sender is in the map for as long as this follower exists.
        let changed = tokio::time::timeout(READ_AGAIN, self.changes.changed());
        changed.await.is_ok()
    }

    /// Whether a change came since the last wait.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.changes.has_changed().unwrap_or(false)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut followed = self.topics.lock();
        if let Some(sender) = followed.get(&self.topic)
            && sender.receiver_count() == 1
        {
            followed.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Topic = Topic::Run(RunId(7));

    fn topics() -> Topics {
        Topics::new(Arc::default())
    }

    #[test]
    fn a_change_wakes_the_followers_of_its_topic_and_no_others() {
        let topics = topics();
        let (one, two) = (topics.follow(RUN), topics.follow(RUN));
        let other = topics.follow(Topic::Run(RunId(8)));
        topics.changed(RUN);
        assert!(one.has_changed() && two.has_changed() && !other.has_changed());
        topics.all_changed_here();
        assert!(other.has_changed());
    }

    #[test]
    fn a_topic_exists_while_it_is_followed() {
        let topics = topics();
        topics.changed(RUN);
        assert!(topics.lock().is_empty());
        let (one, two) = (topics.follow(RUN), topics.follow(RUN));
        drop(one);
        topics.changed(RUN);
        assert!(two.has_changed());
        drop(two);
        assert!(topics.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_change_is_found_by_reading_again() {
        let mut follower = topics().follow(RUN);
        let begun = tokio::time::Instant::now();
        assert!(!follower.changed().await);
        assert_eq!(begun.elapsed(), READ_AGAIN);
    }

    #[test]
    fn a_topic_is_read_as_it_was_sent() {
        let log = Topic::Log(AttemptId(uuid::Uuid::from_u128(3)));
        for topic in [RUN, log] {
            assert_eq!(topic.to_string().parse(), Ok(topic));
        }
        assert_eq!("model:7".parse::<Topic>(), Err(()));
    }
}
