//! The reading side: which daemon a command is meant for.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use thiserror::Error;

use super::{DEV_DATA_DIR, ENDPOINT, Endpoint, Places, TOKEN, token_in};

/// What the command line was given.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--url` or `TRAINYARD_URL`.
    pub url: Option<String>,
    /// `--token` or `TRAINYARD_TOKEN`.
    pub token: Option<SecretString>,
    /// `--data-dir` or `TRAINYARD_DATA_DIR`.
    pub data_dir: Option<PathBuf>,
}

/// A daemon to talk to.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its address.
    pub url: String,
    /// The token to show; the daemon refuses most without one.
    pub token: Option<SecretString>,
    /// The data folder that told, where it was not given by flags or variables.
    pub data_dir: Option<PathBuf>,
}

/// No daemon was found.
#[derive(Debug, Error)]
pub enum NotFound {
    /// Nothing tells of one.
    #[error(
        "no daemon is known here: start one with `trainyard dev`, or say where it is with --url and \
         --token (TRAINYARD_URL, TRAINYARD_TOKEN) or --data-dir"
    )]
    Nowhere,
    /// The data folder's daemon does not run.
    #[error(
        "the daemon of {} does not run: start it, or say where another is with --url and --token",
        data_dir.display()
    )]
    Stopped {
        /// The data folder.
        data_dir: PathBuf,
    },
    /// What a daemon wrote cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Finds the daemon that a command is meant for.
///
/// # Errors
/// None is known, the one that is known does not run, or its files cannot be read.
pub fn find(given: Given, places: &Places) -> Result<Found, NotFound> {
    let known = match &given.data_dir {
        Some(folder) => in_folder(folder).and_then(|known| {
            known
                .ok_or_else(|| NotFound::Stopped {
                    data_dir: folder.clone(),
                })
                .map(Some)
        }),
        None => nearby(places),
    };
    match (given.url, given.token) {
        // What lies around is no obstacle for who says it all.
        (Some(url), Some(token)) => Ok(Found {
            url,
            token: Some(token),
            data_dir: None,
        }),
        (Some(url), None) => {
            // A token goes to the daemon that it belongs to, and to no other address.
            let token = known
                .ok()
                .flatten()
                .filter(|known| known.endpoint.url == url);
            Ok(Found {
                url,
                token: token.and_then(|known| known.token),
                data_dir: None,
            })
        }
        (None, token) => {
            let known = known?.ok_or(NotFound::Nowhere)?;
            Ok(Found {
                url: known.endpoint.url,
                token: token.or(known.token),
                data_dir: Some(known.folder),
            })
        }
    }
}

struct Known {
    folder: PathBuf,
    endpoint: Endpoint,
    token: Option<SecretString>,
}

fn nearby(places: &Places) -> Result<Option<Known>, NotFound> {
    let here = places.working_dir.join(DEV_DATA_DIR);
    if let Some(known) = in_folder(&here)? {
        return Ok(Some(known));
    }
    // Something else may be kept in a folder of that name; a token is a daemon's.
    if here.join(TOKEN).exists() {
        return Err(NotFound::Stopped { data_dir: here });
    }
    let Some(pointer) = &places.pointer else {
        return Ok(None);
    };
    match std::fs::read(pointer) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(NotFound::Unreadable {
            path: pointer.clone(),
            source,
        }),
        Ok(bytes) => {
            let folder = PathBuf::from(OsStr::from_bytes(bytes.trim_ascii_end()));
            in_folder(&folder)?
                .map(Some)
                .ok_or(NotFound::Stopped { data_dir: folder })
        }
    }
}

