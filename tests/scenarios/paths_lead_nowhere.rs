//! Class 11: a path of the API names a thing of Trainyard's or nothing, whatever it contains: no
//! file is read for it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use trainyard_tests::daemon::Daemon;
use trainyard_tests::place::Place;

/// Every route with something in its path, with `{}` in that place.
const ROUTES: [&str; 28] = [
    "GET /api/v1/repos/{}",
    "DELETE /api/v1/repos/{}",
    "POST /api/v1/repos/{}/sync",
    "GET /api/v1/repos/{}/secrets",
    "PUT /api/v1/repos/{}/secrets/A",
    "PUT /api/v1/repos/x/secrets/{}",
    "DELETE /api/v1/repos/{}/secrets/A",
    "DELETE /api/v1/repos/x/secrets/{}",
    "GET /api/v1/dags/{}/a",
    "GET /api/v1/dags/x/{}",
    "GET /api/v1/dags/{}/a/ticks",
    "GET /api/v1/dags/x/{}/ticks",
    "POST /api/v1/dags/x/{}/runs",
    "PUT /api/v1/dags/x/{}/paused",
    "GET /api/v1/runs/{}",
    "GET /api/v1/runs/{}/events",
    "GET /api/v1/runs/{}/artifacts",
    "GET /api/v1/runs/{}/artifacts/train/model",
    "GET /api/v1/runs/1/artifacts/{}/model",
    "GET /api/v1/runs/1/artifacts/train/{}",
    "GET /api/v1/runs/{}/stages/train/log",
    "GET /api/v1/runs/1/stages/{}/log",
    "POST /api/v1/runs/{}/cancel",
    "POST /api/v1/runs/{}/retry",
    "DELETE /api/v1/quarantine/{}",
    "DELETE /api/v1/tokens/{}",
    "POST /hooks/{}/x",
    "POST /hooks/github/{}",
];

/// The attacks: paths up, to the root, through encodings, past checks of endings.
fn tricks() -> Vec<String> {
    let ups = [
        "..",
        "%2e%2e",
        "%2E.",
        ".%2e",
        "%252e%252e",
        "%c0%ae%c0%ae",
        "..;",
        "..%00",
        "%uff0e%uff0e",
        "....",
    ];
    let slashes = ["/", "%2f", "%5c", "\\", "%252f", "%c0%af", "//"];
    let mut tricks = Vec::new();
    for up in ups {
        for slash in slashes {
            let way = format!("{up}{slash}").repeat(8);
            tricks.push(format!("{way}etc{slash}passwd"));
        }
    }
    let others = [
        "%00",
        "a%00.json",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "file:%2f%2f%2fetc%2fpasswd",
        "C:%5cx",
        ".",
        "..",
        "%2e",
        "~",
        "~root",
        "%23",
        "a%23b",
        "%3f",
        "a%3fb",
        "a;b",
        "*",
        "%2a",
        "%25",
        "%",
        "%zz",
        "%ff%fe",
        "secret.key",
        "token",
        "endpoint.json",
        "..%2fsecret.key",
        "..%2f..%2ftoken",
        "%0d%0aX:%201",
        "%20",
        "%09",
        "-1",
        "0",
        "9223372036854775808",
        "1e3",
        "0x1",
        "%EF%BC%8E%EF%BC%8E%EF%BC%8F",
        "%E2%80%AE",
        "null",
        "undefined",
    ];
    tricks.extend(others.map(str::to_owned));
    tricks.push("a".repeat(5_000));
    tricks
}

#[test]
fn class_11_no_path_leads_out_of_what_the_api_has() {
    let place = Place::new();
    let daemon = Daemon::dev(&place, &[]);
    let key = std::fs::read_to_string(daemon.data().join("secret.key")).unwrap();
    let tricks = tricks();
    assert!(tricks.len() > 100);
    for route in ROUTES {
        for trick in &tricks {
            let request = route.replace("{}", trick);
            let answer = ask(&daemon, &request);
            // If it is not a valid request, the daemon may close the connection.
            let status = answer.split(' ').nth(1).unwrap_or("400");
            assert!(status.starts_with('4'), "{request}: {answer}");
            assert!(
                !answer.contains("root:x:0") && !answer.contains(key.trim()),
                "{request}: {answer}"
            );
        }
    }
    assert_eq!(daemon.readiness().0, "ready");
}

/// The whole answer to a request whose path is sent as it is.
fn ask(daemon: &Daemon, request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    let body = r#"{"value": "x"}"#;
    let address = daemon.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        daemon.token(),
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
