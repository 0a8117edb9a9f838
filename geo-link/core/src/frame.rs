//! Frames: how messages are told apart in a stream of bytes, and the small ones among them.
//!
//! A frame is four bytes of length (big-endian, of what follows), one byte of kind, and a payload. The payload of
//! every kind is a MessagePack array, read by position: a field may be added at the end, with a default, and never
//! anywhere else. PROTOCOL.md has the tables.
//!
//! # What a hostile peer can do here
//! Nothing but be disconnected. The length is checked against a cap before a byte of the frame is looked at; the
//! [`Inbox`] grows with the bytes that have arrived and not with those that were announced; texts, rows and tables
//! have bounds of their own; and any bytes whatever decode to a message or to [`Malformed`], never to a panic.
//!
//! Batches have a file of their own.

use std::{collections::BTreeSet, sync::Arc};

use clock::{Origin, RegionId, Stamp, Time};
use node_core::{
    slot::SlotSet,
    store::{Claim, Feed, Scope, Seen, SeenTable, Store},
};
use serde::{Deserialize, Serialize};

use crate::{
    body::BodyError,
    limits::{NAME_BYTES_MAX, REASON_BYTES_MAX},
    row::{Row, Table, read_origin},
};

/// Why bytes are no message. The link that brought them is closed; nothing else changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A frame announced more bytes than are taken.
    #[error("frame of {0} bytes, {1} are allowed")]
    FrameTooLong(usize, usize),
    /// A frame too short to have a kind.
    #[error("empty frame")]
    EmptyFrame,
    /// A kind of frame that does not exist, or not in this direction or state.
    #[error("unexpected frame of kind {0}")]
    Kind(u8),
    /// The payload is not the array that its kind calls for.
    #[error("malformed {0}: {1}")]
    Payload(&'static str, String),
    /// Two bytes that name no origin.
    #[error("{0:#06x} is no origin")]
    Origin(u16),
    /// More origins than there can be.
    #[error("too many origins")]
    TooManyOrigins,
    /// A run of slots that reaches past the last.
    #[error("run of slots past the last slot")]
    Slots,
    /// A region's name that is too long, or an id that is none.
    #[error("malformed region")]
    Region,
    /// A batch whose raw length is above what is taken, or cannot come of its body.
    #[error("batch claims {0} raw bytes")]
    RawLength(usize),
    /// A codec that this build does not know.
    #[error("unknown codec {0}")]
    Codec(u8),
    /// The body does not decompress to its raw length.
    #[error("body does not decompress: {0}")]
    Compression(String),
    /// The body is not what the sender hashed.
    #[error("body fails its checksum")]
    Checksum,
    /// The body's columns contradict the envelope or one another.
    #[error("malformed body: {0}")]
    Body(#[from] BodyError),
    /// A batch out of turn.
    #[error("batch {found} where {expected} was due")]
    Sequence {
        /// The number that was due.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// A batch of another connection, or of another origin than was greeted.
    #[error("batch of another connection")]
    Epoch,
    /// A batch that answers a welcome that was not sent.
    #[error("batch in answer to welcome {0}, which was not sent")]
    Round(u32),
    /// An acknowledgement of what was never sent.
    #[error("acknowledgement of batch {0}, which was not sent")]
    Acknowledgement(u64),
    /// A watermark or a flush of somebody that the sender does not speak for.
    #[error("statement about origin {0}, for which the sender does not speak")]
    Authority(Origin),
    /// A stamp in the receiver's own name above all that it has issued.
    #[error("stamp {0} in our own name, which was never issued here")]
    NeverIssued(Stamp),
    /// A claim to have seen what the receiver has not issued yet.
    #[error("claims to have seen {0}, which was never issued here")]
    NeverReached(Stamp),
}

/// What each frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Sender: who it is.
    Hello = 1,
    /// Receiver: who it is, and what it wants.
    Welcome = 2,
    /// Either: why there will be no link.
    Refuse = 3,
    /// Sender: items, or a heartbeat.
    Batch = 4,
    /// Receiver: what was applied.
    Ack = 5,
    /// Either: a clean end.
    Bye = 6,
    /// Sender: asks for another welcome.
    Ask = 7,
    /// Sender: what it holds, in sums.
    Audit = 8,
}

impl FrameKind {
    fn read(byte: u8) -> Result<Self, Malformed> {
        [Self::Hello, Self::Welcome, Self::Refuse, Self::Batch, Self::Ack, Self::Bye, Self::Ask, Self::Audit]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or(Malformed::Kind(byte))
    }
}

/// What a sender says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version of the protocol it speaks.
    pub version: u16,
    /// Its region's name, as in its certificate.
    pub name: String,
    /// Who stamps its writes; the region's id is part of it.
    pub origin: Origin,
    /// The time that all stamps of that origin are above; it also tells two processes apart that took one incarnation.
    pub birth: Time,
    /// Counts the connections that this process has made on this link. The greatest one is the link.
    pub epoch: u64,
    /// For which slots that origin speaks.
    pub claim: Claim,
    /// Whether it has all that the others had when it started.
    pub complete: bool,
    /// The longest frame it takes, in bytes.
    pub frame_bytes_max: usize,
}

