//! Connects libgit2 to a [`Session`] or [`SshSession`]: libgit2 requests "http" or "ssh", and gets these transports.

use std::cell::RefCell;
use std::io::{self, Cursor, Read, Write};
use std::sync::Arc;

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use git2::{ErrorClass, ErrorCode};

use super::Error;
use super::session::Session;
use super::ssh::SshSession;

/// The client of a remote.
#[derive(Clone)]
pub(super) enum Remote {
    Http(Arc<Session>),
    Ssh(Arc<SshSession>),
}

impl Remote {
    /// The client's error, where libgit2 only reports that there was one.
    pub(super) fn failure(&self) -> Option<Error> {
        match self {
            Self::Http(session) => session.failure(),
            Self::Ssh(session) => session.failure(),
        }
    }
}

/// A client, and the list that the remote has sent already.
type Conversation = (Remote, Arc<Vec<u8>>);

thread_local! {
    /// The conversation that libgit2 has on this thread.
    static CURRENT: RefCell<Option<Conversation>> = const { RefCell::new(None) };
}

/// Runs `call`, and libgit2 within it, with this conversation.
pub(super) fn with<T>(session: &Remote, list: Vec<u8>, call: impl FnOnce() -> T) -> T {
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            CURRENT.take();
        }
    }
    CURRENT.set(Some((session.clone(), Arc::new(list))));
    let _forget = Forget;
    call()
}

/// Makes libgit2 use this for http, https and ssh. Only before its first use; see [`super::settings`].
#[expect(
    unsafe_code,
    reason = "libgit2's list of transports has no lock; see the head of `settings`"
)]
pub(super) fn register() -> Result<(), git2::Error> {
    for scheme in ["http", "https", "ssh"] {
        // SAFETY: called once, before any other use of libgit2.
        unsafe {
            git2::transport::register(scheme, |remote| {
                let (session, list) = CURRENT
                    .with_borrow(Clone::clone)
                    .ok_or_else(|| odd("no conversation has begun"))?;
                // Over http each request stands alone, over ssh all of them go through one stream.
                let is_http = matches!(session, Remote::Http(_));
                Transport::smart(remote, is_http, Talk { session, list })
            })?;
        }
    }
    Ok(())
}

fn odd(why: &str) -> git2::Error {
    git2::Error::new(ErrorCode::GenericError, ErrorClass::Net, why)
}

struct Talk {
    session: Remote,
    list: Arc<Vec<u8>>,
}

impl SmartSubtransport for Talk {
    fn action(
        &self,
        _: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let list = || Cursor::new(Arc::clone(&self.list));
        let part = match service {
            Service::UploadPackLs => Part::List(list()),
            Service::UploadPack => Part::Request(Vec::new()),
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(odd("nothing is ever pushed"));
            }
        };
        Ok(match &self.session {
            Remote::Http(session) => Box::new(Exchange {
                session: Arc::clone(session),
                part,
            }),
            Remote::Ssh(session) => Box::new(Stream {
                session: Arc::clone(session),
                list: list(),
            }),
        })
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

fn read_list(list: &mut Cursor<Arc<Vec<u8>>>, to: &mut [u8]) -> io::Result<usize> {
    let at = usize::try_from(list.position()).unwrap_or(usize::MAX);
    let mut rest = list.get_ref().get(at..).unwrap_or_default();
    let count = rest.read(to)?;
    list.set_position((at + count) as u64);
    Ok(count)
}

/// The stream over ssh, after the list.
struct Stream {
    session: Arc<SshSession>,
    list: Cursor<Arc<Vec<u8>>>,
}

impl Read for Stream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match read_list(&mut self.list, to)? {
            0 => self.session.read(to),
            count => Ok(count),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.session.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One request and its answer.
struct Exchange {
    session: Arc<Session>,
    part: Part,
}

enum Part {
    /// The list, which was fetched already.
    List(Cursor<Arc<Vec<u8>>>),
    /// A request that is being written.
    Request(Vec<u8>),
    /// Its answer, and the part of it that has not been read.
    Answer(Box<reqwest::Response>, Cursor<Vec<u8>>),
}

impl Read for Exchange {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let session = Arc::clone(&self.session);
        loop {
            match &mut self.part {
                Part::List(list) => return read_list(list, to),
                Part::Request(request) => {
                    let response = session
                        .post(std::mem::take(request))
                        .map_err(|error| session.keep(error))?;
                    self.part = Part::Answer(Box::new(response), Cursor::default());
                }
                Part::Answer(response, rest) => {
                    let count = rest.read(to)?;
                    if count > 0 || to.is_empty() {
                        return Ok(count);
                    }
                    match session.next(response) {
                        Ok(Some(bytes)) => *rest = Cursor::new(bytes),
                        Ok(None) => return Ok(0),
                        Err(error) => return Err(session.keep(error)),
                    }
                }
            }
        }
    }
}

impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.part {
            Part::Request(request) => {
                request.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Part::List(_) | Part::Answer(..) => Err(io::Error::other("a request after its answer")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
