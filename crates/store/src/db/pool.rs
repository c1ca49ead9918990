//! A pool of connections that stops waiting for a statement which is not answered.
//!
//! A connection that is cut silently never fails by itself: everything sent was acknowledged, so nothing is sent
//! again, and neither end closes it. A loop that waits for such an answer would stand still for ever, in silence,
//! while other loops renew the daemon's lease. Postgres itself ends a statement that takes too long, and reports that
//! (`statement_timeout`); after a longer silence no answer will come.

use std::io;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{
    Connection, Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
};

use crate::db::error::ANSWER_WITHIN;

/// A pool of connections. Statements on it end within [`ANSWER_WITHIN`], answered or not. The statements of a
/// transaction do not: the caller that begins the transaction limits it as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Pool(PgPool);

impl From<PgPool> for Pool {
    fn from(pool: PgPool) -> Self {
        Self(pool)
    }
}

impl Deref for Pool {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.0
    }
}

/// When a call to Postgres last timed out in this process.
static SILENT: Mutex<Option<Instant>> = Mutex::new(None);

/// How long after that connections that come back are not assumed to be alive.
const SUSPECT_FOR: Duration = Duration::from_secs(60);

/// How long one of them may take to show that it is alive.
const WELL_WITHIN: Duration = Duration::from_secs(5);

/// Notes that a call to Postgres timed out.
pub(crate) fn note_silence() {
    *SILENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
}

/// Whether a connection may go back to its pool. The pool itself tests each with a ping, and waits for the answer
/// without limit: a connection whose transaction timed out would keep its place for good.
pub(crate) async fn is_well(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let silent = *SILENT.lock().unwrap_or_else(PoisonError::into_inner);
    if silent.is_none_or(|at| at.elapsed() > SUSPECT_FOR) {
        return Ok(true);
    }
    match tokio::time::timeout(WELL_WITHIN, connection.ping()).await {
        Ok(answer) => answer.map(|()| true),
        Err(_) => Err(given_up(WELL_WITHIN)),
    }
}

/// A connection while a statement runs on it. If it is dropped before the answer, it is closed: back in the pool it
/// would be tested with a ping, and would keep its place until it answers.
struct Busy(Option<PoolConnection<Postgres>>);

impl Busy {
    async fn of(pool: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self(Some(pool.acquire().await?)))
    }

    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// The answer has arrived: the connection goes back to the pool.
    fn release(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl<'p> Executor<'p> for &'_ Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.0.clone();
        // All rows at once: the callers limit the number of rows, and collect them anyway.
        let answers = in_time(async move {
            let mut busy = Busy::of(&pool).await?;
            let answers: Vec<_> = busy.connection()?.fetch_many(query).collect().await;
            busy.release();
            Ok(answers)
        });
        stream::once(answers)
            .map_ok(stream::iter)
            .try_flatten()
            .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.0.clone();
        Box::pin(in_time(async move {
            let mut busy = Busy::of(&pool).await?;
            let answer = busy.connection()?.fetch_optional(query).await;
            busy.release();
            answer
        }))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        Box::pin(in_time((&self.0).prepare_with(sql, parameters)))
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        Box::pin(in_time((&self.0).describe(sql)))
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(given_up(ANSWER_WITHIN)),
    }
}

pub(crate) fn given_up(waited: Duration) -> sqlx::Error {
    let words = format!("no answer within {waited:?}");
    io::Error::new(io::ErrorKind::TimedOut, words).into()
}
