//! The request parser: multibulk and inline commands out of a growing buffer.
//!
//! The shell reads bytes into a buffer and calls [`Parser::parse`] until it gets [`Parsed::Incomplete`]. A request is
//! handed out as [`Args`]: spans into the very buffer. Nothing is copied (an inline command aside, whose quotes must be
//! undone) and, once the span table has grown to what the connection uses, nothing is allocated.
//!
//! What a hostile or slow client can do was the design:
//!
//! * **A value in many reads.** The parser remembers which bytes it has understood, and how far it has looked for a
//!   line end. Each byte is looked at once, and the bytes of a payload not at all: 512 MiB that arrive in reads of
//!   16 KiB cost 32,768 comparisons.
//! * **A header that lies.** `*1048576` and `$536870912` allocate nothing. The span table grows with the arguments
//!   that have arrived, 8 bytes for at least 6 on the wire; the shell reserves buffer for what is
//!   [missing](Parsed::Incomplete) within bounds of its own.
//! * **Nothing, forever.** Empty lines and empty multibulks are no requests. They are reported as bytes to discard,
//!   so they do not pile up.
//!
//! The errors are Redis's, word for word, since clients and their tests know them. So is the laxity: as in Redis the
//! two bytes that end a payload or a header are skipped and not compared with CR LF. Where Redis lets the outcome
//! depend on how the bytes were cut into reads (a line longer than 64 KiB passes if it comes at once), the parser
//! always refuses: any cut of the input gives the same requests.
//!
//! Left out: the size of the buffer, timeouts and what to do after an error (Redis replies and closes), which belong
//! to the connection.

use std::iter;

use super::args::{Args, ArgsBuf, Span};
use super::inline::{self, UnbalancedQuotes};
use super::reply::Reply;
use crate::number;

/// Longest search for the end of a header line, and longest inline command from a client that has yet to authenticate, in
/// bytes. Policy: protocol error.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Most arguments of a request from a client that has yet to authenticate. Policy: protocol error.
pub const UNAUTHENTICATED_ARGUMENTS_MAX: u32 = 10;
/// Longest argument from a client that has yet to authenticate, in bytes. Policy: protocol error.
pub const UNAUTHENTICATED_BULK_BYTES_MAX: u32 = 16 * 1024;
/// Spans that a parser keeps allocated between requests (8 KiB). Policy: what a larger request needed is given back.
const SPANS_KEPT: usize = 1024;
/// Most arguments of a request that the fast path reads. Within what a client may send before it has authenticated, as
/// are three digits of length, so the fast path need not ask who it is.
const FAST_ARGUMENTS_MAX: u32 = 8;
const _: () = assert!(FAST_ARGUMENTS_MAX <= UNAUTHENTICATED_ARGUMENTS_MAX && UNAUTHENTICATED_BULK_BYTES_MAX > 999);
/// Digits that the fast path of a header reads; what is longer goes the careful way, and is then refused.
const FAST_DIGITS_MAX: usize = 9;
/// The two bytes after a header line and after a payload.
const LINE_END: usize = 2;

/// The bounds of a request. Breaking one is a [`ProtocolError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most arguments, the command's name included.
    pub arguments_max: u32,
    /// Longest argument, in bytes (Redis: `proto-max-bulk-len`).
    pub bulk_bytes_max: u32,
    /// Longest inline command, in bytes (a constant in Redis).
    pub inline_bytes_max: u32,
    /// Longest request on the wire, in bytes (Redis: `client-query-buffer-limit`).
    pub request_bytes_max: u32,
    /// Whether the client may use all of that; until it has authenticated it gets
    /// [`UNAUTHENTICATED_ARGUMENTS_MAX`], [`UNAUTHENTICATED_BULK_BYTES_MAX`] and [`LINE_BYTES_MAX`] at most.
    pub authenticated: bool,
}

