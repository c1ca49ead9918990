//! One exchange with a peer: a request on its way, its effect, an answer on its way back. Each part
//! may take long or get lost, and the effect happens whether or not the caller is still there.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::process::{Peer, Process};
use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Silence;

/// Where a daemon can be paused or killed.
const LONG_PAUSE: (u64, u64) = (1_000, 60_000);

/// Sends a request whose `effect` happens when it arrives; its argument says whether the caller still
/// waits then. `deadline` is the caller's own.
pub(crate) async fn exchange<T: Send + 'static>(
    world: &World,
    process: &std::sync::Arc<Process>,
    peer: Peer,
    deadline: Duration,
    effect: impl FnOnce(bool) -> T + Send + 'static,
) -> Result<T, Silence> {
    misfortune(world, process).await;
    if process.is_cut_off(peer) || world.strikes(|weather| weather.lose_request) {
        return silence(world, deadline).await;
    }
    let (there, back) = way(world, peer);
    let answer_lost = world.strikes(|weather| weather.lose_answer);
    let answer = if there.is_zero() {
        let answer = effect(true);
        tokio::time::sleep(back).await;
        Some(answer)
    } else {
        let (send, receive) = oneshot::channel();
        tokio::spawn(async move {
            tokio::time::sleep(there).await;
            let answer = effect(!send.is_closed());
            tokio::time::sleep(back).await;
            // The caller may be gone.
            drop(send.send(answer));
        });
        tokio::time::timeout(deadline, receive)
            .await
            .ok()
            .and_then(Result::ok)
    };
    misfortune(world, process).await;
    match answer {
        Some(answer) if !answer_lost && !process.is_cut_off(peer) => Ok(answer),
        Some(_) => silence(world, deadline).await,
        None => Err(Silence),
    }
}

/// How long the two ways take. Most requests arrive at once, so that most of the time passes where
/// something depends on it.
fn way(world: &World, peer: Peer) -> (Duration, Duration) {
    let slow = world.strikes(|weather| weather.slow);
    // A statement that waits for long is cut by the store's own timeout.
    let very_slow = peer == Peer::Engine && world.strikes(|weather| weather.very_slow);
    world.draw(|random| {
        let most = match (slow, very_slow) {
            (_, true) => 70_000,
            (true, false) => 3_000,
            (false, false) => 3,
        };
        let there = if random.chance(700) && !very_slow {
            Duration::ZERO
        } else {
            random.millis(1, most)
        };
        (there, random.millis(1, most.min(3_000)))
    })
}

/// Loses an answer: noticed at once, or by the caller's deadline.
async fn silence<T>(world: &World, deadline: Duration) -> Result<T, Silence> {
    let wait = if world.strikes(|weather| weather.silent) {
        deadline
    } else {
        Duration::from_millis(1)
    };
    tokio::time::sleep(wait).await;
    Err(Silence)
}

/// Lets the process stop or die here.
pub(crate) async fn misfortune(world: &World, process: &std::sync::Arc<Process>) {
    if world.strikes(|weather| weather.kill_at_call) {
        world.note(|| format!("{} is killed at a call", process.name));
        process.kill();
    } else if world.strikes(|weather| weather.pause_at_call) && !process.is_paused() {
        let wait = world.draw(|random| random.millis(LONG_PAUSE.0, LONG_PAUSE.1));
        world.note(|| format!("{} stops at a call for {wait:?}", process.name));
        process.pause();
        let process = std::sync::Arc::clone(process);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            process.resume();
        });
    }
    process.gate().await;
}
