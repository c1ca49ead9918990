//! A server that simulates the daemon for the binary.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::runtime::Runtime;

use crate::binary::{Answer, Place};

/// The token of all tests.
pub(crate) const TOKEN: &str = "trainyard_canary";

/// A request that the daemon received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `POST /repos`
    pub(crate) what: String,
    pub(crate) body: String,
    pub(crate) authorization: String,
}

type Rule = dyn Fn(usize, &str, &str) -> (u16, String) + Send + Sync;

#[derive(Clone)]
struct Played {
    asked: Arc<Mutex<Vec<Asked>>>,
    rule: Arc<Rule>,
}

/// A running server; it ends with the test.
pub(crate) struct Daemon {
    address: SocketAddr,
    played: Played,
    place: Place,
    _runtime: Runtime,
}

impl Daemon {
    /// Answers by the index of the request, its method and path (`GET /runs/7`), and its query.
    pub(crate) fn new(
        rule: impl Fn(usize, &str, &str) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let played = Played {
            asked: Arc::default(),
            rule: Arc::new(rule),
        };
        let router = Router::new().fallback(answer).with_state(played.clone());
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            played,
            place: Place::new(),
            _runtime: runtime,
        }
    }

    /// Answers one request with a JSON text, and all others with 404.
    pub(crate) fn with(what: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self::new(move |_, asked, _| {
            if asked == what {
                (200, text.clone())
            } else {
                (
                    404,
                    format!(r#"{{"code":"not_found","message":"asked {asked}"}}"#),
                )
            }
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Answer {
        self.call_with("", arguments)
    }

    pub(crate) fn call_with(&self, input: &str, arguments: &[&str]) -> Answer {
        let url = self.url();
        let variables = [("TRAINYARD_URL", url.as_str()), ("TRAINYARD_TOKEN", TOKEN)];
        self.place.call_with(input, &variables, arguments)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.played.asked.lock().unwrap().clone()
    }
}

async fn answer(
    State(played): State<Played>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().strip_prefix("/api/v1").unwrap_or(uri.path());
    let what = format!("{method} {path}");
    let header = headers.get(AUTHORIZATION);
    let place = {
        let mut asked = played.asked.lock().unwrap();
        asked.push(Asked {
            what: what.clone(),
            body: String::from_utf8(body.to_vec()).unwrap(),
            authorization: header
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default(),
        });
        asked.len() - 1
    };
    let (status, text) = (played.rule)(place, &what, uri.query().unwrap_or_default());
    (StatusCode::from_u16(status).unwrap(), text).into_response()
}
