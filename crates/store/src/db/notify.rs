//! Wakes between processes, over Postgres' NOTIFY.
//!
//! NOTIFY takes a database-wide lock at commit, so it is never part of a transaction that does work: one task sends
//! all gathered wakes, at most ten times a second, and only while another daemon lives. Polling finds everything that
//! a lost wake would have announced.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use trainyard_core::backoff::Backoff;
use trainyard_failpoint::{AtPoint as _, Point};

use sqlx::postgres::{PgListener, PgPoolOptions};
use uuid::Uuid;

use crate::db::report_pace::ReportPace;
use crate::db::wakes::{Concern, Unsent};
use crate::fleet::metrics::LISTENING;
use crate::store::Store;

const CHANNEL: &str = "trainyard";

/// Wakes the followers of all topics.
const ALL_TOPICS: &str = "topics";

/// How many words a notification has: it must stay below 8,000 bytes, and the longest word has 40.
const WORDS_EACH: usize = 150;

/// The shortest time between two notifications.
const BREATH: Duration = Duration::from_millis(100);

/// The first wait before listening again after the connection was lost.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// After how long without a notification the connection is tested: a connection whose other end fell silent would
/// otherwise be listened to for ever.
const QUIET: Duration = Duration::from_secs(15);

/// How long that test, and each step to a new connection, may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long notifications may fail, in either direction, before that is reported. Nothing is lost meanwhile, it only
/// takes longer; and a restart of the database is not worth a report.
const PATIENCE: Duration = Duration::from_secs(10);

impl Store {
    /// Sends wakes to other processes and receives theirs, until `shutdown` ends. Recovers by itself: after a lost
    /// connection every listener is woken, since the missed wakes are not known.
    pub async fn listen(&self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.send() => {}
            () = self.hear() => {}
        }
    }

    async fn send(&self) {
        let outbox = &self.core.wakes.outbox;
        let mut complaint = ReportPace::new(PATIENCE);
        loop {
            outbox.filled.notified().await;
            tokio::time::sleep(BREATH).await;
            let unsent = outbox.take();
            if !self.core.others_live.load(Ordering::Relaxed) {
                continue;
            }
            let payloads = payloads(self.core.process, &unsent);
            let sent = sqlx::query!(
                "select pg_notify($1, payload) from unnest($2::text[]) payload",
                CHANNEL,
                &payloads
            )
            .execute(&self.core.relaxed)
            .at(Point::Notify)
            .await;
            let now = Instant::now();
            match sent {
                Ok(_) => {
                    if let Some(lasted) = complaint.succeeded(now) {
                        let lasted_s = lasted.as_secs();
                        tracing::info!(lasted_s, "notifying the other daemons works again");
                    }
                }
                Err(error) => match complaint.failed(now) {
                    Some(lasted) => {
                        let lasting_s = lasted.as_secs();
                        tracing::warn!(%error, lasting_s, "could not notify the other daemons; they find changes by polling, some seconds later");
                    }
                    None => {
                        tracing::debug!(%error, "could not notify the other daemons; they poll")
                    }
                },
            }
        }
    }

    async fn hear(&self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, self.core.process);
        let mut complaint = ReportPace::new(PATIENCE);
        loop {
            let error = match self.hear_until_lost(&mut complaint).await {
                Ok(()) => {
                    backoff.reset();
                    "the connection was closed".to_owned()
                }
                Err(error) => error.to_string(),
            };
            match complaint.failed(Instant::now()) {
                Some(lasted) => {
                    let lasting_s = lasted.as_secs();
                    tracing::warn!(
                        error,
                        lasting_s,
                        "could not listen to the other daemons; their changes are found by polling, some seconds later"
                    );
                }
                None => tracing::debug!(
                    error,
                    "could not listen to the other daemons; polling goes on"
                ),
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn hear_until_lost(&self, complaint: &mut ReportPace) -> Result<(), sqlx::Error> {
        // A pool of its own: a connection that hangs while it is closed takes no place in the other pools.
        let options = self.core.relaxed.connect_options();
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy_with((*options).clone());
        let mut listener = in_time(PgListener::connect_with(&pool)).await?;
        // With eager reconnects, a lost connection would be reported only once there is another.
        listener.eager_reconnect(false);
        in_time(listener.listen(CHANNEL)).await?;
        let _listening = LISTENING.while_held();
        if let Some(lasted) = complaint.succeeded(Instant::now()) {
            let lasted_s = lasted.as_secs();
            tracing::info!(lasted_s, "listening to other daemons again");
        }
        self.wake_all();
        loop {
            let heard = match tokio::time::timeout(QUIET, listener.try_recv()).await {
                Ok(heard) => heard?,
                Err(_) => {
                    in_time(sqlx::query!("select 1 as one").fetch_one(&mut listener)).await?;
                    continue;
                }
            };
            let Some(notification) = heard else {
                return Ok(());
            };
            let mut words = notification.payload().split(' ');
            if words.next() == Some(self.core.process.to_string().as_str()) {
                continue;
            }
            for word in words {
                self.wake_for(word);
            }
        }
    }

    /// Wakes by a word of another process. Words of newer versions are passed by.
    fn wake_for(&self, word: &str) {
        let wakes = &self.core.wakes;
        if let Some(concern) = Concern::ALL.iter().find(|concern| concern.as_str() == word) {
            wakes.of(*concern).wake_here();
        } else if let Ok(topic) = word.parse() {
            wakes.topics.changed_here(topic);
        } else if word == ALL_TOPICS {
            wakes.topics.all_changed_here();
        }
    }

    fn wake_all(&self) {
        for concern in Concern::ALL {
            self.core.wakes.of(*concern).wake_here();
        }
        self.core.wakes.topics.all_changed_here();
    }
}

/// The notifications for all that is unsent: Postgres limits the length of one.
fn payloads(process: Uuid, unsent: &Unsent) -> Vec<String> {
    let concerns = unsent
        .concerns
        .iter()
        .map(|concern| concern.as_str().to_owned());
    let topics = unsent.topics.iter().map(ToString::to_string);
    let more = unsent.and_more.then(|| ALL_TOPICS.to_owned());
    let words: Vec<String> = concerns.chain(topics).chain(more).collect();
    words
        .chunks(WORDS_EACH)
        .map(|words| format!("{process} {}", words.join(" ")))
        .collect()
}

/// The step's result, unless the database falls silent.
async fn in_time<T>(step: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(ANSWER_WITHIN, step).await {
        Ok(result) => result,
        Err(_) => {
            let silence = std::io::Error::from(std::io::ErrorKind::TimedOut);
            Err(sqlx::Error::Io(silence))
        }
    }
}
