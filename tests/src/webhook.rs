//! Webhook deliveries as a forge sends them.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

/// A push delivery in GitHub's form.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub id: String,
    pub body: String,
    /// The value of `X-Hub-Signature-256`.
    pub signature: String,
}

/// The hash that means no commit.
pub const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

impl Delivery {
    /// A signed delivery of a push.
    #[must_use]
    pub fn of_push(secret: &str, id: &str, branch: &str, before: &str, after: &str) -> Self {
        let body = json!({
            "ref": format!("refs/heads/{branch}"),
            "before": before,
            "after": after,
            "created": before == NO_COMMIT,
            "deleted": after == NO_COMMIT,
            "forced": false,
            "pusher": {"name": "ada", "email": "ada@example.org"},
            "repository": {"full_name": "team/model"},
        })
        .to_string();
        let signature = sign(secret, &body);
        Self {
            id: id.to_owned(),
            body,
            signature,
        }
    }

    /// Sends it. Returns the status code.
    ///
    /// # Panics
    /// When the daemon does not answer.
    #[must_use]
    pub fn send(&self, url: &str, repo: &str) -> u16 {
        self.try_send(url, repo).unwrap()
    }

    /// Sends it. Returns the status code.
    ///
    /// # Errors
    /// The daemon does not answer: whether it has the delivery is not known.
    ///
    /// # Panics
    /// When nothing can be sent at all.
    pub fn try_send(&self, url: &str, repo: &str) -> Result<u16, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(self.post(&crate::daemon::http_client(), url, repo))
    }

    /// Sends it, at the same time as others. Returns the status code.
    ///
    /// # Errors
    /// As [`Delivery::try_send`].
    pub async fn post(
        &self,
        client: &reqwest::Client,
        url: &str,
        repo: &str,
    ) -> Result<u16, String> {
        let answer = client
            .post(format!("{url}/hooks/github/{repo}"))
            .header("X-GitHub-Event", "push")
            .header("X-GitHub-Delivery", &self.id)
            .header("X-Hub-Signature-256", &self.signature)
            .header("Content-Type", "application/json")
            .body(self.body.clone())
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(answer.status().as_u16()),
            Err(problem) => Err(problem.to_string()),
        }
    }
}

/// The signature of a body, in GitHub's form.
///
/// # Panics
/// Never: any secret is a key.
#[must_use]
pub fn sign(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}
