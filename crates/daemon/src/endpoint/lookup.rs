//! The reading side: finds the daemon that a command is for.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, geteuid};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use url::{Host, Url};

use super::{DEV_DATA_DIR, ENDPOINT, Endpoint, Places, TOKEN, token_in};
use crate::private_file::{self, Links, Others};

/// The flags and variables of a command.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--url` or `TRAINYARD_URL`.
    pub url: Option<String>,
    /// `--token` or `TRAINYARD_TOKEN`.
    pub token: Option<SecretString>,
    /// `--data-dir` or `TRAINYARD_DATA_DIR`.
    pub data_dir: Option<PathBuf>,
}

/// A daemon that was found.
#[derive(Debug, Clone)]
pub struct Found {
    pub url: String,
    /// The token to send; the daemon rejects most requests without one.
    pub token: Option<SecretString>,
    /// The data folder that names the daemon, unless flags or variables gave its address.
    pub data_dir: Option<PathBuf>,
    /// A data folder here that no daemon of this user made: its content was ignored.
    pub ignored: Option<PathBuf>,
    /// The data folder of the daemon that started last, if that does not run and this is another one.
    pub stopped: Option<PathBuf>,
}

/// No daemon was found.
#[derive(Debug, Error)]
pub enum NotFound {
    /// No flag, variable or data folder names one.
    #[error(
        "no daemon is known here: start one with `trainyard dev`, or give its address with --url and \
         --token (TRAINYARD_URL, TRAINYARD_TOKEN) or --data-dir"
    )]
    Nowhere,
    /// Only a folder of unknown origin names one.
    #[error(
        "ignoring {}: it was not made by `trainyard dev` of this user, so its address and its token cannot be trusted. \
         Start a daemon of your own with `trainyard dev`, or give its address with --url and --token (TRAINYARD_URL, \
         TRAINYARD_TOKEN), or the whole path of its folder with --data-dir",
        data_dir.display()
    )]
    Stranger { data_dir: PathBuf },
    /// A token was given without an address.
    #[error(
        "a token is given without an address: give the address with --url (TRAINYARD_URL), or unset TRAINYARD_TOKEN. \
         A given token is never sent to an address that only a file names"
    )]
    TokenWithoutAddress,
    /// An address on another machine, where one on this machine is required.
    #[error(
        "the address in {} is not a loopback address (127.0.0.1, ::1): if it is right, give it with --url and --token \
         (TRAINYARD_URL, TRAINYARD_TOKEN)",
        data_dir.join(ENDPOINT).display()
    )]
    Elsewhere { data_dir: PathBuf },
    /// The data folder's daemon does not run.
    #[error(
        "the daemon of {} does not run: start it, or give the address of another one with --url and --token",
        data_dir.display()
    )]
    Stopped { data_dir: PathBuf },
    /// No daemon of this user runs.
    #[error(
        "the daemon of {}, which started last, does not run{others}: start one, or give the address of another one with \
         --url and --token",
        newest.display()
    )]
    NoneRuns {
        newest: PathBuf,
        others: OtherFolders,
    },
    /// A file of the daemon cannot be read, or is not valid.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
}

/// Other data folders whose daemons do not run, as a part of a message.
#[derive(Debug)]
pub struct OtherFolders(Vec<PathBuf>);

/// How many data folders a message lists.
const LISTED_AT_MOST: usize = 4;

impl fmt::Display for OtherFolders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().take(LISTED_AT_MOST);
        for (at, folder) in shown.enumerate() {
            f.write_str(if at == 0 { ", nor do those of " } else { ", " })?;
            write!(f, "{}", folder.display())?;
        }
        match self.0.len().saturating_sub(LISTED_AT_MOST) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Finds the daemon that a command is meant for.
