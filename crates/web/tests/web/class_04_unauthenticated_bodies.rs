//! A peer without a token costs some memory for some seconds: through a real socket, in real time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;
use trainyard_web::Peer;

use crate::kit::{LIMIT, Place, request};

/// The longest wait, ample on any machine.
const BOUND: Duration = Duration::from_secs(30);

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(address).await;
    stream.write_all(bytes).await.unwrap();
    stream
}

/// The status of the next answer; `None` where the connection was closed.
async fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut text = Vec::new();
    let reading = async {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            text.extend_from_slice(&piece[..count]);
            if text.windows(4).any(|end| end == b"\r\n\r\n") {
                break;
            }
        }
    };
    timeout(BOUND, reading).await.expect("an answer or an end");
    String::from_utf8_lossy(&text).get(9..12)?.parse().ok()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 4096];
    timeout(BOUND, async {
        while let Ok(1..) = stream.read(&mut rest).await {}
    })
    .await
    .is_ok()
}

fn hook(signature: &str, length: &str) -> Vec<u8> {
    format!(
        "POST /hooks/github/shop HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{signature}{length}\r\n"
    )
    .into_bytes()
}

/// A signature header in the right form.
fn well_formed() -> String {
    format!("x-hub-signature-256: sha256={}\r\n", "ab".repeat(32))
}

#[tokio::test]
async fn class_04_a_head_that_does_not_end_times_out() {
    let place = Place::new().await;
    let (address, _server) = place.listen(64).await;
    let begin = Instant::now();
    let mut silent = connect(address).await;
    let mut slow = send(address, b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await;
    assert!(is_closed(&mut silent).await && is_closed(&mut slow).await);
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_secs(8),
        "honest peers have some seconds: {took:?}"
    );
}

#[tokio::test]
async fn class_04_a_peer_that_holds_all_connections_is_displaced_and_a_tokens_holder_is_not() {
    let place = Place::new().await;
    let (address, _server) = place.listen(16).await;
    let known = format!(
        "GET /api/v1/runs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        place.admin
    );
    let mut known_one = send(address, known.as_bytes()).await;
    assert_eq!(status(&mut known_one).await, Some(200));
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(send(address, b"POST /hooks/github/x HTTP/1.1\r\nhost: x\r\n").await);
        if crowd.len() % 20 == 0 {
            let mut honest = send(address, HEALTH).await;
            assert_eq!(status(&mut honest).await, Some(200), "at {}", crowd.len());
        }
    }
    assert!(is_closed(&mut crowd[0]).await);
    let _ = known_one.write_all(known.as_bytes()).await;
    assert_eq!(status(&mut known_one).await, Some(200), "it was kept");
}

#[tokio::test]
async fn class_04_an_unsigned_body_is_refused_before_it_comes() {
    let place = Place::new().await;
    let (address, _server) = place.listen(64).await;
    let begin = Instant::now();
    let mut peer = send(address, &hook("", "content-length: 5242880\r\n")).await;
    assert_eq!(status(&mut peer).await, Some(401));
    let mut peer = send(
        address,
        &hook(&well_formed(), "content-length: 99999999999\r\n"),
    )
    .await;
    assert_eq!(status(&mut peer).await, Some(413));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn class_04_a_chunked_body_without_end_is_refused_at_the_limit() {
    let place = Place::new().await;
    let (address, _server) = place.listen(64).await;
    let head = hook(&well_formed(), "transfer-encoding: chunked\r\n");
    let stream = send(address, &head).await;
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        let mut piece = b"10000\r\n".to_vec();
        piece.extend_from_slice(&[b'a'; 0x10000]);
        piece.extend_from_slice(b"\r\n");
        let mut sent = 0_u64;
        // 10 GB, unless the other side has had enough.
        while sent < 10 << 30 && writer.write_all(&piece).await.is_ok() {
            sent += 0x10000;
        }
        sent
    });
    let mut answer = [0; 12];
    timeout(BOUND, reader.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    let sent = timeout(BOUND, sending).await.unwrap().unwrap();
    assert!(sent < 64 << 20, "{sent} bytes were taken");
}

