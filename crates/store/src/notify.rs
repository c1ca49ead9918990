//! Wakes between processes, over Postgres' NOTIFY.
//!
//! NOTIFY takes a database-wide lock at commit, so it is never part of a transaction that does work:
//! one task tells all that gathered, at most ten times a second, and only while another daemon lives
//! that could care. What is lost on the way is healed by polling.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::postgres::PgListener;

use crate::store::Store;
use crate::wakes::Concern;

/// The one channel.
const CHANNEL: &str = "trainyard";

/// The shortest time between two notifications.
const BREATH: Duration = Duration::from_millis(100);

/// How long to wait before listening again after the connection was lost; doubles up to 5 s.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

impl Store {
    /// Tells other processes of wakes and hears theirs, until `shutdown` ends. Heals itself: after a
    /// lost connection everybody is woken, since nobody knows what was missed.
    pub async fn listen(&self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.tell() => {}
            () = self.hear() => {}
        }
    }

    async fn tell(&self) {
        let outbox = &self.core.wakes.outbox;
        loop {
            outbox.filled.notified().await;
            tokio::time::sleep(BREATH).await;
            let concerns = outbox.take();
            if concerns.is_empty() || !self.core.others_live.load(Ordering::Relaxed) {
                continue;
            }
            let words: Vec<&str> = concerns.into_iter().map(Concern::as_str).collect();
            let payload = format!("{} {}", self.core.process, words.join(" "));
            let told = sqlx::query!("select pg_notify($1, $2)", CHANNEL, payload)
                .execute(&self.core.relaxed)
                .await;
            if let Err(error) = told {
                tracing::debug!(%error, "other daemons could not be notified; they poll");
            }
        }
    }

    async fn hear(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.hear_until_lost().await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    tracing::debug!(%error, "cannot listen to other daemons; polling goes on");
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn hear_until_lost(&self) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.core.relaxed).await?;
        listener.listen(CHANNEL).await?;
        self.wake_all();
        while let Some(notification) = listener.try_recv().await? {
            let mut words = notification.payload().split(' ');
            if words.next() == Some(self.core.process.to_string().as_str()) {
                continue;
            }
            for word in words {
                if let Some(concern) = Concern::ALL.iter().find(|concern| concern.as_str() == word)
                {
                    self.core.wakes.of(*concern).wake_here();
                }
            }
        }
        Ok(())
    }

    fn wake_all(&self) {
        for concern in Concern::ALL {
            self.core.wakes.of(*concern).wake_here();
        }
    }
}