///
/// # Errors
/// No daemon is known, the known one does not run, or its files cannot be read or trusted.
pub fn find(given: Given, places: &Places) -> Result<Found, NotFound> {
    let (mut ignored, mut stopped) = (None, None);
    let known = match &given.data_dir {
        Some(folder) => in_given_folder(folder, places).map(Some),
        None => nearby(places, &mut ignored, &mut stopped),
    };
    match (given.url, given.token) {
        // Address and token are given: problems with the data folder do not matter.
        (Some(url), Some(token)) => Ok(Found {
            url,
            token: Some(token),
            data_dir: None,
            ignored: None,
            stopped: None,
        }),
        (Some(url), None) => {
            // A token from a file is sent only to its own daemon, and to no other address.
            let token = known
                .ok()
                .flatten()
                .filter(|known| known.endpoint.url == url);
            Ok(Found {
                url,
                token: token.and_then(|known| known.token),
                data_dir: None,
                ignored,
                stopped: None,
            })
        }
        (None, token) => {
            let known = match (known?, ignored.clone()) {
                (Some(known), _) => known,
                (None, Some(data_dir)) => return Err(NotFound::Stranger { data_dir }),
                (None, None) => return Err(NotFound::Nowhere),
            };
            if let Some(token) = &token {
                may_have(token, &known, given.data_dir.is_some())?;
            }
            Ok(Found {
                url: known.endpoint.url,
                token: token.or(known.token),
                data_dir: Some(known.folder),
                ignored,
                stopped,
            })
        }
    }
}

/// Whether a given token may be sent to an address that a data folder names: if it is that folder's own token, or if
/// the folder was given as well and its daemon is on this machine.
fn may_have(token: &SecretString, known: &KnownDaemon, is_given: bool) -> Result<(), NotFound> {
    let own = known.token.as_ref();
    if own.is_some_and(|own| own.expose_secret() == token.expose_secret()) {
        return Ok(());
    }
    if !is_given {
        return Err(NotFound::TokenWithoutAddress);
    }
    known.is_on_this_machine()
}

struct KnownDaemon {
    folder: PathBuf,
    endpoint: Endpoint,
    token: Option<SecretString>,
}

impl KnownDaemon {
    /// Whether its process is there; one that was killed leaves its address behind.
    fn runs(&self) -> bool {
        let pid = i32::try_from(self.endpoint.pid).ok();
        pid.is_some_and(|pid| !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH)))
    }

    fn is_on_this_machine(&self) -> Result<(), NotFound> {
        let url = Url::parse(&self.endpoint.url).ok();
        let is_loopback = url.is_some_and(|url| match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        });
        if is_loopback {
            Ok(())
        } else {
            Err(NotFound::Elsewhere {
                data_dir: self.folder.clone(),
            })
        }
    }
}

/// The daemon of a given folder. An absolute path is trusted, since an operator wrote it; a relative path is trusted
/// only like a folder that lies here.
fn in_given_folder(folder: &Path, places: &Places) -> Result<KnownDaemon, NotFound> {
    let stopped = || NotFound::Stopped {
        data_dir: folder.to_owned(),
    };
    if folder.is_absolute() {
        return in_folder(folder)?.ok_or_else(stopped);
    }
    let here = places.working_dir.join(folder);
    if here.exists() && !places.known.has(&here) {
        return Err(NotFound::Stranger { data_dir: here });
    }
    let known = in_folder(&here)?.ok_or_else(stopped)?;
    known.is_on_this_machine()?;
    Ok(known)
}

fn nearby(
    places: &Places,
    ignored: &mut Option<PathBuf>,
    stopped: &mut Option<PathBuf>,
) -> Result<Option<KnownDaemon>, NotFound> {
    let here = places.working_dir.join(DEV_DATA_DIR);
    // A folder of that name may have another purpose; one with these files is a daemon's.
    let has_daemon_files = [ENDPOINT, TOKEN]
        .iter()
        .any(|file| here.join(file).symlink_metadata().is_ok());
    if has_daemon_files && !places.known.has(&here) {
        *ignored = Some(here);
    } else if has_daemon_files {
        let known = in_folder(&here)?.ok_or(NotFound::Stopped { data_dir: here })?;
        known.is_on_this_machine()?;
        return Ok(Some(known));
    }
    let Some(pointer) = &places.pointer else {
        return Ok(None);
    };
    let text = private_file::read(
        pointer,
        Others::Read,
        Links::Followed,
        &private_file::owners(),
    );
    match text {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(NotFound::Unreadable {
            path: pointer.clone(),
            source,
        }),
        Ok(text) => {
            let folder = PathBuf::from(OsStr::from_bytes(text.as_bytes().trim_ascii_end()));
            let newest = in_folder(&folder)?;
            if newest.as_ref().is_some_and(KnownDaemon::runs) {
                return Ok(newest);
            }
            let others = places
                .known
                .all()
                .into_iter()
                .filter(|other| *other != folder);
            let others: Vec<PathBuf> = others.collect();
            if let Some(other) = newest_running(&others) {
                *stopped = Some(folder);
                return Ok(Some(other));
            }
            // One that was killed has left its address: the command reports that it does not answer there.
            newest.map(Some).ok_or(NotFound::NoneRuns {
                newest: folder,
                others: OtherFolders(others),
            })
        }
    }
}