#[tokio::test]
async fn class_04_bodies_that_are_held_have_a_budget_together_and_others_are_served_meanwhile() {
    let place = Place::new().await;
    let (address, _server) = place.listen(256).await;
    let before = memory();
    let head = hook(&well_formed(), &format!("content-length: {LIMIT}\r\n"));
    let body = vec![b'a'; LIMIT - 100];
    let mut held = Vec::new();
    let mut sending = Vec::new();
    for _ in 0..30 {
        let (mut reader, mut writer) = send(address, &head).await.into_split();
        let body = body.clone();
        sending.push(tokio::spawn(async move {
            writer.write_all(&body).await.map(|()| writer)
        }));
        held.push(tokio::spawn(async move {
            let mut answer = [0; 12];
            reader.read_exact(&mut answer).await.map(|_| answer)
        }));
    }
    for sent in sending {
        let _ = timeout(BOUND, sent).await.unwrap();
    }
    let mut honest = send(address, HEALTH).await;
    assert_eq!(status(&mut honest).await, Some(200));
    let refused = held.iter().filter(|one| one.is_finished()).count();
    assert!(refused >= 15, "{refused} of 30 were refused");
    // 150 MiB of them belong to the test itself.
    let grown = memory().saturating_sub(before);
    assert!(grown < 400, "{grown} MiB more");
}

#[tokio::test]
async fn class_04_bodies_that_strangers_hold_leave_room_for_those_with_a_token() {
    let place = Place::new().await;
    sqlx::query("update dag set current_version = (select id from dag_version)")
        .execute(&place.raw)
        .await
        .unwrap();
    let (address, _server) = place.listen(256).await;
    let head = hook(&well_formed(), &format!("content-length: {LIMIT}\r\n"));
    let body = std::sync::Arc::new(vec![b'a'; LIMIT - 1]);
    let mut peers = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let mut stream = send(address, &head).await;
        let body = body.clone();
        peers.spawn(async move {
            // A refused peer may find its connection closed while it sends.
            let _ = stream.write_all(&body).await;
            status(&mut stream).await
        });
    }
    // The others have all their bytes but the last one in the daemon.
    for _ in 0..3 {
        let refused = timeout(BOUND, peers.join_next()).await.unwrap();
        assert_eq!(refused.unwrap().unwrap(), Some(503));
    }
    let admin = &place.admin;
    let trigger = format!(
        "POST /api/v1/dags/shop/train/runs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {admin}\r\n\
         content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    let mut honest = send(address, trigger.as_bytes()).await;
    assert_eq!(status(&mut honest).await, Some(201));
}

#[tokio::test]
async fn class_04_unread_answers_of_one_token_are_bounded_and_leave_room_to_others() {
    let place = Place::new().await;
    let ask = async |token: &str| {
        let asked = request("GET", "/api/v1/openapi.json", Some(token), "");
        place.router.clone().oneshot(asked).await.unwrap()
    };
    let mut unread = Vec::new();
    loop {
        let answer = ask(&place.reader).await;
        if answer.status() == 503 {
            break;
        }
        assert_eq!(answer.status(), 200);
        unread.push(answer);
        assert!(unread.len() < 1000, "2 MiB are the most");
    }
    assert_eq!(ask(&place.admin).await.status(), 200);
    unread.pop();
    assert_eq!(ask(&place.reader).await.status(), 200);
}

fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        >> 10
}

#[tokio::test]
async fn class_04_who_guesses_tokens_is_slowed_down_and_a_good_one_from_the_same_address_is_not() {
    let place = Place::new().await;
    let ask = async |token: &str| {
        let mut asked = request("GET", "/api/v1/runs", Some(token), "");
        let peer = Peer::new("192.0.2.1".parse().unwrap());
        asked.extensions_mut().insert(peer);
        place.ask(asked).await
    };
    assert_eq!(ask(&place.admin).await.status, 200);
    let mut statuses = Vec::new();
    for guess in 0..300 {
        statuses.push(ask(&format!("trainyard_{guess}")).await.status.as_u16());
    }
    assert!(statuses[..100].iter().all(|status| *status == 401));
    let slowed = statuses.iter().filter(|status| **status == 429).count();
    assert!(slowed > 50, "{slowed} of 300");
    assert_eq!(ask(&place.admin).await.status, 200);
}

#[tokio::test]
async fn class_04_http_2_is_not_spoken() {
    let place = Place::new().await;
    let (address, _server) = place.listen(64).await;
    let mut peer = send(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let answered = status(&mut peer).await;
    assert!(answered.is_none_or(|status| status >= 400), "{answered:?}");
}
