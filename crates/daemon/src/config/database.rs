//! The database, and how its address is shown without secrets.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use url::Url;

/// The text in place of a part that is not shown.
const HIDDEN: &str = "(hidden)";

/// Where the daemon's database is.
#[derive(Debug, Clone)]
pub enum Database {
    /// An external Postgres.
    Url(SecretString),
    /// A Postgres of our own ([`crate::postgres::OwnPostgres`]).
    Private {
        /// The folder of the Postgres programs; searched for without it.
        binaries: Option<PathBuf>,
        /// The image of a container to use instead of programs.
        image: Option<String>,
    },
}

impl Database {
    /// The address without password, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Url(url) => redacted(url),
            Self::Private { .. } => "a Postgres of its own".to_owned(),
        }
    }

    pub(super) fn is_private(&self) -> bool {
        matches!(self, Self::Private { .. })
    }
}

impl Serialize for Database {
    /// The address, without password.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}

/// Whether this is a valid URL of a Postgres.
pub(super) fn is_postgres(url: &SecretString) -> bool {
    let url = url.expose_secret();
    (url.starts_with("postgres://") || url.starts_with("postgresql://")) && Url::parse(url).is_ok()
}

/// The URL without password and parameters; a placeholder for a URL that is ambiguous.
fn redacted(secret: &SecretString) -> String {
    let text = secret.expose_secret();
    let Ok(url) = Url::parse(text) else {
        return HIDDEN.to_owned();
    };
    // An unencoded `/`, `?`, `#` or `@` in a password moves a part of it into another part of the URL. The number of
    // these signs shows that, and nothing is shown.
    let signs = text.matches('@').count();
    let with_user = usize::from(!url.username().is_empty());
    if signs != with_user || url.fragment().is_some() {
        return HIDDEN.to_owned();
    }
    let mut shown = format!("{}://", url.scheme());
    if with_user == 1 {
        shown.push_str(url.username());
        if url.password().is_some() {
            shown.push_str(":***");
        }
        shown.push('@');
    }
    shown.push_str(url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        shown.push_str(&format!(":{port}"));
    }
    shown.push_str(url.path());
    if let Some((_, socket)) = url.query_pairs().find(|(name, _)| name == "host") {
        shown.push_str(&format!("?host={socket}"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        redacted(&SecretString::from(url))
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(
            shown("postgres://ty:hush@db.example:5433/trainyard?sslmode=require"),
            "postgres://ty:***@db.example:5433/trainyard"
        );
        assert_eq!(
            shown("postgresql:///trainyard?host=/var/run/postgresql&password=hush"),
            "postgresql:///trainyard?host=/var/run/postgresql"
        );
        assert_eq!(
            shown("postgres://ty@%2Ftmp%2Fs/x"),
            "postgres://ty@%2Ftmp%2Fs/x"
        );
    }

    #[test]
    fn no_part_of_a_password_is_shown_however_it_is_written() {
        for url in [
            "postgres://ty:canary@h/d",
            "postgres://ty:can@ary@h/d",
            "postgres://ty:1/canary@h/d",
            "postgres://ty:1?canary@h/d",
            "postgres://ty:1#canary@h/d",
            "postgres://h/d?password=canary",
            "postgres://h/d#canary",
            "host=h password=canary",
            "canary",
        ] {
            let shown = shown(url);
            assert!(
                !shown.contains("canary") && !shown.contains("ary"),
                "{url}: {shown}"
            );
        }
    }
}
