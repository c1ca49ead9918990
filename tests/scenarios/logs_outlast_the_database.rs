//! A stage that prints much is held up neither by a database that is away nor by viewers who have asked for more
//! than anybody can keep for them and do not read; the daemon's memory is bounded, and nothing is lost.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use trainyard_tests::cluster::Cluster;
use trainyard_tests::daemon::Daemon;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::scene::BOUND;
use trainyard_tests::wait::until_true;
use trainyard_tests::witness::Witness;

/// How many lines the stage prints, of 100 bytes each: more than the engine keeps in one file, and more in a
/// second than can be read again in the time after which a silent log counts as broken off.
const LINES: usize = 400_000;

/// What is printed before the viewers come: more than two of the pages that they ask for, of a mebibyte each.
const PREFACE: usize = 3 << 20;

/// How many viewers there are, and how many pages each asks for in advance: many times what the kernel keeps of a
/// connection that nobody reads.
const VIEWERS: usize = 4;
const PAGES: usize = 32;

/// What the daemon may need more for the viewers, and while it cannot write, in bytes: less than the stage prints.
const GROWTH_AT_MOST: u64 = 32 << 20;

#[test]
fn a_stage_prints_on_while_the_database_is_away_and_nobody_reads() {
    let (place, witness) = (Place::new(), Witness::new());
    let cluster = Cluster::start(&place);
    let remote = Remote::new(&place, "model");
    let print = format!("awk \"BEGIN{{for(i=1;i<={LINES};i++) printf \\\"%0100d\\\\n\\\", i}}\"");
    let preface = format!("yes {} | head -c {PREFACE}; echo", "before ".repeat(14));
    let dag = format!(
        "env: {{WITNESS: \"{}\"}}\nstages:\n  s: {{image: \"{IMAGE}\", run: '{preface}; \
         wget -q -O- \"$WITNESS/start\"; wget -q -O- \"$WITNESS/gate/go\"; {print}; wget -q -O- \"$WITNESS/printed\"'}}\n",
        witness.address()
    );
    remote.push("main", &[("dags/dag.yaml", &dag)]);
    let configuration = format!(
        "database_url = {:?}\nallow_file_urls = true\n[limits]\nlog = \"128MiB\"\n",
        cluster.url("trainyard")
    );
    let daemon = Daemon::production(&place, &configuration);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let id = daemon.json(&["dag", "trigger", "dag"])["id"]
        .as_i64()
        .unwrap();
    until_true("the stage", BOUND, || witness.count("start") == 1);
    let path = format!("/api/v1/runs/{id}/stages/s/log");
    until_true("the log so far", BOUND, || {
        let (_, page) = daemon.get(&format!("{path}?offset={PREFACE}"), Some(daemon.token()));
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        page["lines"]
            .as_array()
            .is_some_and(|lines| !lines.is_empty())
    });
    let before = memory(&daemon);
    let viewers: Vec<TcpStream> = (0..VIEWERS).map(|_| viewer(&daemon, &path)).collect();
    until_true("viewers who hold back their answers", BOUND, || {
        viewers.iter().all(holds_back)
    });

    cluster.down("immediate");
    witness.open("go");
    until_true("all that it prints", BOUND, || {
        witness.count("printed") == 1
    });
    assert!(viewers.iter().all(holds_back), "to the end");
    // The database being away is long over for the stage; the daemon has met it on every way.
    until_true("a log that waits", BOUND, || {
        daemon.output().contains("does not take a piece of log")
    });
    let growth = memory(&daemon).saturating_sub(before);
    assert!(growth < GROWTH_AT_MOST, "{} MiB more", growth >> 20);

    cluster.try_up().unwrap();
    let run = daemon.finished_run(id, BOUND);
    assert_eq!(run["state"], "succeeded", "{run}");
    let log = daemon.cli(&["run", "logs", &id.to_string()]).good().stdout;
    let numbers = log
        .lines()
        .filter_map(|line| line.split(' ').next_back()?.parse::<usize>().ok())
        .filter(|number| *number > 0);
    assert!(
        numbers.eq(1..=LINES),
        "a line is missing, or is there twice"
    );
    drop(viewers);
}

/// Asks for a log again and again, and never reads an answer.
fn viewer(daemon: &Daemon, path: &str) -> TcpStream {
    let address = daemon.url().trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).unwrap();
    let token = daemon.token();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
    connection
        .write_all(request.repeat(PAGES).as_bytes())
        .unwrap();
    connection
}

/// Whether the kernel has something from the daemon for a viewer that it cannot deliver.
fn holds_back(viewer: &TcpStream) -> bool {
    let theirs = as_listed(viewer.peer_addr().unwrap());
    let ours = as_listed(viewer.local_addr().unwrap());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    sockets.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        // The daemon's end of it; what stands first of the two queues is to be sent.
        words.next() == Some(&theirs)
            && words.next() == Some(&ours)
            && words
                .nth(1)
                .is_some_and(|queues| !queues.starts_with("00000000:"))
    })
}

/// An address as the kernel lists it.
fn as_listed(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else {
        panic!("{address} is listed elsewhere");
    };
    let host = u32::from_ne_bytes(address.ip().octets());
    format!("{host:08X}:{:04X}", address.port())
}

/// What it has in memory, in bytes.
fn memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes * 1024
}
