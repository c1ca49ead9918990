//! The proxy, against upstreams that a test can see into.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use trainyard_rig::proxy::{
    Action, Address, Direction, FaultProxy, Matcher, Pattern, Protocol, Rule,
};
use trainyard_tests::place::Place;
use trainyard_tests::wait::until_true;

const BOUND: Duration = Duration::from_secs(300);

/// An upstream that answers each request with its first line, and counts what it carried out.
struct Upstream {
    address: SocketAddr,
    done: Arc<AtomicUsize>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&done);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counting = Arc::clone(&counting);
                std::thread::spawn(move || serve(stream, &counting));
            }
        });
        Self { address, done }
    }

    fn proxy(&self, protocol: Protocol) -> FaultProxy {
        FaultProxy::start(
            &Address::any_port(),
            Address::Tcp(self.address),
            protocol,
            1,
        )
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: impl Read + Write, done: &AtomicUsize) {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        heard.extend_from_slice(&buffer[..count]);
        while let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&heard[..end]).into_owned();
            heard.drain(..end + 4);
            done.fetch_add(1, Ordering::SeqCst);
            let line = head.lines().next().unwrap();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}",
                line.len()
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn connect(proxy: &FaultProxy) -> TcpStream {
    let Address::Tcp(address) = proxy.address() else {
        panic!("{:?}", proxy.address())
    };
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
}

/// The result of a request: the answer, or the end of the connection.
fn ask(stream: &mut (impl Read + Write), method: &str, path: &str) -> Result<String, ErrorKind> {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .map_err(|error| error.kind())?;
    let wanted = format!("{method} {path} HTTP/1.1");
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !heard.ends_with(&wanted) {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof),
            Ok(count) => heard.push_str(&String::from_utf8_lossy(&buffer[..count])),
            Err(error) => return Err(error.kind()),
        }
    }
    Ok(heard)
}

#[test]
fn without_rules_everything_passes_over_tcp_and_unix_sockets() {
    let upstream = Upstream::start();
    let place = Place::new();
    let socket = Address::Unix(place.join("proxy.sock"));
    let through = FaultProxy::start(&socket, Address::Tcp(upstream.address), Protocol::Http, 1);
    let mut client = UnixStream::connect(place.join("proxy.sock")).unwrap();
    for _ in 0..3 {
        ask(&mut client, "GET", "/info").unwrap();
    }

    let listener = UnixListener::bind(place.join("upstream.sock")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream, &AtomicUsize::new(0));
        }
    });
    let to_unix = FaultProxy::start(
        &Address::any_port(),
        Address::Unix(place.join("upstream.sock")),
        Protocol::Raw,
        1,
    );
    ask(&mut connect(&to_unix), "GET", "/info").unwrap();
    assert_eq!((through.accepted(), to_unix.accepted()), (1, 1));
    assert!(through.fired().is_empty());
}

#[test]
fn a_request_is_carried_out_and_its_answer_is_dropped() {
    let upstream = Upstream::start();
    let proxy = upstream.proxy(Protocol::Http);
    proxy.add(Rule::once(
        "lost-create",
        Matcher::http("POST", "/containers/create"),
        Action::DropAnswer,
    ));
    let mut client = connect(&proxy);
    ask(&mut client, "GET", "/info").unwrap();
    let lost = ask(&mut client, "POST", "/v1.41/containers/create?name=a");
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(upstream.done(), 2, "it was carried out");
    ask(
        &mut connect(&proxy),
        "POST",
        "/v1.41/containers/create?name=a",
    )
    .unwrap();
    let fired = proxy.fired();
    assert_eq!(fired.len(), 1);
    assert!(
        fired[0].hit.starts_with("POST /v1.41/containers/create"),
        "{}",
        fired[0]
    );
    assert!(proxy.record().contains("lost-create"));
}

#[test]
fn a_reset_request_never_arrives() {
    let upstream = Upstream::start();
    let proxy = upstream.proxy(Protocol::Http);
    proxy.add(Rule::once(
        "reset",
        Matcher::http("POST", "/containers/*/start"),
        Action::Reset,
    ));
    let lost = ask(&mut connect(&proxy), "POST", "/containers/abc/start");
    assert_eq!(lost.unwrap_err(), ErrorKind::ConnectionReset);
    assert_eq!(upstream.done(), 0);
}

#[test]
fn a_request_arrives_though_its_connection_was_closed() {
    let upstream = Upstream::start();
    let proxy = upstream.proxy(Protocol::Http);
    let when = Matcher::http("POST", "/containers/*/start");
    proxy.add(Rule::once("hang-up", when, Action::HangUp));
    assert!(ask(&mut connect(&proxy), "POST", "/containers/abc/start").is_err());
    until_true("the request", BOUND, || upstream.done() == 1);
}

