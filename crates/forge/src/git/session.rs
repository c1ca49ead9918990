//! Speaks to one remote over http, from the first request to the last byte of a pack.
//!
//! This is our own client and not libgit2's, which cannot connect to exactly the addresses that were checked, refuse
//! redirects to another port, abandon a server that trickles, or stop at a number of bytes before they are kept.
//! libgit2 only gets the bytes that came in here.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use secrecy::ExposeSecret;
use url::{Host, Url};

use super::credentials::Login;
use super::limits::Watch;
use super::{Error, RemoteUrl, UrlRules};
use crate::one_line::one_line;

/// How long it may take to resolve a name and to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// How many bytes the list of branches and tags may have. Forges list every pull request as well.
pub(super) const LIST_BYTES: usize = 64 << 20;

/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// A user agent that servers take for git's; some serve no other client.
const AGENT: &str = concat!("git/2.0 (trainyard ", env!("CARGO_PKG_VERSION"), ")");

/// The media type of requests to servers of Git LFS, and the longest answer, in bytes.
const LFS: &str = "application/vnd.git-lfs+json";
const LFS_ANSWER: usize = 256 << 10;

const SERVICE: &str = "git-upload-pack";

/// A conversation with one remote.
#[derive(Debug)]
pub(super) struct Session {
    runtime: tokio::runtime::Runtime,
    client: Client,
    url: RemoteUrl,
    rules: UrlRules,
    login: Option<Login>,
    watch: Arc<Watch>,
    state: Mutex<State>,
    received: AtomicUsize,
}

#[derive(Debug)]
struct State {
    /// The repository's address, after redirects.
    base: Url,
    /// Whether the server asked for the password, so that it is sent.
    is_asked: bool,
    /// The error of this conversation, since libgit2 passes on texts alone.
    failure: Option<Error>,
}