impl Limits {
    /// Redis's own bounds, for a client that has authenticated or need not.
    pub const DEFAULT: Self = Self {
        arguments_max: 1024 * 1024,
        bulk_bytes_max: 512 * 1024 * 1024,
        inline_bytes_max: LINE_BYTES_MAX as u32,
        request_bytes_max: 1024 * 1024 * 1024,
        authenticated: true,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What [`Parser::parse`] found at the start of the buffer.
#[derive(Debug)]
pub enum Parsed<'a> {
    /// A whole request of at least one argument.
    Request {
        /// The arguments, the command's name first.
        args: Args<'a>,
        /// The bytes of the buffer that it took: they must be gone at the next call.
        consumed: usize,
    },
    /// No whole request yet.
    Incomplete {
        /// The bytes at the start of the buffer that say nothing: they must be gone at the next call.
        consumed: usize,
        /// At least so many more bytes are needed. The client claims this number: reserve within bounds.
        missing: usize,
    },
}

/// What ends a connection. The text is Redis's; nothing that follows in the buffer can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number after `*` is no number, or too great.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// More arguments than a client may send before it has authenticated.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// The number after `$` is no number, negative, or too great.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// A longer argument than a client may send before it has authenticated.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// An argument of a multibulk must begin with `$`.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    ExpectedDollar(u8),
    /// The line of a `*` does not end.
    #[error("Protocol error: too big mbulk count string")]
    TooBigMultibulkCount,
    /// The line of a `$` does not end.
    #[error("Protocol error: too big bulk count string")]
    TooBigBulkCount,
    /// An inline command does not end.
    #[error("Protocol error: too big inline request")]
    TooBigInline,
    /// The quotes of an inline command do not match.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The request as a whole is longer than [`Limits::request_bytes_max`].
    #[error("Protocol error: too big request")]
    TooBigRequest,
}

impl ProtocolError {
    /// Writes the error reply that precedes the end of the connection.
    pub fn write(self, reply: &mut Reply<'_>) {
        reply.error(format_args!("ERR {self}"));
    }
}

/// Whether a request is one of the first lines of an HTTP request, which no Redis client sends.
///
/// A web page can make a browser post to any port, with commands for us in the body. Redis cuts such a connection
/// without a reply, and so must we, before the body is read.
pub fn is_http(args: Args<'_>) -> bool {
    args.get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:"))
}

/// The second arguments, which are keys as a rule, of the requests at the start of `buffer`: as long as they are whole, and look as nearly all
/// do. For whoever wants to know early what will be asked for; nothing else may depend on it.
pub fn keys_ahead(mut buffer: &[u8]) -> impl Iterator<Item = &[u8]> {
    iter::from_fn(move || {
        let (mut place, mut key) = (0, None);
        let len = short_multibulk(buffer, |span| {
            key = if place == 1 { Some(span) } else { key };
            place += 1;
        })?;
        let (request, rest) = buffer.split_at(len);
        buffer = rest;
        key.map(|Span { start, len }| &request[start as usize..][..len as usize])
    })
}

/// The state of one connection's input.
///
/// Between two calls the buffer may only grow at its end and lose what was consumed at its start.
#[derive(Debug, Default)]
pub struct Parser {
    /// Where the next header or payload begins, from the start of the request.
    position: usize,
    /// How many bytes from `position` on are known to hold no line end.
    searched: usize,
    /// Arguments that have yet to arrive; 0 between requests.
    left: u32,
    /// The length of the argument at `position`, once its header has been read.
    payload: Option<u32>,
    spans: Vec<Span>,
    words: ArgsBuf,
}

/// Why parsing stopped short of a request.
enum Stop {
    /// At least so many bytes are missing.
    Missing(usize),
    Error(ProtocolError),
}

impl From<ProtocolError> for Stop {
    fn from(error: ProtocolError) -> Self {
        Self::Error(error)
    }
}