#[test]
fn a_black_hole_reads_and_never_answers() {
    let upstream = Upstream::start();
    let proxy = upstream.proxy(Protocol::Http);
    proxy.add(Rule::once(
        "hole",
        Matcher::connections().on_connection(2),
        Action::BlackHole,
    ));
    ask(&mut connect(&proxy), "GET", "/a").unwrap();
    let mut swallowed = connect(&proxy);
    swallowed
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let silence = ask(&mut swallowed, "GET", "/b").unwrap_err();
    assert!(
        matches!(silence, ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{silence:?}"
    );
    ask(&mut connect(&proxy), "GET", "/c").unwrap();
    assert_eq!(upstream.done(), 2);
}

#[test]
fn a_delay_affects_only_what_it_strikes() {
    let upstream = Upstream::start();
    let proxy = upstream.proxy(Protocol::Http);
    let wait = Duration::from_millis(400);
    proxy.add(Rule::once(
        "slow",
        Matcher::http("GET", "/slow"),
        Action::Delay {
            by: wait,
            jitter: Duration::from_millis(50),
        },
    ));
    let begun = Instant::now();
    let mut client = connect(&proxy);
    ask(&mut client, "GET", "/fast").unwrap();
    assert_eq!(proxy.count("slow"), 0);
    ask(&mut client, "GET", "/slow").unwrap();
    assert!(begun.elapsed() >= wait);
}

#[test]
fn a_connection_is_cut_after_so_many_bytes() {
    let upstream = Upstream::start();
    let proxy = upstream.proxy(Protocol::Raw);
    proxy.add(Rule::once(
        "cut",
        Matcher::all(Direction::Answer),
        Action::CutAfter(10),
    ));
    let mut client = connect(&proxy);
    client.write_all(b"GET /x HTTP/1.1\r\n\r\n").unwrap();
    let mut heard = Vec::new();
    // Whether it ends in order or by a reset does not matter here.
    let _ = client.read_to_end(&mut heard);
    assert_eq!(heard, b"HTTP/1.1 2");
}

#[test]
fn rules_count_passes_and_strikes() {
    let upstream = Upstream::start();
    let proxy = upstream.proxy(Protocol::Http);
    proxy.add(Rule::times(
        "third-and-fourth",
        Matcher::requests(Pattern::Bytes(b"/x".to_vec())).after(2),
        Action::Reset,
        2,
    ));
    let good: Vec<bool> = (0..6)
        .map(|_| ask(&mut connect(&proxy), "GET", "/x").is_ok())
        .collect();
    assert_eq!(good, [true, true, false, false, true, true]);
    proxy.until_fired("third-and-fourth", 2, BOUND);
    proxy.add(Rule::always(
        "all",
        Matcher::all(Direction::Request),
        Action::Reset,
    ));
    assert!(ask(&mut connect(&proxy), "GET", "/x").is_err());
    proxy.clear();
    ask(&mut connect(&proxy), "GET", "/x").unwrap();
    assert_eq!(proxy.count("all"), 0, "of rules that hold");
    let struck: Vec<String> = proxy.fired().into_iter().map(|fired| fired.rule).collect();
    assert_eq!(struck, ["third-and-fourth", "third-and-fourth", "all"]);
}

#[test]
fn the_same_seed_strikes_the_same_requests() {
    let upstream = Upstream::start();
    let struck = || {
        let proxy = upstream.proxy(Protocol::Http);
        proxy.add(Rule::always(
            "now-and-then",
            Matcher::http("GET", "/x").with_probability(0.5),
            Action::Reset,
        ));
        (0..20)
            .map(|_| ask(&mut connect(&proxy), "GET", "/x").is_ok())
            .collect::<Vec<_>>()
    };
    let first = struck();
    assert_eq!(first, struck());
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
}

#[test]
fn all_connections_are_cut_at_will() {
    let upstream = Upstream::start();
    let proxy = upstream.proxy(Protocol::Http);
    let mut clients: Vec<TcpStream> = (0..5).map(|_| connect(&proxy)).collect();
    for client in &mut clients {
        ask(client, "GET", "/x").unwrap();
    }
    assert_eq!(proxy.cut_all(), 5);
    for client in &mut clients {
        assert!(ask(client, "GET", "/x").is_err());
    }
    until_true("the end of all", BOUND, || proxy.open() == 0);
    ask(&mut connect(&proxy), "GET", "/x").unwrap();
}

#[test]
fn an_upstream_that_is_not_there_ends_the_connection() {
    let place = Place::new();
    let proxy = FaultProxy::start(
        &Address::any_port(),
        Address::Unix(place.join("nothing.sock")),
        Protocol::Raw,
        1,
    );
    assert!(ask(&mut connect(&proxy), "GET", "/x").is_err());
}
