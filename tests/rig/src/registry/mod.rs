//! A small registry of images of a test's own: it serves what is published in it by the pull protocol of
//! Docker's registries, without TLS, and misbehaves on demand.
//!
//! It is on a loop-back address, which every dockerd takes for a registry that needs no TLS.

mod http;
mod image;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::http::{Answer, Request};
use self::image::Image;

/// The tag of everything that is published.
const TAG: &str = "1";

/// A registry, as long as the process lives.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// The requested part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The manifest.
    Manifest,
    /// Its files.
    Layer,
}

/// How the registry misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It answers with this status, and what registries say with it. 429 asks for a pause of a second.
    Status(u16),
    /// It closes the connection after half of the bytes.
    Half,
    /// It says nothing more after half of the bytes, and does not hang up.
    Silence,
    /// Bytes come in this many pieces, with this pause before each.
    Slow { pieces: usize, pause: Duration },
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    healed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<String, Image>,
    /// The faults, by the name of the image.
    faults: BTreeMap<String, (Part, Fault)>,
    /// Of each image since it was published.
    asked: Vec<(String, Part)>,
}

impl Registry {
    /// An empty one.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serving.serve(&stream));
            }
        });
        Self { address, shared }
    }

    /// Publishes an image of this name that stages of the rig can run in, and that no Docker engine has: `seed` makes
    /// its content. Returns its reference.
    #[must_use]
    pub fn publish(&self, name: &str, seed: u64) -> String {
        let image = Image::new(seed);
        let mut state = self.shared.state();
        state.images.insert(name.to_owned(), image);
        state.asked.retain(|(asked, _)| asked != name);
        drop(state);
        self.reference(name)
    }

    /// The reference of an image of this name, whether it exists or not.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}:{TAG}", self.address)
    }

    /// The line of a daemon's configuration that permits this registry, which is on this machine, besides others.
    #[must_use]
    pub fn permission(&self) -> String {
        format!("docker.registries = [\"public\", \"{}\"]\n", self.address)
    }

    /// From now on requests for this part of an image go wrong.
    pub fn misbehave(&self, name: &str, part: Part, fault: Fault) {
        let mut state = self.shared.state();
        state.faults.insert(name.to_owned(), (part, fault));
    }

    /// Ends the faults of an image; its connections that are held in silence are closed.
    pub fn heal(&self, name: &str) {
        self.shared.state().faults.remove(name);
        self.shared.healed.notify_all();
    }

    /// How often this part of an image was asked for since it was published.
    #[must_use]
    pub fn asked(&self, name: &str, part: Part) -> usize {
        let state = self.shared.state();
        let asked = state.asked.iter();
        asked
            .filter(|(asked, of)| asked == name && *of == part)
            .count()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request. The client may close the connection at any time.
    fn serve(&self, stream: &TcpStream) {
        let Some(request) = Request::read(stream) else {
            return;
        };
        let (part, answer) = self.find(&request);
        let fault = part
            .as_ref()
            .and_then(|(name, part)| self.strike(name, *part));
        let _ = match fault {
            None => answer.send(stream),
            Some(Fault::Status(status)) => Answer::failure(status).send(stream),
            Some(Fault::Half) => answer.send_half(stream),
            Some(Fault::Slow { pieces, pause }) => answer.send_slowly(stream, pieces, pause),
            Some(Fault::Silence) => {
                let sent = answer.send_half(stream);
                if let Some((name, _)) = &part {
                    self.until_healed(name);
                }
                sent
            }
        };
    }

    /// The subject of a request, and the right answer.
    fn find(&self, request: &Request) -> (Option<(String, Part)>, Answer) {
        let state = self.state();
        let Some(path) = request.path.strip_prefix("/v2/") else {
            return (None, Answer::failure(404));
        };
        if path.is_empty() {
            return (None, Answer::whole("application/json", b"{}".to_vec()));
        }
        if let Some((name, reference)) = path.split_once("/manifests/") {
            let image = state.images.get(name);
            let image =
                image.filter(|image| reference == TAG || reference == image.manifest_digest());
            let answer = image.map_or_else(
                || Answer::failure(404),
                |image| Answer::whole(image::MANIFEST, image.manifest.clone()),
            );
            return (Some((name.to_owned(), Part::Manifest)), answer);
        }
        let found = path.split_once("/blobs/").and_then(|(name, digest)| {
            let (part, bytes) = state.images.get(name)?.blob(digest)?;
            Some((part.map(|part| (name.to_owned(), part)), bytes))
        });
        match found {
            Some((part, bytes)) => (part, Answer::part_of(bytes, request.from)),
            None => (None, Answer::failure(404)),
        }
    }

    /// Notes that a part was asked for, and says what goes wrong with it.
    fn strike(&self, name: &str, part: Part) -> Option<Fault> {
        let mut state = self.state();
        state.asked.push((name.to_owned(), part));
        let (struck, fault) = state.faults.get(name)?;
        (*struck == part).then_some(*fault)
    }

    fn until_healed(&self, name: &str) {
        let is_ill = |state: &mut State| state.faults.contains_key(name);
        let healed = self.healed.wait_while(self.state(), is_ill);
        drop(healed.unwrap_or_else(PoisonError::into_inner));
    }
}
