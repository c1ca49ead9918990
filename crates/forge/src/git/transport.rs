//! The way from libgit2 to a [`Session`]: libgit2 asks for "http", and gets ours.

use std::cell::RefCell;
use std::io::{self, Cursor, Read, Write};
use std::sync::Arc;

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use git2::{ErrorClass, ErrorCode};

use super::session::Session;

/// A session, and the list that the remote has sent already.
type Conversation = (Arc<Session>, Arc<Vec<u8>>);

thread_local! {
    /// The conversation that libgit2 has on this thread.
    static CURRENT: RefCell<Option<Conversation>> = const { RefCell::new(None) };
}

/// Gives `call`, and libgit2 within it, this conversation.
pub(super) fn with<T>(session: &Arc<Session>, list: Vec<u8>, call: impl FnOnce() -> T) -> T {
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            CURRENT.take();
        }
    }
    CURRENT.set(Some((Arc::clone(session), Arc::new(list))));
    let _forget = Forget;
    call()
}

/// Makes libgit2 use this for http and https. Only before its first use; see [`super::settings`].
#[expect(
    unsafe_code,
    reason = "libgit2's list of transports has no lock; see the head of `settings`"
)]
pub(super) fn register() -> Result<(), git2::Error> {
    for scheme in ["http", "https"] {
        // SAFETY: called once, before any other use of libgit2.
        unsafe {
            git2::transport::register(scheme, |remote| {
                let (session, list) = CURRENT
                    .with_borrow(Clone::clone)
                    .ok_or_else(|| odd("no conversation has begun"))?;
                Transport::smart(remote, true, Talk { session, list })
            })?;
        }
    }
    Ok(())
}

fn odd(why: &str) -> git2::Error {
    git2::Error::new(ErrorCode::GenericError, ErrorClass::Net, why)
}

struct Talk {
    session: Arc<Session>,
    list: Arc<Vec<u8>>,
}

impl SmartSubtransport for Talk {
    fn action(
        &self,
        _: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let part = match service {
            Service::UploadPackLs => Part::List(Cursor::new(Arc::clone(&self.list))),
            Service::UploadPack => Part::Request(Vec::new()),
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(odd("nothing is ever pushed"));
            }
        };
        Ok(Box::new(Exchange {
            session: Arc::clone(&self.session),
            part,
        }))
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

/// One request and its answer.
struct Exchange {
    session: Arc<Session>,
    part: Part,
}

enum Part {
    /// The list, which was asked for already.
    List(Cursor<Arc<Vec<u8>>>),
    /// A request that is being written.
    Request(Vec<u8>),
    /// Its answer, and what of it has not been read.
    Answer(Box<reqwest::Response>, Cursor<Vec<u8>>),
}

impl Read for Exchange {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let session = Arc::clone(&self.session);
        loop {
            match &mut self.part {
                Part::List(list) => {
                    let at = usize::try_from(list.position()).unwrap_or(usize::MAX);
                    let mut rest = list.get_ref().get(at..).unwrap_or_default();
                    let count = rest.read(to)?;
                    list.set_position((at + count) as u64);
                    return Ok(count);
                }
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
