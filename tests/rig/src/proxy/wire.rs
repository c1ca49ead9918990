//! Cutting streams into the units that faults are about: HTTP heads, Postgres messages.
//!
//! Plain data, no I/O. Both directions of a connection share a [`Dialogue`], since what a byte means
//! depends on what the other side said: which answer belongs to which request, whether a
//! transaction is open. Only as much of each protocol is read as faults need; bodies pass as bytes.

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Bytes; each read is a unit, each a request or an answer.
    Raw,
    /// HTTP/1.1, as Docker engines speak it, upgrades to raw streams included.
    Http,
    /// Postgres' protocol version 3, without TLS.
    Postgres,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Request,
    /// From the upstream.
    Answer,
}

/// The kind of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Part of a body or of a stream.
    Bytes,
    /// The head of a request; the path without version and query.
    HttpRequest { method: String, path: String },
    /// The head of a final answer.
    HttpAnswer,
    /// A message of Postgres' protocol, by its type; 0 for those before the session.
    Message(u8),
}

/// A piece of a stream that is forwarded, or not, as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) bytes: Vec<u8>,
    pub(super) meaning: Meaning,
    /// Which request of the connection this is, or answers to; from 1.
    pub(super) exchange: u64,
    /// Whether an answer says that its request was carried out.
    pub(super) concludes: bool,
    /// Whether a statement outside of any transaction takes effect by this request.
    pub(super) autocommits: bool,
}

/// The state that both directions of a connection share.
#[derive(Debug)]
pub(super) struct Dialogue {
    protocol: Protocol,
    /// Requests seen that will be answered.
    requests: u64,
    /// Requests answered: begun with HTTP, concluded with Postgres.
    answers: u64,
    /// The rest is passed on without being parsed: an upgrade, TLS.
    opaque: bool,
    session: bool,
    asked_for_tls: bool,
    in_transaction: bool,
    executed: bool,
}

/// The longest head that is waited for; what is longer passes as bytes.
const HEAD_AT_MOST: usize = 1 << 20;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

impl Dialogue {
    pub(super) const fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            requests: 0,
            answers: 0,
            opaque: false,
            session: false,
            asked_for_tls: false,
            in_transaction: false,
            executed: false,
        }
    }

    const fn unit(&self, bytes: Vec<u8>, meaning: Meaning, exchange: u64) -> Unit {
        Unit {
            bytes,
            meaning,
            exchange,
            concludes: false,
            autocommits: false,
        }
    }
}

/// One direction of one connection.
#[derive(Debug)]
pub(super) struct Cutter {
    direction: Direction,
    buffer: Vec<u8>,
    /// HTTP: how much of a body of known length is to come.
    body: u64,
    /// HTTP: a body of unknown length, that ends when the other side has its turn.
    open_body: bool,
}

impl Cutter {
    pub(super) const fn new(direction: Direction) -> Self {
        Self {
            direction,
            buffer: Vec::new(),
            body: 0,
            open_body: false,
        }
    }

    /// Takes bytes and gives the units that are complete. All bytes come out again, in order.
    pub(super) fn cut(&mut self, bytes: &[u8], dialogue: &mut Dialogue) -> Vec<Unit> {
        self.buffer.extend_from_slice(bytes);
        let mut units = Vec::new();
        while !self.buffer.is_empty() {
            let endless = dialogue.protocol == Protocol::Http && self.buffer.len() > HEAD_AT_MOST;
            let unit = if dialogue.opaque || endless {
                Some(self.rest(dialogue))
            } else {
                match dialogue.protocol {
                    Protocol::Raw => Some(self.raw(dialogue)),
                    Protocol::Http => self.http(dialogue),
                    Protocol::Postgres => self.postgres(dialogue),
                }
            };
            match unit {
                Some(unit) => units.push(unit),
                None => break,
            }
        }
        units
    }

    /// The bytes that are still buffered at the end of the stream.
    pub(super) fn remainder(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }

    fn rest(&mut self, dialogue: &Dialogue) -> Unit {
        let bytes = self.remainder();
        dialogue.unit(bytes, Meaning::Bytes, dialogue.requests)
    }