/// What the daemon of a data folder wrote; `None` where it does not run.
fn in_folder(folder: &Path) -> Result<Option<Known>, NotFound> {
    let path = folder.join(ENDPOINT);
    let unreadable = |path: PathBuf| move |source| NotFound::Unreadable { path, source };
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(unreadable(path.clone()))?,
    };
    let endpoint = serde_json::from_str(&text)
        .map_err(io::Error::from)
        .map_err(unreadable(path))?;
    let token = token_in(folder).map_err(unreadable(folder.join(TOKEN)))?;
    Ok(Some(Known {
        folder: folder.to_owned(),
        endpoint,
        token,
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;
    use tempfile::TempDir;

    use super::super::{Published, publish, read_token};
    use super::*;
    use crate::data_dir::DataDir;

    struct Scene {
        place: TempDir,
        places: Places,
    }

    impl Scene {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let places = Places {
                working_dir: place.path().to_owned(),
                pointer: Some(place.path().join("config/newest-daemon")),
            };
            Self { place, places }
        }

        fn daemon(&self, folder: &str, url: &str, token: &str) -> (DataDir, Published) {
            let data = DataDir::open(&self.place.path().join(folder)).unwrap();
            let published = publish(&data, url, &SecretString::from(token), &self.places).unwrap();
            (data, published)
        }

        fn find(&self, given: Given) -> Result<(String, String), NotFound> {
            let found = find(given, &self.places)?;
            let token = found.token.map(|token| token.expose_secret().to_owned());
            Ok((found.url, token.unwrap_or_default()))
        }
    }

    fn pair(url: &str, token: &str) -> (String, String) {
        (url.to_owned(), token.to_owned())
    }

    #[test]
    fn what_is_given_wins_over_what_lies_here() {
        let scene = Scene::new();
        let _daemon = scene.daemon(DEV_DATA_DIR, "http://a", "ta");
        let given = |url: Option<&str>, token: Option<&str>| Given {
            url: url.map(str::to_owned),
            token: token.map(SecretString::from),
            data_dir: None,
        };
        assert_eq!(
            scene.find(given(None, None)).unwrap(),
            pair("http://a", "ta")
        );
        assert_eq!(
            scene.find(given(Some("http://b"), Some("tb"))).unwrap(),
            pair("http://b", "tb")
        );
        assert_eq!(
            scene.find(given(None, Some("tb"))).unwrap(),
            pair("http://a", "tb")
        );
        assert_eq!(
            scene.find(given(Some("http://a"), None)).unwrap(),
            pair("http://a", "ta")
        );
    }

    #[test]
    fn a_token_is_not_sent_to_another_address() {
        let scene = Scene::new();
        let _daemon = scene.daemon(DEV_DATA_DIR, "http://a", "ta");
        let given = Given {
            url: Some("http://evil".to_owned()),
            ..Given::default()
        };
        assert_eq!(scene.find(given).unwrap(), pair("http://evil", ""));
    }

    #[test]
    fn a_folder_given_wins_over_here_and_here_over_the_newest() {
        let scene = Scene::new();
        let _here = scene.daemon(DEV_DATA_DIR, "http://h", "th");
        let _other = scene.daemon("other", "http://o", "to");
        let (_newest, published) = scene.daemon("newest", "http://n", "tn");
        let mut elsewhere = scene.places.clone();
        elsewhere.working_dir = scene.place.path().join("elsewhere");
        assert_eq!(find(Given::default(), &elsewhere).unwrap().url, "http://n");
        published.retract().unwrap();
        assert!(matches!(
            find(Given::default(), &elsewhere),
            Err(NotFound::Stopped { .. })
        ));
        assert_eq!(
            scene.find(Given::default()).unwrap(),
            pair("http://h", "th")
        );
        let given = Given {
            data_dir: Some(scene.place.path().join("other")),
            ..Given::default()
        };
        assert_eq!(scene.find(given).unwrap(), pair("http://o", "to"));
    }

    #[test]
    fn a_stopped_daemon_is_named_and_no_other_is_taken_for_it() {
        let scene = Scene::new();
        let (here, published) = scene.daemon(DEV_DATA_DIR, "http://h", "th");
        published.retract().unwrap();
        let _newest = scene.daemon("newest", "http://n", "tn");
        let error = scene.find(Given::default()).unwrap_err();
        assert!(matches!(error, NotFound::Stopped { .. }), "{error}");
        assert!(error.to_string().contains(DEV_DATA_DIR), "{error}");
        let token = read_token(&here).unwrap().unwrap();
        assert_eq!(token.expose_secret(), "th");
    }

    #[test]
    fn with_nothing_to_go_by_the_message_says_what_to_do() {
        let error = Scene::new().find(Given::default()).unwrap_err().to_string();
        assert!(
            error.contains("trainyard dev") && error.contains("TRAINYARD_URL"),
            "{error}"
        );
    }

    #[test]
    fn only_the_user_may_read_the_token() {
        let scene = Scene::new();
        let (data, published) = scene.daemon("data", "http://a", "ta");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&published.token), 0o600);
        assert_eq!(mode(&data.path().join(ENDPOINT)), 0o644);
    }
}