/// What a receiver wants of a sender.
#[derive(Clone, Debug)]
pub enum Want {
    /// Everything but what this table says is there already: a clone may have been cut off before.
    Clone(SeenTable),
    /// What is missing in this table.
    Resume(SeenTable),
    /// Nothing yet: somebody else is sending everything. Another welcome will follow.
    Later,
}

impl Want {
    /// The feed of this to `consumer`, if anything is wanted: of what the store's region writes, and what of others it has to pass on.
    pub fn feed(self, store: &Store, consumer: Origin) -> Option<Feed> {
        let scope = Scope::Region(store.origin().region());
        match self {
            Self::Clone(seen) => Some(Feed::clone_rest(store, scope, consumer, seen)),
            Self::Resume(seen) => Some(Feed::resume(store, scope, consumer, seen)),
            Self::Later => None,
        }
    }
}

/// What a receiver answers.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// Who stamps its writes.
    pub origin: Origin,
    /// The time that all stamps of that origin are above.
    pub birth: Time,
    /// The longest frame it takes, in bytes.
    pub frame_bytes_max: usize,
    /// Counts the welcomes of this connection, from 1. Batches that answer an earlier one are of no use any more.
    pub round: u32,
    /// What it wants.
    pub want: Want,
}

/// Why there is no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The other side speaks another version.
    #[error("the peer speaks version {0} of the protocol")]
    Version(u16),
    /// The peer is not the region that it should be, or not a region that is configured here.
    #[error("the peer does not know this region as {0}")]
    Region(String),
    /// A younger life of the region was heard, or another process in the same one: whoever is told this has lost its
    /// memory of its incarnations, and must go on beyond this one.
    #[error("the peer knows this region as {0} already")]
    Superseded(Origin),
    /// A newer connection of the same link is there.
    #[error("a newer connection has taken the place of this one")]
    Replaced,
    /// Something that the other side calls by another number than we know.
    #[error("refused: {0}")]
    Other(String),
}

/// What a receiver has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// All batches up to this one were applied.
    pub sequence: u64,
    /// The next batch is held: its stamps lie too far ahead of the receiver's clock.
    pub held: bool,
    /// The four-timestamp exchange, if a batch came since the last answer.
    pub echo: Option<Echo>,
    /// What the receiver's region has seen in all its slots, now and then.
    pub seen: Option<Seen>,
    /// Regions that the receiver does not hear itself, and would have relayed.
    pub deaf: BTreeSet<RegionId>,
}

/// The receiver's part of an exchange of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// When the sender sent the batch, on its clock.
    pub asked: Time,
    /// When it arrived, on the receiver's clock.
    pub received: Time,
    /// When the answer left, on the receiver's clock.
    pub answered: Time,
}