impl Parser {
    /// The state of a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next request from the start of `buffer`.
    ///
    /// # Errors
    /// [`ProtocolError`] when the bytes are no request or break a bound. The connection is to be closed, since
    /// nothing tells where the next request would begin.
    #[inline]
    pub fn parse<'a>(&'a mut self, buffer: &'a [u8], limits: &Limits) -> Result<Parsed<'a>, ProtocolError> {
        // Either way what is found stays in registers: the args are put together here, in one place.
        let (skipped, found) = match self.whole(buffer, limits) {
            Some(len) => (0, Ok(Found::Multibulk { len })),
            None => self.look_carefully(buffer, limits),
        };
        match found {
            Ok(Found::Nothing { len }) => Ok(Parsed::Incomplete { consumed: skipped + len, missing: 1 }),
            Ok(Found::Multibulk { len }) => {
                Ok(Parsed::Request { args: Args::new(&buffer[skipped..], &self.spans), consumed: skipped + len })
            }
            Ok(Found::Inline { len }) => Ok(Parsed::Request { args: self.words.as_args(), consumed: skipped + len }),
            Err(Stop::Missing(missing)) => Ok(Parsed::Incomplete { consumed: skipped, missing }),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    /// Reads a request as nearly all are: a short multibulk that is all there, and breaks no bound. Returns its length.
    /// `None` says nothing but "look carefully", and changes nothing but the spans.
    #[inline]
    fn whole(&mut self, buffer: &[u8], limits: &Limits) -> Option<usize> {
        if self.left > 0 || self.searched > 0 || self.spans.capacity() > SPANS_KEPT {
            return None;
        }
        self.spans.clear();
        let mut longest = 0;
        let len = short_multibulk(buffer, |span| {
            longest = longest.max(span.len);
            self.spans.push(span);
        })?;
        if self.spans.len() as u32 > limits.arguments_max || longest > limits.bulk_bytes_max {
            return None;
        }
        // So few and so short that no other bound can be in the way.
        (len <= limits.request_bytes_max as usize).then_some(len)
    }

    /// Passes over what is no request, and says what follows how many such bytes.
    fn look_carefully(&mut self, buffer: &[u8], limits: &Limits) -> (usize, Result<Found, Stop>) {
        let mut skipped = 0;
        loop {
            let bytes = &buffer[skipped..];
            let found = if self.left > 0 { self.arguments(bytes, limits) } else { self.begin(bytes, limits) };
            match found {
                Ok(Found::Nothing { len }) => skipped += len,
                found => return (skipped, found),
            }
        }
    }

    /// Bytes that the parser has allocated: at most a small multiple of what has arrived.
    pub fn memory(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.words.memory()
    }

    /// Starts a request at the start of `bytes`.
    fn begin(&mut self, bytes: &[u8], limits: &Limits) -> Result<Found, Stop> {
        match bytes.first() {
            None => Err(Stop::Missing(1)),
            Some(b'*') => self.multibulk(bytes, limits),
            Some(_) => self.inline(bytes, limits),
        }
    }

    fn multibulk(&mut self, bytes: &[u8], limits: &Limits) -> Result<Found, Stop> {
        let (count, end) = match fast_header(bytes) {
            Some((count, end)) => (i64::from(count), end),
            None => {
                let line = self.header_line(bytes, ProtocolError::TooBigMultibulkCount)?;
                let count = number::parse_i64(line).ok_or(ProtocolError::InvalidMultibulkLength)?;
                (count, 1 + line.len() + LINE_END)
            }
        };
        self.searched = 0;
        if count > i64::from(limits.arguments_max) {
            return Err(ProtocolError::InvalidMultibulkLength.into());
        }
        if count > i64::from(UNAUTHENTICATED_ARGUMENTS_MAX) && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedMultibulkLength.into());
        }
        if count <= 0 {
            return Ok(Found::Nothing { len: end });
        }
        self.spans.clear();
        if self.spans.capacity() > SPANS_KEPT {
            self.spans.shrink_to(SPANS_KEPT);
        }
        self.position = end;
        self.left = count as u32;
        self.arguments(bytes, limits)
    }

    /// Reads arguments from `position` on until none is left.
    fn arguments(&mut self, bytes: &[u8], limits: &Limits) -> Result<Found, Stop> {
        while self.left > 0 {
            let len = match self.payload {
                Some(len) => len,
                None => self.bulk_header(bytes, limits)?,
            };
            let start = self.position;
            let end = start + len as usize + LINE_END;
            if end > bytes.len() {
                self.payload = Some(len);
                return Err(Stop::Missing(end - bytes.len()));
            }
            self.spans.push(Span { start: start as u32, len });
            self.payload = None;
            self.position = end;
            self.left -= 1;
        }
        let len = self.position;
        self.position = 0;
        Ok(Found::Multibulk { len })
    }