/// The daemon that started last of those that run on this machine.
fn newest_running(folders: &[PathBuf]) -> Option<KnownDaemon> {
    let running = folders.iter().filter_map(|folder| {
        let known = in_folder(folder).ok().flatten()?;
        let started = folder.join(ENDPOINT).metadata().ok()?.modified().ok()?;
        (known.runs() && known.is_on_this_machine().is_ok()).then_some((started, known))
    });
    let newest = running.max_by_key(|(started, _)| *started);
    newest.map(|(_, known)| known)
}

/// The endpoint that the daemon of a data folder wrote; `None` if it does not run.
fn in_folder(folder: &Path) -> Result<Option<KnownDaemon>, NotFound> {
    let path = folder.join(ENDPOINT);
    let unreadable = |path: PathBuf| move |source| NotFound::Unreadable { path, source };
    let found = match folder.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(unreadable(folder.to_owned()))?,
    };
    let owners = trusted_owners(found.uid());
    if !owners.contains(&found.uid()) || found.mode() & 0o022 != 0 {
        let problem = "other users can change its content; only the daemon's user may have access to it (`chmod 700`)";
        return Err(unreadable(folder.to_owned())(io::Error::other(problem)));
    }
    let text = match private_file::read(&path, Others::Read, Links::Refused, &owners) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(unreadable(path.clone()))?,
    };
    let endpoint = serde_json::from_str(&text)
        .map_err(io::Error::from)
        .map_err(unreadable(path))?;
    let token = token_in(folder, &owners).map_err(unreadable(folder.join(TOKEN)))?;
    Ok(Some(KnownDaemon {
        folder: folder.to_owned(),
        endpoint,
        token,
    }))
}

