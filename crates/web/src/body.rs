//! Request bodies: read chunk by chunk, each within a size limit, a time limit, and a memory budget for all bodies.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// How long a whole body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// The unit of the budget, in bytes.
const UNIT: usize = 1 << 10;

/// The memory budget of all bodies together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.div_ceil(UNIT))))
    }

    /// An empty share.
    fn share(&self) -> Share {
        Share {
            budget: Arc::clone(&self.0),
            held: None,
        }
    }
}

/// The share of one body in the budget. Returned on drop.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Grows to `bytes`, if the budget has them.
    fn cover(&mut self, bytes: usize) -> Result<(), Unread> {
        let held = self
            .held
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(UNIT).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let more = u32::try_from(missing)
            .ok()
            .and_then(|missing| {
                Arc::clone(&self.budget)
                    .try_acquire_many_owned(missing)
                    .ok()
            })
            .ok_or(Unread::NoRoom)?;
        match &mut self.held {
            None => self.held = Some(more),
            Some(held) => held.merge(more),
        }
        Ok(())
    }
}

/// Receives a body, chunk by chunk.
pub(crate) trait Sink {
    /// Takes a chunk; returns how much memory the sink has now.
    fn take(&mut self, piece: &[u8]) -> usize;
}

/// By how much the memory of a body of this size grows.
pub(crate) fn step(length: usize) -> usize {
    length.clamp(8 << 10, 256 << 10)
}

/// Grows in steps, so that it never allocates much more than has arrived.
impl Sink for Vec<u8> {
    fn take(&mut self, piece: &[u8]) -> usize {
        if self.capacity() - self.len() < piece.len() {
            self.reserve_exact(step(self.len()).max(piece.len()));
        }
        self.extend_from_slice(piece);
        self.capacity()
    }
}

/// The reason why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is larger than allowed.
    TooLarge,
    /// It took too long.
    TooSlow,
    /// The budget is used up.
    NoRoom,
    /// The connection ended before the body was complete.
    Broken,
}

impl Unread {
    /// The error answer; `at_most` bytes were allowed.
    pub(crate) fn answer(self, at_most: usize) -> ApiError {
        match self {
            Self::TooLarge => ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                format!("the body is larger than {at_most} bytes"),
            ),
            Self::TooSlow => ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "too_slow",
                format!("the body did not arrive within {} s", BODY_WITHIN.as_secs()),
            ),
            Self::NoRoom => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "too many large requests are under way",
            )
            .retry_after(Duration::from_secs(5))
            .help(
                "retry later, or raise http.bodies of the daemon: the memory for all request bodies together",
            ),
            Self::Broken => ApiError::new(
                StatusCode::BAD_REQUEST,
                "malformed",
                "the body is incomplete: the connection ended early",
            ),
        }
    }
}

/// Reads a body of at most `at_most` bytes. Returns its share of the budget: keep it as long as the body.
pub(crate) async fn read(
    budget: &BodyBudget,
    body: Body,
    at_most: usize,
    into: &mut impl Sink,
) -> Result<Share, Unread> {
    // A body whose declared length is too large need not be read.
    if http_body::Body::size_hint(&body).lower() > at_most as u64 {
        return Err(Unread::TooLarge);
    }
    let mut share = budget.share();
    let mut pieces = body.into_data_stream();
    let mut length = 0;
    let reading = async {
        while let Some(piece) = pieces.next().await {
            let piece: Bytes = piece.map_err(|_| Unread::Broken)?;
            length += piece.len();
            if length > at_most {
                return Err(Unread::TooLarge);
            }
            share.cover(length)?;
            let memory = into.take(&piece);
            share.cover(memory)?;
        }
        Ok(())
    };
    tokio::time::timeout(BODY_WITHIN, reading)
        .await
        .map_err(|_| Unread::TooSlow)??;
    Ok(share)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn body(pieces: Vec<Vec<u8>>) -> Body {
        let pieces = pieces.into_iter().map(Ok::<_, std::convert::Infallible>);
        Body::from_stream(stream::iter(pieces))
    }

    #[tokio::test]
    async fn bodies_share_a_budget_and_give_it_back() {
        let budget = BodyBudget::new(64 << 10);
        let mut first = Vec::new();
        let share = read(&budget, body(vec![vec![1; 40 << 10]]), 1 << 20, &mut first)
            .await
            .unwrap();
        let mut second = Vec::new();
        let refused = read(&budget, body(vec![vec![1; 40 << 10]]), 1 << 20, &mut second).await;
        assert_eq!(refused.unwrap_err(), Unread::NoRoom);
        drop(share);
        let again = read(
            &budget,
            body(vec![vec![1; 40 << 10]]),
            1 << 20,
            &mut Vec::new(),
        )
        .await;
        assert!(again.is_ok());
    }

    #[tokio::test]
    async fn a_body_without_end_is_refused_at_its_bound() {
        let budget = BodyBudget::new(64 << 20);
        let endless =
            stream::repeat_with(|| Ok::<_, std::convert::Infallible>(vec![0_u8; 64 << 10]));
        let mut read_so_far = Vec::new();
        let refused = read(
            &budget,
            Body::from_stream(endless),
            5 << 20,
            &mut read_so_far,
        )
        .await;
        assert_eq!(refused.unwrap_err(), Unread::TooLarge);
        assert!(read_so_far.len() <= 5 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_times_out() {
        let budget = BodyBudget::new(1 << 20);
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::convert::Infallible>(vec![b'a']), ()))
        });
        let refused = read(
            &budget,
            Body::from_stream(trickle),
            1 << 20,
            &mut Vec::new(),
        )
        .await;
        assert_eq!(refused.unwrap_err(), Unread::TooSlow);
    }

    #[tokio::test]
    async fn many_small_pieces_cost_what_they_hold() {
        let budget = BodyBudget::new(32 << 10);
        let pieces = vec![vec![7]; 10_000];
        let mut whole = Vec::new();
        let share = read(&budget, body(pieces), 1 << 20, &mut whole).await;
        assert!(share.is_ok());
        assert_eq!(whole.len(), 10_000);
    }
}
