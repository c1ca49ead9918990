//! A server on a free port that answers as a test wants, and records the requests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse, Response};
use trainyard_api::Client;

/// The token of all tests.
pub(crate) const TOKEN: &str = "trainyard_canary";

/// A request that the server received: method, path with query, and the `Authorization` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) authorization: String,
}

type Answers = Arc<dyn Fn(usize, &str) -> Response + Send + Sync>;

/// A running server; stopped when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Answers each request by its index, and its path with query.
    pub(crate) async fn new(
        answers: impl Fn(usize, &str) -> Response + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: Answers = Arc::new(answers);
        let router = Router::new()
            .fallback(answer)
            .with_state((Arc::clone(&asked), answers));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            asked,
            task,
        }
    }

    /// A client for it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&format!("http://{}/", self.address), TOKEN).unwrap()
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The paths and queries of the requests so far.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.target).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    State((asked, answers)): State<(Arc<Mutex<Vec<Asked>>>, Answers)>,
    request: Request,
) -> Response {
    let header = request.headers().get(AUTHORIZATION);
    let target = request.uri().to_string();
    let place = {
        let mut asked = asked.lock().unwrap();
        asked.push(Asked {
            method: request.method().to_string(),
            target: target.clone(),
            authorization: header
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default(),
        });
        asked.len() - 1
    };
    answers(place, &target)
}

/// An answer with status 200.
pub(crate) fn json(text: &str) -> Response {
    (StatusCode::OK, text.to_owned()).into_response()
}

/// An answer with a status.
pub(crate) fn status(code: u16, text: &str) -> Response {
    (StatusCode::from_u16(code).unwrap(), text.to_owned()).into_response()
}