/// The users whose files in a data folder are trusted: the caller, root, and for root the owner of the folder, since
/// a daemon runs as a user of its own.
fn trusted_owners(of_folder: u32) -> Vec<u32> {
    let mut owners = private_file::owners().to_vec();
    if geteuid().is_root() {
        owners.push(of_folder);
    }
    owners
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;
    use tempfile::TempDir;

    use super::super::{Published, publish, read_token};
    use super::*;
    use crate::data_dir::{DataDir, Said};
    use crate::known_folders::{KnownFolders, write};

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
                known: KnownFolders::at(Some(place.path().join("config/data-folders"))),
            };
            Self { place, places }
        }

        fn daemon(&self, folder: &str, url: &str, token: &str) -> (DataDir, Published) {
            let data = DataDir::open(&self.place.path().join(folder), Said::ByItsPath).unwrap();
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
        let _daemon = scene.daemon(DEV_DATA_DIR, "http://127.0.0.1:7097", "ta");
        let given = |url: Option<&str>, token: Option<&str>| Given {
            url: url.map(str::to_owned),
            token: token.map(SecretString::from),
            data_dir: None,
        };
        assert_eq!(
            scene.find(given(None, None)).unwrap(),
            pair("http://127.0.0.1:7097", "ta")
        );
        assert_eq!(
            scene
                .find(given(Some("http://127.0.0.1:7098"), Some("tb")))
                .unwrap(),
            pair("http://127.0.0.1:7098", "tb")
        );
        assert_eq!(
            scene
                .find(given(Some("http://127.0.0.1:7097"), None))
                .unwrap(),
            pair("http://127.0.0.1:7097", "ta")
        );
    }

    #[test]
    fn a_token_is_not_sent_to_another_address() {
        let scene = Scene::new();
        let _daemon = scene.daemon(DEV_DATA_DIR, "http://127.0.0.1:7097", "ta");
        let given = Given {
            url: Some("http://evil".to_owned()),
            ..Given::default()
        };
        assert_eq!(scene.find(given).unwrap(), pair("http://evil", ""));
    }

    #[test]
    fn a_folder_given_wins_over_here_and_here_over_the_newest() {
        let scene = Scene::new();
        let _here = scene.daemon(DEV_DATA_DIR, "http://127.0.0.1:7104", "th");
        let _other = scene.daemon("other", "http://127.0.0.1:7111", "to");
        let (_newest, published) = scene.daemon("newest", "http://127.0.0.1:7110", "tn");
        let mut elsewhere = scene.places.clone();
        elsewhere.working_dir = scene.place.path().join("elsewhere");
        assert_eq!(
            find(Given::default(), &elsewhere).unwrap().url,
            "http://127.0.0.1:7110"
        );
        published.retract().unwrap();
        assert_eq!(
            scene.find(Given::default()).unwrap(),
            pair("http://127.0.0.1:7104", "th")
        );
        let given = Given {
            data_dir: Some(scene.place.path().join("other")),
            ..Given::default()
        };
        assert_eq!(
            scene.find(given).unwrap(),
            pair("http://127.0.0.1:7111", "to")
        );
    }

    #[test]
    fn a_stopped_daemon_is_named_and_no_other_is_taken_for_it() {
        let scene = Scene::new();
        let (here, published) = scene.daemon(DEV_DATA_DIR, "http://127.0.0.1:7104", "th");
        published.retract().unwrap();
        let _newest = scene.daemon("newest", "http://127.0.0.1:7110", "tn");
        let error = scene.find(Given::default()).unwrap_err();
        assert!(matches!(error, NotFound::Stopped { .. }), "{error}");
        assert!(error.to_string().contains(DEV_DATA_DIR), "{error}");
        let token = read_token(&here).unwrap().unwrap();
        assert_eq!(token.expose_secret(), "th");
    }

    #[test]
    fn without_the_newest_daemon_the_newest_that_runs_is_found_and_that_is_reported() {
        let scene = Scene::new();
        let (_old, old) = scene.daemon("old", "http://127.0.0.1:7104", "to");
        let file = std::fs::File::open(&old.endpoint).unwrap();
        let started = file.metadata().unwrap().modified().unwrap();
        let hour = std::time::Duration::from_secs(3_600);
        file.set_modified(started - hour).unwrap();
        let (_newer, newer) = scene.daemon("newer", "http://127.0.0.1:7110", "tn");
        let (stopped, published) = scene.daemon("stopped", "http://127.0.0.1:7111", "ts");
        // A process that has ended, and whose end is known.
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let killed = |url: &str| format!(r#"{{"url":"{url}","pid":{}}}"#, ended.id());
        let leave = |published: &Published, url: &str| {
            write(&published.endpoint, 0o600, killed(url).as_bytes()).unwrap();
        };
        leave(&published, "http://127.0.0.1:7111");
        let found = find(Given::default(), &scene.places).unwrap();
        assert_eq!(found.url, "http://127.0.0.1:7110");
        assert_eq!(found.stopped.as_deref(), Some(stopped.path()));

        leave(&newer, "http://127.0.0.1:7110");
        let found = find(Given::default(), &scene.places).unwrap();
        assert_eq!(found.url, "http://127.0.0.1:7104");

        for published in [old, newer, published] {
            published.retract().unwrap();
        }
        let error = find(Given::default(), &scene.places)
            .unwrap_err()
            .to_string();
        for folder in ["old", "newer", "stopped"] {
            let folder = scene.place.path().join(folder).display().to_string();
            assert!(error.contains(&folder), "{error}");
        }
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
        let (data, published) = scene.daemon("data", "http://127.0.0.1:7097", "ta");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&published.token), 0o600);
        assert_eq!(mode(&data.path().join(ENDPOINT)), 0o600);
    }

    /// A data folder as a checkout may contain it: readable, and with content of its author's choice.
    fn planted(scene: &Scene, folder: &str, url: &str) -> PathBuf {
        let path = scene.place.path().join(folder);
        std::fs::create_dir_all(&path).unwrap();
        let endpoint = format!(r#"{{"url":"{url}","pid":1}}"#);
        write(&path.join(ENDPOINT), 0o600, endpoint.as_bytes()).unwrap();
        write(&path.join(TOKEN), 0o600, b"planted").unwrap();
        path
    }

    #[test]
    fn what_a_checkout_brings_along_is_not_obeyed() {
        let scene = Scene::new();
        planted(&scene, DEV_DATA_DIR, "http://127.0.0.1:8594");
        let error = scene.find(Given::default()).unwrap_err();
        assert!(matches!(error, NotFound::Stranger { .. }), "{error}");
        assert!(
            error.to_string().contains("ignoring") && error.to_string().contains("--url"),
            "{error}"
        );
        let with_token = Given {
            token: Some("mine".into()),
            ..Given::default()
        };
        assert!(scene.find(with_token).is_err());
        let with_url = Given {
            url: Some("http://127.0.0.1:8594".to_owned()),
            ..Given::default()
        };
        assert_eq!(
            scene.find(with_url).unwrap(),
            pair("http://127.0.0.1:8594", "")
        );
    }

    #[test]
    fn where_a_checkout_brings_one_along_the_users_own_daemon_is_asked_and_that_is_reported() {
        let scene = Scene::new();
        planted(&scene, DEV_DATA_DIR, "http://127.0.0.1:8594");
        let _own = scene.daemon("own", "http://127.0.0.1:8001", "to");
        let found = find(Given::default(), &scene.places).unwrap();
        assert_eq!(found.url, "http://127.0.0.1:8001");
        assert!(
            found
                .ignored
                .is_some_and(|here| here.ends_with(DEV_DATA_DIR))
        );
    }

    #[test]
    fn a_given_relative_path_is_trusted_only_like_a_folder_here() {
        let scene = Scene::new();
        let folder = planted(&scene, "data", "http://127.0.0.1:8594");
        let given = |folder: &Path| Given {
            data_dir: Some(folder.to_owned()),
            ..Given::default()
        };
        for relative in ["data", "./data", "x/../data"] {
            std::fs::create_dir_all(scene.place.path().join("x")).unwrap();
            let error = scene.find(given(Path::new(relative))).unwrap_err();
            assert!(matches!(error, NotFound::Stranger { .. }), "{error}");
        }
        assert_eq!(
            scene.find(given(&folder)).unwrap(),
            pair("http://127.0.0.1:8594", "planted")
        );
        let _own = scene.daemon("own", "http://127.0.0.1:8001", "to");
        assert_eq!(
            scene.find(given(Path::new("own"))).unwrap(),
            pair("http://127.0.0.1:8001", "to")
        );
    }

    #[test]
    fn a_given_token_is_not_sent_to_an_address_that_only_a_file_names() {
        let scene = Scene::new();
        let (data, _published) = scene.daemon(DEV_DATA_DIR, "http://127.0.0.1:8001", "ta");
        let given = |token: &str, folder: Option<&Path>| Given {
            token: Some(token.into()),
            data_dir: folder.map(Path::to_owned),
            ..Given::default()
        };
        let error = scene.find(given("mine", None)).unwrap_err();
        assert!(matches!(error, NotFound::TokenWithoutAddress), "{error}");
        // The token is the daemon's own, or the folder was given, too.
        assert!(scene.find(given("ta", None)).is_ok());
        assert_eq!(
            scene.find(given("mine", Some(data.path()))).unwrap(),
            pair("http://127.0.0.1:8001", "mine")
        );
        let elsewhere = planted(&scene, "elsewhere", "http://192.0.2.1:8080");
        let error = scene.find(given("mine", Some(&elsewhere))).unwrap_err();
        assert!(matches!(error, NotFound::Elsewhere { .. }), "{error}");
    }

    #[test]
    fn an_address_of_another_machine_is_not_taken_from_what_lies_here() {
        for url in [
            "http://192.0.2.1:8080",
            "https://evil.example",
            "http://127.0.0.1@evil.example/",
            "http://localhost.evil.example",
            "nonsense",
        ] {
            let scene = Scene::new();
            let _daemon = scene.daemon(DEV_DATA_DIR, url, "ta");
            let error = scene.find(Given::default()).unwrap_err();
            assert!(
                matches!(error, NotFound::Elsewhere { .. }),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn a_token_file_that_others_may_read_is_refused() {
        let scene = Scene::new();
        let (data, _published) = scene.daemon("data", "http://127.0.0.1:8001", "ta");
        let token = data.path().join(TOKEN);
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
        let given = Given {
            data_dir: Some(data.path().to_owned()),
            ..Given::default()
        };
        let error = scene.find(given).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn links_in_a_data_folder_are_not_followed() {
        let scene = Scene::new();
        let (data, _published) = scene.daemon("data", "http://127.0.0.1:8001", "ta");
        let real = scene.place.path().join("elsewhere");
        for file in [TOKEN, ENDPOINT] {
            let path = data.path().join(file);
            std::fs::rename(&path, &real).unwrap();
            std::os::unix::fs::symlink(&real, &path).unwrap();
            let given = Given {
                data_dir: Some(data.path().to_owned()),
                ..Given::default()
            };
            let error = scene.find(given).unwrap_err().to_string();
            assert!(error.contains("symbolic link"), "{error}");
            std::fs::rename(&real, &path).unwrap();
        }
    }
}