/// Appends a frame of `kind` to `out`, its payload written by `write`.
pub(crate) fn put_frame(out: &mut Vec<u8>, kind: FrameKind, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.push(kind as u8);
    write(out);
    // FRAME_BYTES_MAX fits; whoever builds a frame has checked against it.
    let length = u32::try_from(out.len() - start - LENGTH_BYTES).unwrap_or(u32::MAX);
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// Appends a MessagePack payload.
pub(crate) fn put_payload(out: &mut Vec<u8>, payload: &impl Serialize) {
    rmp_serde::encode::write(out, payload).expect("writing to memory cannot fail, and all our types have lengths");
}

/// Reads a MessagePack payload.
pub(crate) fn read_payload<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, Malformed> {
    rmp_serde::from_slice(bytes).map_err(|error| Malformed::Payload(what, error.to_string()))
}

#[derive(Serialize, Deserialize)]
struct HelloWire<'a>(u16, &'a str, u16, u64, u64, bool, u32, #[serde(default)] u64, #[serde(default)] SlotSet);

#[derive(Serialize, Deserialize)]
struct WelcomeWire(u16, u64, u32, u32, u8, Table);

#[derive(Serialize, Deserialize)]
struct RefuseWire<'a>(u8, u16, &'a str);

#[derive(Serialize, Deserialize)]
struct AckWire(u64, bool, u64, u64, u64, Row, Vec<u8>);

impl Hello {
    /// Appends the frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        let Self { version, name, origin, birth, epoch, claim, complete, frame_bytes_max } = self;
        let (origin, birth, cap, slots) = (origin.bits(), birth.ntp64(), cap(*frame_bytes_max), (*claim.slots).clone());
        let wire = HelloWire(*version, name, origin, birth, *epoch, *complete, cap, claim.epoch, slots);
        put_frame(out, FrameKind::Hello, |out| put_payload(out, &wire));
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let wire = read_payload("hello", payload)?;
        let HelloWire(version, name, origin, birth, epoch, complete, frame_bytes_max, claimed_in, slots) = wire;
        if name.len() > NAME_BYTES_MAX {
            return Err(Malformed::Region);
        }
        Ok(Self {
            version,
            name: name.to_owned(),
            origin: read_origin(origin)?,
            birth: Time::from_ntp64(birth),
            epoch,
            claim: Claim { epoch: claimed_in, slots: Arc::new(slots) },
            complete,
            frame_bytes_max: frame_bytes_max as usize,
        })
    }

    /// The region that speaks.
    pub const fn region(&self) -> RegionId {
        self.origin.region()
    }
}

impl Welcome {
    /// Appends the frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        let (want, table) = match &self.want {
            Want::Clone(table) => (0, Table::of(table)),
            Want::Resume(table) => (1, Table::of(table)),
            Want::Later => (2, Table::default()),
        };
        let Self { origin, birth, frame_bytes_max, round, .. } = self;
        let wire = WelcomeWire(origin.bits(), birth.ntp64(), cap(*frame_bytes_max), *round, want, table);
        put_frame(out, FrameKind::Welcome, |out| put_payload(out, &wire));
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let WelcomeWire(origin, birth, frame_bytes_max, round, want, table) = read_payload("welcome", payload)?;
        let want = match want {
            0 => Want::Clone(table.read()?),
            1 => Want::Resume(table.read()?),
            2 => Want::Later,
            other => return Err(Malformed::Payload("welcome", format!("{other} is no wish"))),
        };
        let (origin, birth) = (read_origin(origin)?, Time::from_ntp64(birth));
        Ok(Self { origin, birth, frame_bytes_max: frame_bytes_max as usize, round, want })
    }
}

impl Refusal {
    /// Appends the frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        let (code, number, text) = match self {
            Self::Version(version) => (1, *version, ""),
            Self::Region(name) => (2, 0, name.as_str()),
            Self::Superseded(by) => (3, by.bits(), ""),
            Self::Replaced => (4, 0, ""),
            Self::Other(text) => (0, 0, text.as_str()),
        };
        let wire = RefuseWire(code, number, shortened(text));
        put_frame(out, FrameKind::Refuse, |out| put_payload(out, &wire));
    }

    /// Reads the payload. A code that this build does not know is [`Refusal::Other`].
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let RefuseWire(code, number, text) = read_payload("refusal", payload)?;
        let text = shortened(text);
        Ok(match code {
            1 => Self::Version(number),
            2 => Self::Region(text.to_owned()),
            3 => Self::Superseded(read_origin(number)?),
            4 => Self::Replaced,
            _ => Self::Other(text.to_owned()),
        })
    }
}