    /// Reads the header of the next argument and moves `position` to its payload.
    #[inline]
    fn bulk_header(&mut self, bytes: &[u8], limits: &Limits) -> Result<u32, Stop> {
        let rest = &bytes[self.position..];
        match rest.first() {
            None => return Err(Stop::Missing(1)),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedDollar(other).into()),
        }
        let (len, header) = match fast_header(rest) {
            Some(found) => found,
            None => {
                let line = self.header_line(rest, ProtocolError::TooBigBulkCount)?;
                let len = number::parse_i64(line).and_then(|len| u32::try_from(len).ok());
                (len.ok_or(ProtocolError::InvalidBulkLength)?, 1 + line.len() + LINE_END)
            }
        };
        self.searched = 0;
        if len > limits.bulk_bytes_max {
            return Err(ProtocolError::InvalidBulkLength.into());
        }
        if len > UNAUTHENTICATED_BULK_BYTES_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLength.into());
        }
        self.position += header;
        // Here, so that every span fits its two `u32`.
        if self.position as u64 + u64::from(len) > u64::from(limits.request_bytes_max) {
            return Err(ProtocolError::TooBigRequest.into());
        }
        Ok(len)
    }

    /// The line after the type byte of `rest`, without its end; any length, any content.
    #[cold]
    fn header_line<'b>(&mut self, rest: &'b [u8], too_big: ProtocolError) -> Result<&'b [u8], Stop> {
        let at = self.search(rest, b'\r', LINE_BYTES_MAX, too_big)?;
        if at + LINE_END > rest.len() {
            return Err(Stop::Missing(1));
        }
        Ok(&rest[1..at])
    }

    /// One line of words.
    #[cold]
    fn inline(&mut self, bytes: &[u8], limits: &Limits) -> Result<Found, Stop> {
        let most = limits.inline_bytes_max as usize;
        let most = if limits.authenticated { most } else { most.min(LINE_BYTES_MAX) };
        let at = self.search(bytes, b'\n', most, ProtocolError::TooBigInline)?;
        self.searched = 0;
        let line = bytes[..at].strip_suffix(b"\r").unwrap_or(&bytes[..at]);
        self.words.clear();
        inline::split(line, &mut self.words).map_err(|UnbalancedQuotes| ProtocolError::UnbalancedQuotes)?;
        let words = self.words.as_args();
        if words.len() > limits.arguments_max as usize {
            return Err(ProtocolError::InvalidMultibulkLength.into());
        }
        Ok(if words.is_empty() { Found::Nothing { len: at + 1 } } else { Found::Inline { len: at + 1 } })
    }

    /// Finds `end` in `rest`, at `most` so far; the first `searched` bytes are known to lack it.
    fn search(&mut self, rest: &[u8], end: u8, most: usize, too_big: ProtocolError) -> Result<usize, Stop> {
        let found = memchr::memchr(end, &rest[self.searched..]).map(|at| self.searched + at);
        if found.unwrap_or(rest.len()) > most {
            return Err(too_big.into());
        }
        self.searched = found.unwrap_or(rest.len());
        found.ok_or(Stop::Missing(1))
    }
}

/// What was found; the arguments are in the parser.
enum Found {
    /// Bytes without a request.
    Nothing { len: usize },
    /// A request whose spans point into the buffer.
    Multibulk { len: usize },
    /// A request whose words were unescaped.
    Inline { len: usize },
}

/// Reads a request as nearly all are, a short multibulk that is all there: hands out its arguments, and returns its length. `None` says
/// nothing but "look carefully".
#[inline(always)]
fn short_multibulk(buffer: &[u8], mut argument: impl FnMut(Span)) -> Option<usize> {
    let (count, mut position) = short_header(buffer, b'*')?;
    if count == 0 || count > FAST_ARGUMENTS_MAX {
        return None;
    }
    for _ in 0..count {
        let (len, header) = short_header(buffer.get(position..)?, b'$')?;
        let start = position + header;
        position = start + len as usize + LINE_END;
        if position > buffer.len() {
            return None;
        }
        argument(Span { start: start as u32, len });
    }
    Some(position)
}

/// Reads a header of up to three digits: the number and the length of the line with its end. `None` says nothing but
/// "look carefully".
///
/// No request ends less than six bytes after the start of a header, so the fixed length loses nothing. It is unrolled by
/// hand since a loop costs three times as much.
#[inline]
fn short_header(line: &[u8], kind: u8) -> Option<(u32, usize)> {
    let [first, line @ ..] = line.first_chunk::<6>()?;
    let digit = |at: usize| u32::from(line[at].wrapping_sub(b'0'));
    let (a, b, c) = (digit(0), digit(1), digit(2));
    if *first != kind || a > 9 {
        return None;
    }
    if line[1] == b'\r' {
        return Some((a, 4));
    }
    // A leading zero is no number to Redis.
    if a == 0 || b > 9 {
        return None;
    }
    if line[2] == b'\r' {
        return Some((10 * a + b, 5));
    }
    (c <= 9 && line[3] == b'\r').then_some((100 * a + 10 * b + c, 6))
}

/// Reads a header that is whole and looks as every client writes it: the number and the length of the line with its
/// end. `None` says nothing but "look carefully".
#[inline]
fn fast_header(line: &[u8]) -> Option<(u32, usize)> {
    let digits = &line[1..];
    let first = digits.first()?.wrapping_sub(b'0');
    if first > 9 {
        return None;
    }
    let mut value = u32::from(first);
    let mut len = 1;
    loop {
        let byte = *digits.get(len)?;
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let whole = byte == b'\r' && digits.len() > len + 1;
            return whole.then_some((value, 1 + len + LINE_END));
        }
        // A leading zero is no number to Redis.
        if len == FAST_DIGITS_MAX || value == 0 {
            return None;
        }
        value = value * 10 + u32::from(digit);
        len += 1;
    }
}