impl Session {
    /// Resolves the host, and rejects it if it is in a place that is not followed.
    pub(super) fn open(
        url: &RemoteUrl,
        login: Option<&Login>,
        rules: &UrlRules,
        watch: Arc<Watch>,
    ) -> Result<Self, Error> {
        let failed = |why: String| Error::Unreachable {
            url: url.to_string(),
            why,
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(format!("threads cannot be started: {error}")))?;
        let mut client = Client::builder()
            .user_agent(AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .referer(false)
            .connect_timeout(CONNECT);
        let base = url.url().clone();
        if let Some(Host::Domain(name)) = base.host() {
            let port = base.port_or_known_default().unwrap_or(443);
            let found = runtime.block_on(look_up(name, port));
            match found {
                Ok(addresses) => {
                    for address in &addresses {
                        admit(url, rules, name, address.ip())?;
                    }
                    client = client.resolve_to_addrs(name, &addresses);
                }
                // A proxy resolves names by itself, also those that are unknown here.
                Err(_) if has_proxy() => {}
                Err(why) => return Err(failed(why)),
            }
        }
        let client = client.build().map_err(|error| failed(words(&error)))?;
        Ok(Self {
            runtime,
            client,
            url: url.clone(),
            rules: rules.clone(),
            login: login.cloned(),
            watch,
            state: Mutex::new(State {
                base,
                is_asked: false,
                failure: None,
            }),
            received: AtomicUsize::new(0),
        })
    }

    /// The error of this conversation, where libgit2 only reports that there was one.
    pub(super) fn failure(&self) -> Option<Error> {
        self.state().failure.take()
    }

    /// Keeps the error for the caller of libgit2, and returns it in a form that passes through libgit2.
    pub(super) fn keep(&self, error: Error) -> std::io::Error {
        let shown = one_line(&error.to_string(), 300).replace('\0', " ");
        self.state().failure.get_or_insert(error);
        std::io::Error::other(shown)
    }

    /// The remote's list of refs, as it came.
    pub(super) fn list(&self) -> Result<Vec<u8>, Error> {
        let mut left = REDIRECTS;
        let response = loop {
            let mut target = self.state().base.clone();
            let path = format!("{}/info/refs", target.path().trim_end_matches('/'));
            target.set_path(&path);
            target.set_query(Some(&format!("service={SERVICE}")));
            let response = self.ask(|| self.client.request(Method::GET, target.clone()))?;
            if !response.status().is_redirection() {
                break response;
            }
            let next = self.redirected(&target, &response)?;
            left = left.checked_sub(1).ok_or_else(|| Error::Unreachable {
                url: self.url.to_string(),
                why: format!("it redirects more than {REDIRECTS} times"),
            })?;
            self.state().base = next;
        };
        let mut response = self.answer(response, "advertisement")?;
        let mut list = Vec::new();
        while let Some(bytes) = self.next(&mut response)? {
            list.extend_from_slice(&bytes);
            if list.len() > LIST_BYTES {
                return Err(list_too_long(&self.url));
            }
        }
        Ok(list)
    }

    /// Sends a request for objects. The answer is read with [`Self::next`].
    pub(super) fn post(&self, request: Vec<u8>) -> Result<Response, Error> {
        let mut target = self.state().base.clone();
        let path = format!("{}/{SERVICE}", target.path().trim_end_matches('/'));
        target.set_path(&path);
        let response = self.ask(|| {
            self.client
                .request(Method::POST, target.clone())
                .header(CONTENT_TYPE, format!("application/x-{SERVICE}-request"))
                .header(ACCEPT, format!("application/x-{SERVICE}-result"))
                .body(request.clone())
        })?;
        if response.status().is_redirection() {
            return Err(self.elsewhere(&response));
        }
        self.answer(response, "result")
    }

    /// Sends a request to a server of Git LFS, whose answers are short.
    pub(super) fn ask_lfs(
        &self,
        target: &Url,
        headers: &HeaderMap,
        question: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let response = self.ask(|| {
            self.client
                .request(Method::POST, target.clone())
                .headers(headers.clone())
                .header(CONTENT_TYPE, LFS)
                .header(ACCEPT, LFS)
                .body(question.to_vec())
        })?;
        let mut response = self.good(response)?;
        let mut answer = Vec::new();
        while let Some(bytes) = self.next(&mut response)? {
            answer.extend_from_slice(&bytes);
            if answer.len() > LFS_ANSWER {
                return Err(Error::TooLarge {
                    what: self.url.to_string(),
                    why: format!("an answer of Git LFS may have {} KiB", LFS_ANSWER >> 10),
                });
            }
        }
        Ok(answer)
    }

    /// Requests a content. The answer is read with [`Self::next`].
    pub(super) fn get(&self, target: &Url, headers: &HeaderMap) -> Result<Response, Error> {
        let response = self.ask(|| {
            self.client
                .request(Method::GET, target.clone())
                .headers(headers.clone())
        })?;
        self.good(response)
    }

    fn good(&self, response: Response) -> Result<Response, Error> {
        let status = response.status();
        if status.is_redirection() {
            return Err(self.elsewhere(&response));
        }
        if !status.is_success() {
            return Err(Error::of_status(self.url.to_string(), status.as_u16()));
        }
        Ok(response)
    }

    /// The next piece of an answer; `None` at its end.
    pub(super) fn next(&self, response: &mut Response) -> Result<Option<Vec<u8>>, Error> {
        let bytes = self
            .held(async { response.chunk().await })?
            .map_err(|error| self.broken(&error))?;
        let count = bytes.as_ref().map_or(0, |bytes| bytes.len());
        self.watch.waited(Duration::ZERO, count as u64);
        let received = self.received.fetch_add(count, Ordering::Relaxed) + count;
        if !self.watch.goes_on(received) {
            return Err(self.stopped());
        }
        Ok(bytes.map(|bytes| bytes.to_vec()))
    }

    /// Sends a request, and once more with the password if the server asks for it: never more often, as wrong
    /// passwords lock accounts.
    fn ask(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, Error> {
        let refused = |why: &str| Error::AuthenticationFailed {
            url: self.url.to_string(),
            why: why.to_owned(),
        };
        let is_shown = self.state().is_asked;
        let response = self.send(request(), is_shown)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        if is_shown {
            return Err(refused("the user name or password is not accepted"));
        }
        if self.login.is_none() {
            return Err(refused(
                "it asks for a user name and password, and none are set",
            ));
        }
        if !takes_passwords(response.headers()) {
            return Err(refused("it takes no user name and password"));
        }
        self.url.refuse_open_password(&self.rules)?;
        self.state().is_asked = true;
        let response = self.send(request(), true)?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(refused("the user name or password is not accepted"));
        }
        Ok(response)
    }

    fn send(&self, mut request: RequestBuilder, with_password: bool) -> Result<Response, Error> {
        if let Some(login) = self.login.as_ref().filter(|_| with_password) {
            let password = login.password.expose_secret();
            request = request.basic_auth(&login.username, Some(password));
        }
        self.held(request.send())?
            .map_err(|error| self.broken(&error))
    }

    /// The target of a redirect of the list: another path, or https instead of http, of the same host.
    fn redirected(&self, from: &Url, response: &Response) -> Result<Url, Error> {
        let target = response
            .headers()
            .get(LOCATION)
            .and_then(|target| target.to_str().ok())
            .and_then(|target| from.join(target).ok())
            .ok_or_else(|| self.elsewhere(response))?;
        let same_place = target.scheme() == from.scheme()
            && target.port_or_known_default() == from.port_or_known_default();
        let to_https = from.scheme() == "http"
            && from.port().is_none()
            && target.scheme() == "https"
            && target.port().is_none();
        let has_login = !target.username().is_empty() || target.password().is_some();
        if target.host() != from.host() || !(same_place || to_https) || has_login {
            return Err(self.elsewhere(response));
        }
        let mut base = target;
        base.set_query(None);
        base.set_fragment(None);
        let Some(path) = base
            .path()
            .strip_suffix("/info/refs")
            .map(ToOwned::to_owned)
        else {
            return Err(self.elsewhere(response));
        };
        base.set_path(&path);
        Ok(base)
    }

    fn elsewhere(&self, response: &Response) -> Error {
        let target = response.headers().get(LOCATION);
        let target = target.map_or("nowhere".into(), |target| {
            String::from_utf8_lossy(target.as_bytes())
        });
        // The part after a question mark may be secret.
        let target = target.split(['?', '#']).next().unwrap_or_default();
        Error::Unreachable {
            url: self.url.to_string(),
            why: format!(
                "redirects to other hosts, ports or services are not followed (this one leads to {}); \
                 if that is right, give this address to `trainyard repo set`",
                one_line(target, 200)
            ),
        }
    }

    fn answer(&self, response: Response, part: &str) -> Result<Response, Error> {
        let status = response.status();
        if !status.is_success() {
            return Err(Error::of_status(self.url.to_string(), status.as_u16()));
        }
        let kind = format!("application/x-{SERVICE}-{part}");
        let is_git =
            response.headers().get(CONTENT_TYPE) == HeaderValue::from_str(&kind).ok().as_ref();
        if !is_git {
            return Err(Error::NotFound {
                url: self.url.to_string(),
                why: "the server there does not speak git".to_owned(),
            });
        }
        Ok(response)
    }

    fn held<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let received = || self.received.load(Ordering::Relaxed);
        self.watch.held(&self.runtime, &self.url, received, work)
    }