impl Ack {
    /// Appends the frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        let [asked, received, answered] =
            self.echo.map_or([0; 3], |echo| [echo.asked, echo.received, echo.answered].map(Time::ntp64));
        let row = self.seen.as_ref().map_or_else(Row::default, Row::of);
        let deaf = self.deaf.iter().map(|region| region.number()).collect();
        let wire = AckWire(self.sequence, self.held, asked, received, answered, row, deaf);
        put_frame(out, FrameKind::Ack, |out| put_payload(out, &wire));
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let AckWire(sequence, held, asked, received, answered, row, deaf) = read_payload("acknowledgement", payload)?;
        let [asked, received, answered] = [asked, received, answered].map(Time::from_ntp64);
        let echo = (asked != Time::ZERO).then_some(Echo { asked, received, answered });
        let deaf =
            deaf.into_iter().map(|id| RegionId::new(id).map_err(|_| Malformed::Region)).collect::<Result<_, _>>()?;
        Ok(Self { sequence, held, echo, seen: row.read()?, deaf })
    }
}

/// Appends a sender's question what is wanted of it now.
pub(crate) fn put_ask(out: &mut Vec<u8>) {
    put_frame(out, FrameKind::Ask, |_| ());
}

/// Appends a farewell.
pub fn put_bye(out: &mut Vec<u8>) {
    put_frame(out, FrameKind::Bye, |_| ());
}

/// Bytes that have arrived, cut into frames.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// Where the first frame that was not taken yet begins.
    start: usize,
    frame_bytes_max: usize,
}

impl Inbox {
    /// Takes frames of up to `frame_bytes_max` bytes.
    pub const fn new(frame_bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, frame_bytes_max }
    }

    /// Takes frames of up to `frame_bytes_max` bytes from now on.
    pub const fn allow(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// The buffer, for the shell to append what it reads. Frames that were taken are gone from it.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.is_empty() && self.bytes.capacity() > crate::limits::BUFFER_BYTES_KEPT {
            self.bytes = Vec::new();
        }
        &mut self.bytes
    }

    /// Whether a whole frame waits, or something that is none.
    pub fn has_frame(&self) -> bool {
        let waiting = &self.bytes[self.start..];
        waiting.split_first_chunk::<LENGTH_BYTES>().is_some_and(|(length, rest)| {
            let length = u32::from_be_bytes(*length) as usize;
            rest.len() >= length || length > self.frame_bytes_max
        })
    }

    /// Takes the next frame that is complete: its kind and its payload.
    ///
    /// # Errors
    /// [`Malformed`] if it announces more than is allowed, or is of no kind.
    pub fn next_frame(&mut self) -> Result<Option<(FrameKind, &[u8])>, Malformed> {
        let waiting = &self.bytes[self.start..];
        let Some((length, rest)) = waiting.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.frame_bytes_max {
            return Err(Malformed::FrameTooLong(length, self.frame_bytes_max));
        }
        let kind = match rest.first() {
            // A kind that does not exist is told at once, not after waiting for what it announces.
            Some(kind) if length > 0 => FrameKind::read(*kind)?,
            _ if length == 0 => return Err(Malformed::EmptyFrame),
            _ => return Ok(None),
        };
        if rest.len() < length {
            return Ok(None);
        }
        let payload = self.start + LENGTH_BYTES + 1..self.start + LENGTH_BYTES + length;
        self.start = payload.end;
        Ok(Some((kind, &self.bytes[payload])))
    }
}

/// The bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

fn cap(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The beginning of a text, cut between characters.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_BYTES_MAX)]
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
