//! Answers: made for a few requests at a time, serialized off the runtime's threads, and counted until their readers
//! have taken them.
//!
//! 1. A request has a turn while its answer is made: rows of the database are in memory several times over then. One
//!    token has some of the turns, so a burst of requests delays its own.
//! 2. The text of an answer grows within a budget, of which one token, or one address without, has a quarter at most.
//!    Beyond that the answer is 503.
//! 3. The share is kept until the last byte was written to the connection, so slow readers use up their own share.
//!    `server/pulse.rs` has the rate at which they have to read.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body::Body as _;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::step;
use crate::budget::{Account, Budget, Share};
use crate::error::ApiError;

/// Answers up to this size need no budget: a connection has as much for its buffers.
const SMALL: usize = 32 << 10;

/// How many answers are made at the same time.
const TURNS: usize = 8;

/// The same for one token.
const TURNS_OF_ONE: usize = 4;

/// A token, or an address without one, has this part of the budget.
const PART_OF_ONE: usize = 4;

/// The budget of all answers together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AnswerBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    at_most: usize,
    bytes: Budget,
    turns: Arc<Semaphore>,
    turns_of: Mutex<HashMap<Account, Arc<Semaphore>>>,
}

/// The answer to one request is being made while this is kept.
#[derive(Debug)]
pub(crate) struct Turn {
    _of_one: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl AnswerBudget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Inner {
            at_most: bytes,
            bytes: Budget::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
            turns_of: Mutex::default(),
        }))
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self, of: &Account) -> Turn {
        let turns_of_one = {
            let turns_of = self.0.turns_of.lock();
            let mut turns_of = turns_of.unwrap_or_else(PoisonError::into_inner);
            turns_of.retain(|_, turns| Arc::strong_count(turns) > 1);
            let new = || Arc::new(Semaphore::new(TURNS_OF_ONE));
            Arc::clone(turns_of.entry(of.clone()).or_insert_with(new))
        };
        // Neither is ever closed.
        Turn {
            _of_one: turns_of_one.acquire_owned().await.ok(),
            _of_all: Arc::clone(&self.0.turns).acquire_owned().await.ok(),
        }
    }

    /// Writes an answer, and counts it until it was read. A stream is passed on: it is never in memory as a whole.
    pub(crate) async fn finish(
        &self,
        of: Account,
        turn: Option<Turn>,
        response: Response,
    ) -> Response {
        let (mut head, body) = response.into_parts();
        let text = Text {
            bytes: Vec::new(),
            of_one: self.0.at_most / PART_OF_ONE,
            share: self.0.bytes.share(vec![
                (Account::All, self.0.at_most),
                (of, self.0.at_most / PART_OF_ONE),
            ]),
            refusal: None,
        };
        let written = match Unwritten::take(&mut head.extensions) {
            Some(write) => {
                let writing = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    text.fill(write)
                });
                writing.await.unwrap_or_else(|_| Err(Refusal::Failed))
            }
            None if body
                .size_hint()
                .exact()
                .is_some_and(|size| size > SMALL as u64) =>
            {
                match to_bytes(body, usize::MAX).await {
                    Ok(whole) => text.fill(|text| text.write_all(&whole)),
                    Err(_) => Err(Refusal::Failed),
                }
            }
            None => return Response::from_parts(head, body),
        };
        match written {
            Ok(bytes) => Response::from_parts(head, Body::from(bytes)),
            Err(refusal) => refusal.answer(self.0.at_most / PART_OF_ONE).into_response(),
        }
    }
}

type Writing = dyn FnOnce(&mut Text) -> io::Result<()> + Send;

/// A value as the JSON body of an answer, which [`AnswerBudget::finish`] writes.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize + Send + 'static> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        let writing: Box<Writing> = Box::new(move |text| Ok(serde_json::to_writer(text, &self.0)?));
        let unwritten = Unwritten(Arc::new(Mutex::new(Some(writing))));
        response.extensions_mut().insert(unwritten);
        response
    }
}

/// The body of an answer that is still to be written. Extensions have to be `Clone`; it is taken once.
#[derive(Clone)]
struct Unwritten(Arc<Mutex<Option<Box<Writing>>>>);

impl Unwritten {
    fn take(extensions: &mut Extensions) -> Option<Box<Writing>> {
        let Self(writing) = extensions.remove()?;
        let mut writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.take()
    }
}

/// The reason why an answer is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// It is larger than one peer may have.
    TooLarge,
    /// The peer, or all of them, have not read what was answered before.
    NoRoom,
    Failed,
}

