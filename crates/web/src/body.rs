//! Request bodies: read chunk by chunk, each within a size limit, a time limit, and a memory budget for all bodies.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use futures_util::StreamExt;

use crate::budget::{Account, Budget, Exhausted, Share};
use crate::error::ApiError;

/// How long a whole body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// The memory budget of all bodies together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BodyBudget {
    at_most: usize,
    budget: Budget,
}

impl BodyBudget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self {
            at_most: bytes,
            budget: Budget::default(),
        }
    }

    /// The share of a body that came with a valid token.
    pub(crate) fn of_token(&self) -> Share {
        self.budget.share(vec![(Account::All, self.at_most)])
    }

    /// The share of another body. A quarter is kept for valid tokens, and one address leaves something to others;
    /// loopback is exempt, as a reverse proxy serves many clients.
    pub(crate) fn of_stranger(&self, address: Option<IpAddr>) -> Share {
        let eighth = self.at_most / 8;
        let mut accounts = vec![
            (Account::All, self.at_most),
            (Account::Strangers, 6 * eighth),
        ];
        let address = address.filter(|address| !address.is_loopback());
        accounts.extend(address.map(|address| (Account::Address(address), 5 * eighth)));
        self.budget.share(accounts)
    }
}

/// Receives a body, chunk by chunk.
pub(crate) trait BodySink {
    /// Takes a chunk; returns how much memory the sink has now.
    fn take(&mut self, piece: &[u8]) -> usize;
}

/// By how much the memory of a body of this size grows.
pub(crate) fn step(length: usize) -> usize {
    length.clamp(8 << 10, 256 << 10)
}

/// Grows in steps, so that it never allocates much more than has arrived.
impl BodySink for Vec<u8> {
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
pub(crate) enum UnreadBody {
    /// It is larger than allowed.
    TooLarge,
    /// It took too long.
    TooSlow,
    /// The budget is used up.
    NoRoom,
    /// The connection ended before the body was complete.
    Broken,
}

impl UnreadBody {
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

impl From<Exhausted> for UnreadBody {
    fn from(Exhausted: Exhausted) -> Self {
        Self::NoRoom
    }
}

/// Reads a body of at most `at_most` bytes. Returns its share of the budget: keep it as long as the body.
pub(crate) async fn read(
    mut share: Share,
    body: Body,
    at_most: usize,
    into: &mut impl BodySink,
) -> Result<Share, UnreadBody> {
    // A body whose declared length is too large need not be read.
    if http_body::Body::size_hint(&body).lower() > at_most as u64 {
        return Err(UnreadBody::TooLarge);
    }
    let mut pieces = body.into_data_stream();
    let mut length = 0;
    let reading = async {
        while let Some(piece) = pieces.next().await {
            let piece: Bytes = piece.map_err(|_| UnreadBody::Broken)?;
            length += piece.len();
            if length > at_most {
                return Err(UnreadBody::TooLarge);
            }
            share.cover(length)?;
            let memory = into.take(&piece);
            share.cover(memory)?;
        }
        Ok(())
    };
    tokio::time::timeout(BODY_WITHIN, reading)
        .await
        .map_err(|_| UnreadBody::TooSlow)??;
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
        let share = read(
            budget.of_token(),
            body(vec![vec![1; 40 << 10]]),
            1 << 20,
            &mut first,
        )
        .await
        .unwrap();
        let mut second = Vec::new();
        let refused = read(
            budget.of_token(),
            body(vec![vec![1; 40 << 10]]),
            1 << 20,
            &mut second,
        )
        .await;
        assert_eq!(refused.unwrap_err(), UnreadBody::NoRoom);
        drop(share);
        let again = read(
            budget.of_token(),
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
            budget.of_token(),
            Body::from_stream(endless),
            5 << 20,
            &mut read_so_far,
        )
        .await;
        assert_eq!(refused.unwrap_err(), UnreadBody::TooLarge);
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
            budget.of_token(),
            Body::from_stream(trickle),
            1 << 20,
            &mut Vec::new(),
        )
        .await;
        assert_eq!(refused.unwrap_err(), UnreadBody::TooSlow);
    }

    #[tokio::test]
    async fn many_small_pieces_cost_what_they_hold() {
        let budget = BodyBudget::new(32 << 10);
        let pieces = vec![vec![7]; 10_000];
        let mut whole = Vec::new();
        let share = read(budget.of_token(), body(pieces), 1 << 20, &mut whole).await;
        assert!(share.is_ok());
        assert_eq!(whole.len(), 10_000);
    }

    #[tokio::test]
    async fn class_04_strangers_leave_a_part_of_the_budget_to_valid_tokens() {
        let budget = BodyBudget::new(64 << 20);
        let one = Some("192.0.2.1".parse().unwrap());
        let other = Some("192.0.2.2".parse().unwrap());
        let mut held = Vec::new();
        let mut hold = |address| {
            let mut count = 0;
            loop {
                let mut share = budget.of_stranger(address);
                if share.cover((5 << 20) - 1).is_err() {
                    return count;
                }
                held.push(share);
                count += 1;
            }
        };
        assert_eq!(hold(one), 8);
        assert_eq!(hold(other), 1, "one address leaves something to others");
        assert_eq!(hold(None), 0);
        assert_eq!(budget.of_token().cover(16 << 20), Ok(()));
    }
}
