//! The client: sends requests and decodes answers. The methods for each route are in `routes`.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::{ErrorBody, PREFIX, Readiness};

/// How long a whole answer may take. Long polls of the API end earlier.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same for a sync, which fetches from elsewhere.
pub(crate) const LONGEST_SYNC: Duration = Duration::from_secs(120);

/// How long a connection may stay silent in the middle of an answer.
const LONGEST_SILENCE: Duration = Duration::from_secs(125);

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// Why a call failed. None of the messages contains the token.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The address is not a valid daemon address.
    #[error("invalid daemon address `{url}`: expected http://HOST:PORT or https://HOST")]
    InvalidUrl {
        /// The given address.
        url: String,
        /// The address that was probably meant.
        meant: Option<String>,
    },
    /// The daemon did not answer.
    #[error("no daemon answers at {url}: {problem}")]
    Unreachable {
        /// The address that was called.
        url: String,
        /// The cause.
        problem: String,
    },
    /// The daemon answered before, and then not for about a minute. The text is the last error.
    #[error("{0}, and has not for a minute")]
    Lost(String),
    /// The daemon refused.
    #[error("{}", .body.message)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The daemon's error.
        body: ErrorBody,
    },
    /// The client cannot decode the answer.
    #[error("the daemon at {url} sent an answer that this version cannot read: {problem}")]
    NotUnderstood {
        /// Where it came from.
        url: String,
        /// The decoding error.
        problem: String,
    },
    /// The token has characters that cannot stand in an HTTP header.
    #[error("invalid token: it contains characters that tokens cannot have")]
    InvalidToken,
}

impl ClientError {
    /// Whether a retry may succeed: the daemon or its database may be restarting.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => {
                matches!(*status, 502..=504)
            }
            Self::InvalidUrl { .. }
            | Self::NotUnderstood { .. }
            | Self::InvalidToken
            | Self::Lost(_) => false,
        }
    }
}

/// A client of one daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

/// A download in pieces.
pub type Download = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, ClientError>> + Send>>;

/// A query; pairs that are `None` are left out.
pub(crate) type QueryPairs<'a> = [(&'a str, Option<String>)];

impl Client {
    /// A client for the daemon at `url`, `http://host:port`.
    ///
    /// # Errors
    /// `InvalidUrl`, `InvalidToken`, or an error from setting up the HTTP client.
    pub fn new(url: &str, token: &str) -> Result<Self, ClientError> {
        if !is_address(url) {
            let meant = Some(format!("http://{url}")).filter(|meant| is_address(meant));
            return Err(ClientError::InvalidUrl {
                url: url.to_owned(),
                meant,
            });
        }
        // Fails where another part of the program has installed the provider already: it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| ClientError::InvalidToken)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        let url = url.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder()
            .default_headers(headers)
            // A redirect could carry the token elsewhere, and the API has none.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(LONGEST_SILENCE)
            .build()
            .map_err(|error| ClientError::Unreachable {
                url: url.clone(),
                problem: root(&error),
            })?;
        Ok(Self { http, url })
    }

    /// Where the daemon is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A request whose whole answer must arrive within [`PATIENCE`].
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.unbounded(method, path).timeout(PATIENCE)
    }

    /// A request whose answer may be of any length, as long as bytes keep arriving.
    pub(crate) fn unbounded(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{PREFIX}{path}", self.url))
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &QueryPairs<'_>,
    ) -> Result<T, ClientError> {
        let set: Vec<(&str, &String)> = query
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_ref()?)))
            .collect();
        let request = self.request(Method::GET, path).query(&set);
        self.decode(self.answer(request).await?).await
    }

    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.decode(self.answer(self.request(method, path).json(body)).await?)
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.answer(self.request(Method::DELETE, path))
            .await
            .map(drop)
    }

    /// Sends a request and returns the answer if its status is a success.
    pub(crate) async fn answer(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ClientError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response
            .text()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let body = serde_json::from_str(&text).unwrap_or_else(|_| ErrorBody {
            code: "unknown".to_owned(),
            message: format!("{} answered {status}", self.url),
            help: (status == StatusCode::NOT_FOUND || status.is_redirection())
                .then(|| "is this the address of a Trainyard daemon, of this version?".to_owned()),
        });
        Err(ClientError::Refused {
            status: status.as_u16(),
            body,
        })
    }

    /// `/readyz`: outside of the API; its body is also read when its status is an error.
    pub(crate) async fn ready(&self) -> Result<Readiness, ClientError> {
        let request = self.http.get(format!("{}/readyz", self.url));
        let response = request.timeout(PATIENCE).send().await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        self.decode(response).await
    }

    pub(crate) async fn decode<T: DeserializeOwned>(
        &self,
        response: reqwest::Response,
    ) -> Result<T, ClientError> {
        let bytes = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::NotUnderstood {
            url: self.url.clone(),
            problem: error.to_string(),
        })
    }

    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let mut problem = root(error);
        // The words of rustls for an answer that is not TLS.
        if problem.contains("InvalidContentType")
            && let Some(rest) = self.url.strip_prefix("https://")
        {
            problem = format!("it does not speak TLS there; write http://{rest}");
        }
        ClientError::Unreachable {
            url: self.url.clone(),
            problem,
        }
    }
}

/// Whether requests can be sent there. `localhost:8080` also parses as a URL, with the scheme `localhost`.
fn is_address(url: &str) -> bool {
    reqwest::Url::parse(url)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// The root cause of an error: the message of the operating system.
fn root(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// Encodes a text as one segment of a path.
pub(crate) fn part(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
