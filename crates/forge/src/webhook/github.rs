//! Deliveries of GitHub: signed in `X-Hub-Signature-256` by HMAC-SHA-256 over the body, with the event and the
//! delivery's id in headers. The older `X-Hub-Signature` (SHA-1) is ignored.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::Sha256;

use super::{Delivery, Malformed, Push, Pushed, WebhookEvent};
use crate::git::{CommitSha, is_zero};
use crate::one_line::one_line;

pub(super) const SIGNATURE: &str = "x-hub-signature-256";
const EVENT: &str = "x-github-event";
const DELIVERY: &str = "x-github-delivery";

/// The longest delivery id, event name and pusher's name, in characters.
const LONGEST_WORD: usize = 128;

/// The longest name of a ref, in bytes.
const LONGEST_REF: usize = 1024;

pub(super) fn signature(secret: &SecretString, body: &[u8]) -> String {
    format!(
        "sha256={}",
        hex::encode(mac(secret, body).finalize().into_bytes())
    )
}

/// The signature that the headers have, if they have exactly one.
pub(super) fn claimed(headers: &HeaderMap) -> Option<[u8; 32]> {
    decoded(one(headers, SIGNATURE)?)
}

fn mac(secret: &SecretString, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = keyed(secret);
    mac.update(body);
    mac
}

/// The HMAC that signs with a secret.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
pub(super) fn keyed(secret: &SecretString) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC takes a key of any length")
}

fn decoded(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.strip_prefix("sha256=")?, &mut bytes).ok()?;
    Some(bytes)
}

pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Delivery, Malformed> {
    let id = word(headers, DELIVERY)?;
    let event = match word(headers, EVENT)?.as_str() {
        "push" => push(&payload(headers, body)?)?,
        "ping" => WebhookEvent::Ping,
        other => WebhookEvent::Other(other.to_owned()),
    };
    Ok(Delivery { id, event })
}

#[derive(Deserialize)]
struct PushPayload {
    #[serde(rename = "ref")]
    reference: String,
    before: String,
    after: String,
    #[serde(default)]
    deleted: bool,
    pusher: Option<Pusher>,
}

#[derive(Deserialize)]
struct Pusher {
    name: Option<String>,
}

fn push(json: &[u8]) -> Result<WebhookEvent, Malformed> {
    // Nesting is harmless: serde_json bounds it in known fields, and skips unknown ones in a loop.
    let payload: PushPayload =
        serde_json::from_slice(json).map_err(|error| Malformed::new(error.to_string()))?;
    let name = &payload.reference;
    if name.len() > LONGEST_REF || name.chars().any(char::is_control) {
        return Err(Malformed::new(
            "`ref` is too long or holds control characters",
        ));
    }
    let reference = if let Some(branch) = name.strip_prefix("refs/heads/") {
        Pushed::Branch(branch.to_owned())
    } else if let Some(tag) = name.strip_prefix("refs/tags/") {
        Pushed::Tag(tag.to_owned())
    } else {
        return Ok(WebhookEvent::Other(
            "push to a ref that is neither a branch nor a tag".to_owned(),
        ));
    };
    let after = commit("after", &payload.after)?.filter(|_| !payload.deleted);
    let pusher = payload.pusher.and_then(|pusher| pusher.name);
    Ok(WebhookEvent::Push(Push {
        reference,
        before: commit("before", &payload.before)?,
        after,
        pusher: pusher
            .map(|name| one_line(&name, LONGEST_WORD))
            .filter(|name| !name.is_empty()),
    }))
}

fn commit(key: &str, text: &str) -> Result<Option<CommitSha>, Malformed> {
    if is_zero(text) {
        return Ok(None);
    }
    CommitSha::new(text)
        .map(Some)
        .map_err(|error| Malformed::new(format!("`{key}` is {error}")))
}

/// The JSON within the body; a hook may be set to send it as a form.
fn payload<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Malformed> {
    let is_form = one(headers, CONTENT_TYPE.as_str())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    if !is_form {
        return Ok(Cow::Borrowed(body));
    }
    url::form_urlencoded::parse(body)
        .find(|(key, _)| key == "payload")
        .map(|(_, value)| Cow::Owned(value.into_owned().into_bytes()))
        .ok_or_else(|| Malformed::new("the form has no `payload`"))
}

/// A header that is there exactly once, as text.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        None
    } else {
        value.to_str().ok()
    }
}

fn word(headers: &HeaderMap, name: &str) -> Result<String, Malformed> {
    one(headers, name)
        .filter(|value| (1..=LONGEST_WORD).contains(&value.len()))
        .filter(|value| value.bytes().all(|byte| byte.is_ascii_graphic()))
        .map(ToOwned::to_owned)
        .ok_or_else(|| Malformed::new(format!("it has no valid `{name}` header")))
}
