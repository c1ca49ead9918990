//! The configurations of reverse proxies in `deploy/README.md` work as they stand there: with nginx and Caddy of
//! Debian, a large webhook arrives with its signature, and a followed log comes line by line.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use trainyard_tests::cli::command;
use trainyard_tests::daemon::{Daemon, http_client};
use trainyard_tests::place::Place;
use trainyard_tests::scene::{BOUND, Scene, WEBHOOK_SECRET};
use trainyard_tests::wait::until;
use trainyard_tests::webhook::{Delivery, sign};

/// More than nginx takes by itself, and less than `limits.webhook`.
const LARGE: usize = 4 << 20;

/// A running proxy; killed when it is dropped.
struct Proxy {
    child: Child,
    url: String,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The configuration in `deploy/README.md` after these words.
fn documented(words: &str) -> &'static str {
    let page = include_str!("../../deploy/README.md");
    let (_, rest) = page.split_once(words).unwrap();
    let block = rest.split("```").nth(1).unwrap();
    block.split_once('\n').unwrap().1
}

/// The text with another one in place of `old`, which is in it.
#[track_caller]
fn replaced(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "`{old}` is not in {text}");
    text.replace(old, new)
}

/// Runs a command that has to end well.
#[track_caller]
fn good(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .env("HOME", "/nonexistent")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `make setup` installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts a proxy on `port`, and waits until it listens.
fn start(program: &str, arguments: &[&str], place: &Place, port: u16, scheme: &str) -> Proxy {
    let child = Command::new(program)
        .args(arguments)
        .env("HOME", place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let proxy = Proxy {
        child,
        url: format!("{scheme}://127.0.0.1:{port}"),
    };
    until(program, BOUND, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
    });
    proxy
}

fn nginx(daemon: &Daemon, place: &Place) -> Proxy {
    let port = free_port();
    let path = |name: &str| place.join(name).display().to_string();
    good(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &path("privkey.pem"),
            "-out",
            &path("fullchain.pem"),
        ],
    );
    let server = documented("\nnginx:");
    let server = replaced(server, "listen 443", &format!("listen 127.0.0.1:{port}"));
    let certificates = "/etc/letsencrypt/live/trainyard.example.org";
    let server = replaced(&server, certificates, &path(""));
    let server = replaced(&server, "http://127.0.0.1:8080", daemon.url());
    let folder = path("");
    let whole = format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n\
         http {{\naccess_log off;\nclient_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/fastcgi;\nuwsgi_temp_path {folder}/uwsgi;\nscgi_temp_path {folder}/scgi;\n{server}}}\n"
    );
    let file = place.write("nginx.conf", &whole).display().to_string();
    good("/usr/sbin/nginx", &["-t", "-q", "-c", &file]);
    start("/usr/sbin/nginx", &["-c", &file], place, port, "https")
}

fn caddy(daemon: &Daemon, place: &Place) -> Proxy {
    let port = free_port();
    let site = documented("Caddy fetches a certificate by itself:");
    let file = place.write("documented", site).display().to_string();
    good(
        "caddy",
        &["adapt", "--config", &file, "--adapter", "caddyfile"],
    );
    // A certificate would need a public name: this one has no TLS.
    let address = format!("http://127.0.0.1:{port}");
    let site = replaced(site, "trainyard.example.org", &address);
    let upstream = daemon.url().trim_start_matches("http://");
    let site = replaced(&site, "127.0.0.1:8080", upstream);
    let whole = format!("{{\n    admin off\n    auto_https off\n}}\n{site}");
    let file = place.write("Caddyfile", &whole).display().to_string();
    let arguments = ["run", "--config", &file, "--adapter", "caddyfile"];
    start("caddy", &arguments, place, port, "http")
}

/// Sends a webhook to where the certificate is a test's own.
fn send(delivery: &Delivery, url: &str) -> u16 {
    let _provider = http_client();
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(delivery.post(&client, url, "model"));
    answer.unwrap()
}

/// A repo whose stage prints a line and waits, followed by a daemon behind the proxy.
fn a_large_webhook_and_a_followed_log_pass(proxy: impl FnOnce(&Daemon, &Place) -> Proxy) {
    let scene = Scene::plan()
        .options(&["--poll-every", "1h"])
        .webhooks()
        .dag("followed_log")
        .begin();
    let (daemon, place) = (&scene.daemon, &scene.place);
    let before = scene.remote.head();
    let after = scene.push("main", &[("change", "1")]);
    let proxy = proxy(daemon, place);

    let delivery = scene.delivery("d-1", &before, &after);
    let body = format!("{}{}", delivery.body, " ".repeat(LARGE));
    let delivery = Delivery {
        signature: sign(WEBHOOK_SECRET, &body),
        body,
        ..delivery
    };
    assert_eq!(send(&delivery, &proxy.url), 202);

    let run = scene.first_run().to_string();
    let certificate = place.join("fullchain.pem").display().to_string();
    let mut variables = vec![
        ("TRAINYARD_URL", proxy.url.as_str()),
        ("TRAINYARD_TOKEN", daemon.token()),
    ];
    if proxy.url.starts_with("https") {
        variables.push(("SSL_CERT_FILE", &certificate));
    }
    let mut follower = command(place.path(), &variables, &["run", "logs", &run, "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // The stage ends only after its first line came through the proxy.
    let first = lines.next().unwrap().unwrap();
    assert!(first.ends_with("begun"), "{first}");
    scene.witness().open("go");
    let last = lines.map(Result::unwrap).last().unwrap();
    assert!(last.ends_with("ended"), "{last}");
    assert!(follower.wait().unwrap().success());
}

#[test]
fn nginx_as_documented_passes_a_large_webhook_and_a_followed_log() {
    a_large_webhook_and_a_followed_log_pass(nginx);
}

#[test]
fn caddy_as_documented_passes_a_large_webhook_and_a_followed_log() {
    a_large_webhook_and_a_followed_log_pass(caddy);
}