    fn raw(&mut self, dialogue: &mut Dialogue) -> Unit {
        if self.direction == Direction::Request {
            dialogue.requests += 1;
        }
        let mut unit = self.rest(dialogue);
        unit.concludes = self.direction == Direction::Answer;
        unit
    }

    fn http(&mut self, dialogue: &mut Dialogue) -> Option<Unit> {
        if self.body > 0 {
            let length = usize::try_from(self.body).unwrap_or(usize::MAX);
            let length = length.min(self.buffer.len());
            self.body -= length as u64;
            let bytes = self.take(length);
            return Some(dialogue.unit(bytes, Meaning::Bytes, dialogue.requests));
        }
        let head_is_due = match self.direction {
            Direction::Request => dialogue.answers == dialogue.requests,
            Direction::Answer => dialogue.answers < dialogue.requests,
        };
        if self.open_body && !head_is_due {
            return Some(self.rest(dialogue));
        }
        self.open_body = false;
        let end = find(&self.buffer, b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.take(end)).into_owned();
        Some(match self.direction {
            Direction::Request => self.http_request(&head, dialogue),
            Direction::Answer => self.http_answer(&head, dialogue),
        })
    }

    fn http_request(&mut self, head: &str, dialogue: &mut Dialogue) -> Unit {
        dialogue.requests += 1;
        self.body = header(head, "content-length")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
        self.open_body =
            header(head, "transfer-encoding").is_some() || header(head, "upgrade").is_some();
        let mut words = head.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let path = without_version(words.next().unwrap_or_default());
        let meaning = Meaning::HttpRequest { method, path };
        dialogue.unit(head.as_bytes().to_vec(), meaning, dialogue.requests)
    }

    fn http_answer(&mut self, head: &str, dialogue: &mut Dialogue) -> Unit {
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status == "100" {
            return dialogue.unit(head.as_bytes().to_vec(), Meaning::Bytes, dialogue.requests);
        }
        dialogue.answers += 1;
        dialogue.opaque = status == "101";
        // Its length does not matter: the next head can only come after another request.
        self.open_body = true;
        let mut unit = dialogue.unit(
            head.as_bytes().to_vec(),
            Meaning::HttpAnswer,
            dialogue.answers,
        );
        unit.concludes = true;
        unit
    }

    fn postgres(&mut self, dialogue: &mut Dialogue) -> Option<Unit> {
        match self.direction {
            Direction::Request if !dialogue.session => self.before_session(dialogue),
            Direction::Request => {
                let (kind, bytes) = self.message()?;
                let autocommits = kind == b'S' && dialogue.executed && !dialogue.in_transaction;
                match kind {
                    b'E' => dialogue.executed = true,
                    b'Q' | b'S' | b'F' => {
                        dialogue.requests += 1;
                        dialogue.executed = false;
                    }
                    _ => {}
                }
                // A message without an answer of its own belongs to the next one that has one.
                let exchange = dialogue.requests + u64::from(!matches!(kind, b'Q' | b'S' | b'F'));
                let mut unit = dialogue.unit(bytes, Meaning::Message(kind), exchange);
                unit.autocommits = autocommits;
                Some(unit)
            }
            Direction::Answer if dialogue.asked_for_tls => {
                dialogue.asked_for_tls = false;
                let bytes = self.take(1);
                dialogue.opaque = bytes == b"S";
                Some(dialogue.unit(bytes, Meaning::Bytes, 0))
            }
            Direction::Answer => {
                let (kind, bytes) = self.message()?;
                let mut unit = dialogue.unit(bytes, Meaning::Message(kind), dialogue.answers + 1);
                if kind == b'Z' {
                    unit.concludes = true;
                    dialogue.answers += 1;
                    dialogue.in_transaction = unit.bytes.get(5).is_some_and(|state| *state != b'I');
                }
                Some(unit)
            }
        }
    }

    fn before_session(&mut self, dialogue: &mut Dialogue) -> Option<Unit> {
        let length = number_at(&self.buffer, 0)? as usize;
        let code = number_at(&self.buffer, 4)?;
        if self.buffer.len() < length {
            return None;
        }
        if code == SSL_REQUEST || code == GSS_REQUEST {
            dialogue.asked_for_tls = true;
        } else {
            dialogue.session = true;
            dialogue.requests += 1;
        }
        let bytes = self.take(length.max(8));
        Some(dialogue.unit(bytes, Meaning::Message(0), dialogue.requests))
    }

    fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let length = number_at(&self.buffer, 1)? as usize + 1;
        if self.buffer.len() < length {
            return None;
        }
        Some((self.buffer[0], self.take(length)))
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// Where `wanted` begins in `bytes`.
pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len().max(1))
        .position(|window| window == wanted)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// The path of a request without query and without the version that clients may put before it.
fn without_version(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let versioned = path
        .strip_prefix("/v")
        .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        .and_then(|rest| rest.find('/').map(|slash| &rest[slash..]));
    versioned.unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn startup(code: u32) -> Vec<u8> {
        [8_u32.to_be_bytes(), code.to_be_bytes()].concat()
    }

    #[test]
    fn heads_come_whole_however_they_arrive() {
        let mut dialogue = Dialogue::new(Protocol::Http);
        let (mut requests, mut answers) = (
            Cutter::new(Direction::Request),
            Cutter::new(Direction::Answer),
        );
        let text =
            b"POST /v1.41/containers/create?name=x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
        let mut units = Vec::new();
        for byte in text {
            units.extend(requests.cut(&[*byte], &mut dialogue));
        }
        assert_eq!(
            units[0].meaning,
            Meaning::HttpRequest {
                method: "POST".to_owned(),
                path: "/containers/create".to_owned()
            }
        );
        let all: Vec<u8> = units.iter().flat_map(|unit| unit.bytes.clone()).collect();
        assert_eq!(all, text);

        let units = answers.cut(b"HTTP/1.1 201 Created\r\n\r\n{}", &mut dialogue);
        assert!(units[0].concludes && units[0].exchange == 1, "{units:?}");
        assert_eq!(units[1].meaning, Meaning::Bytes);
        let units = requests.cut(b"GET /_ping HTTP/1.1\r\n\r\n", &mut dialogue);
        assert_eq!(units[0].exchange, 2);
        let units = answers.cut(b"HTTP/1.1 200 OK\r\n\r\nOK", &mut dialogue);
        assert_eq!(units[0].exchange, 2);
    }

    #[test]
    fn an_upgraded_connection_passes_as_bytes() {
        let mut dialogue = Dialogue::new(Protocol::Http);
        let (mut requests, mut answers) = (
            Cutter::new(Direction::Request),
            Cutter::new(Direction::Answer),
        );
        requests.cut(
            b"POST /attach HTTP/1.1\r\nUpgrade: tcp\r\n\r\n",
            &mut dialogue,
        );
        answers.cut(b"HTTP/1.1 101 UPGRADED\r\n\r\n", &mut dialogue);
        let units = requests.cut(b"GET no head at all", &mut dialogue);
        assert_eq!(units[0].meaning, Meaning::Bytes);
    }

    #[test]
    fn answers_of_postgres_belong_to_the_request_that_asked_for_them() {
        let mut dialogue = Dialogue::new(Protocol::Postgres);
        let (mut requests, mut answers) = (
            Cutter::new(Direction::Request),
            Cutter::new(Direction::Answer),
        );
        requests.cut(&startup(SSL_REQUEST), &mut dialogue);
        let refused = answers.cut(b"N", &mut dialogue);
        assert_eq!(refused[0].bytes, b"N");
        requests.cut(&startup(196_608), &mut dialogue);
        let units = answers.cut(&message(b'Z', b"I"), &mut dialogue);
        assert!(units[0].concludes && units[0].exchange == 1);

        let batch = [
            message(b'P', b"insert"),
            message(b'E', b""),
            message(b'S', b""),
        ]
        .concat();
        let units = requests.cut(&batch, &mut dialogue);
        assert!(units.iter().all(|unit| unit.exchange == 2), "{units:?}");
        assert!(units[2].autocommits);
        let done = [message(b'C', b"INSERT 0 1\0"), message(b'Z', b"T")].concat();
        let units = answers.cut(&done, &mut dialogue);
        assert!(units.iter().all(|unit| unit.exchange == 2), "{units:?}");

        let batch = [message(b'E', b""), message(b'S', b"")].concat();
        let units = requests.cut(&batch, &mut dialogue);
        assert!(!units[1].autocommits, "a transaction is open");
    }
}