    fn stopped(&self) -> Error {
        Error::of_watch(&self.url, &self.watch).unwrap_or(Error::Cancelled)
    }

    fn broken(&self, error: &reqwest::Error) -> Error {
        let (url, why) = (self.url.to_string(), words(error));
        if error.is_timeout() {
            return Error::TimedOut { url, why };
        }
        if why.contains("certificate") {
            return Error::Untrusted { url, why };
        }
        Error::Unreachable { url, why }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn list_too_long(url: &RemoteUrl) -> Error {
    Error::TooLarge {
        what: url.to_string(),
        why: format!(
            "its list of branches and tags may have {} MiB",
            LIST_BYTES >> 20
        ),
    }
}

pub(super) fn admit(
    url: &RemoteUrl,
    rules: &UrlRules,
    name: &str,
    ip: IpAddr,
) -> Result<(), Error> {
    rules.admit(name, ip).map_err(|why| Error::InvalidUrl {
        url: url.to_string(),
        why,
    })
}

pub(super) async fn look_up(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::time::timeout(CONNECT, tokio::net::lookup_host((name, port)))
        .await
        .map_err(|_| {
            format!(
                "the name {name} was not looked up within {} s",
                CONNECT.as_secs()
            )
        })?
        .map_err(|error| format!("the name {name} cannot be looked up: {error}"))?;
    // Without a port, the port of the request counts, which a redirect to https changes.
    let found = found.map(|address| SocketAddr::new(address.ip(), 0));
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() {
        return Err(format!("the name {name} has no address"));
    }
    Ok(found)
}

/// Whether a proxy is set, as `reqwest` reads it from the environment.
fn has_proxy() -> bool {
    super::worker::PROXIES
        .iter()
        .filter(|name| !name.eq_ignore_ascii_case("no_proxy"))
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn takes_passwords(headers: &HeaderMap) -> bool {
    let mut ways = headers.get_all(WWW_AUTHENTICATE).iter().peekable();
    ways.peek().is_none()
        || ways.any(|way| {
            way.to_str()
                .is_ok_and(|way| way.to_ascii_lowercase().contains("basic"))
        })
}

/// The innermost message of an error: the outer ones only say that a request failed.
fn words(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    one_line(&inner.to_string(), 300)
}