impl Refusal {
    fn answer(self, at_most: usize) -> ApiError {
        match self {
            Self::TooLarge => ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "too_large",
                format!("the answer is larger than {at_most} bytes"),
            )
            .help("ask for fewer rows with `limit`, or raise http.answers of the daemon: an answer has a quarter of it"),
            Self::NoRoom => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "too many answers have not been read yet",
            )
            .retry_after(Duration::from_secs(5))
            .help("read the answers of other requests first, or retry later; http.answers of the daemon is the memory for all answers together"),
            Self::Failed => ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the answer could not be written, which is a bug in Trainyard; the daemon's log has the details",
            ),
        }
    }
}

/// The text of an answer, with its share of the budget.
struct Text {
    bytes: Vec<u8>,
    of_one: usize,
    share: Share,
    refusal: Option<Refusal>,
}

impl Text {
    fn fill(mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) -> Result<Bytes, Refusal> {
        match write(&mut self) {
            // The owner lives as long as the bytes, wherever they wait to be sent.
            Ok(()) => Ok(Bytes::from_owner(self)),
            Err(error) => Err(self.refusal.unwrap_or_else(|| {
                tracing::error!(%error, "an answer of the API could not be serialized");
                Refusal::Failed
            })),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> io::Error {
        self.refusal = Some(refusal);
        io::ErrorKind::OutOfMemory.into()
    }
}

impl Write for Text {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let length = self.bytes.len() + piece.len();
        if length > self.bytes.capacity() {
            if length > self.of_one {
                return Err(self.refuse(Refusal::TooLarge));
            }
            let grown = self.bytes.len() + step(self.bytes.len());
            let capacity = length.max(grown.min(self.of_one));
            if capacity > SMALL && self.share.cover(capacity).is_err() {
                return Err(self.refuse(Refusal::NoRoom));
            }
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> Account {
        Account::Token(name.to_owned())
    }

    async fn answer(budget: &AnswerBudget, of: &str, size: usize) -> Response {
        let json = Json("x".repeat(size)).into_response();
        budget.finish(token(of), None, json).await
    }

    #[tokio::test]
    async fn unread_answers_have_a_budget_of_which_one_token_has_a_part() {
        let budget = AnswerBudget::new(4 << 20);
        let unread = answer(&budget, "ada", 600 << 10).await;
        assert_eq!(unread.status(), 200);
        let refused = answer(&budget, "ada", 600 << 10).await;
        assert_eq!(refused.status(), 503);
        assert_eq!(answer(&budget, "ada", 1 << 10).await.status(), 200, "small");
        assert_eq!(answer(&budget, "bob", 600 << 10).await.status(), 200);
        // The server keeps the bytes after it has dropped the body.
        let bytes = to_bytes(unread.into_body(), usize::MAX).await.unwrap();
        assert_eq!(bytes.len(), (600 << 10) + 2);
        assert_eq!(answer(&budget, "ada", 600 << 10).await.status(), 503);
        drop(bytes);
        assert_eq!(answer(&budget, "ada", 600 << 10).await.status(), 200);
    }

    #[tokio::test]
    async fn answers_together_have_a_budget_whoever_reads_them() {
        let budget = AnswerBudget::new(4 << 20);
        let mut unread = Vec::new();
        for reader in 0..20 {
            unread.push(answer(&budget, &format!("reader-{reader}"), 800 << 10).await);
        }
        let sent = unread.iter().filter(|answer| answer.status() == 200);
        assert!((2..=5).contains(&sent.count()));
    }

    #[tokio::test]
    async fn an_answer_larger_than_the_part_of_one_is_refused_with_what_helps() {
        let budget = AnswerBudget::new(4 << 20);
        let refused = answer(&budget, "ada", 2 << 20).await;
        assert_eq!(refused.status(), 422);
        let body = to_bytes(refused.into_body(), usize::MAX).await.unwrap();
        let error: trainyard_api::ErrorBody = serde_json::from_slice(&body).unwrap();
        assert_eq!(error.code, "too_large");
        assert!(error.help.unwrap().contains("limit"));
    }

    #[tokio::test]
    async fn one_token_leaves_turns_to_others() {
        let budget = AnswerBudget::new(4 << 20);
        let mut turns = Vec::new();
        for _ in 0..TURNS_OF_ONE {
            turns.push(budget.turn(&token("ada")).await);
        }
        let next = token("ada");
        let mut next = std::pin::pin!(budget.turn(&next));
        let waited = tokio::time::timeout(Duration::ZERO, &mut next).await;
        assert!(waited.is_err());
        let _other = budget.turn(&token("bob")).await;
        drop(turns.pop());
        next.await;
    }
}
