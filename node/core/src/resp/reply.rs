//! The reply writer: appends replies to the output buffer of a connection, in RESP2 or RESP3.
//!
//! A command says what it means (a map, a double, a null), and the writer knows how the connection's protocol puts it:
//! RESP2 has neither maps nor sets nor doubles nor nulls of their own, so they become flat arrays, bulk strings and
//! `$-1`, exactly as Redis writes them. So no command ever asks for the protocol's version.
//!
//! Doubles are written with the fewest digits that read back as the same double, as Redis does since 7.2 (7.0 writes
//! 17 digits, of which some are noise).
//!
//! Every simple string and every error keeps to one line: a CR or LF in it, which could only come from what a client
//! sent, becomes a blank, so that nobody can smuggle a second reply into the first.

use std::fmt;
use std::io::Write as _;

use crate::number;

/// The version of the protocol that a connection has agreed on with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every connection begins with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// The number of the version: 2 or 3.
    pub const fn version(self) -> u8 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }

    /// The protocol of that version, if there is one.
    pub const fn from_version(version: i64) -> Option<Self> {
        match version {
            2 => Some(Self::Resp2),
            3 => Some(Self::Resp3),
            _ => None,
        }
    }
}

/// Writes replies to the end of a buffer.
///
/// Aggregates are written as a header with the number of elements, and then the elements: who writes a header owes
/// as many replies.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

/// Where an array begins whose length is not known yet. Must be given back to [`Reply::end_array`].
#[must_use]
#[derive(Debug)]
pub struct OpenArray {
    start: usize,
}

impl<'a> Reply<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// The protocol that is being written.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Changes the protocol of what follows, as HELLO does.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Bytes in the buffer, those before this reply included.
    pub fn buffered(&self) -> usize {
        self.out.len()
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// `+PONG`.
    pub fn pong(&mut self) {
        self.out.extend_from_slice(b"+PONG\r\n");
    }

    /// `+QUEUED`, the reply to a command inside a transaction.
    pub fn queued(&mut self) {
        self.out.extend_from_slice(b"+QUEUED\r\n");
    }

    /// A simple string: one line of text.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// An error: its code in capitals, a blank, the rest; without the leading `-`. Takes a `&str` or `format_args!`.
    pub fn error(&mut self, error: impl fmt::Display) {
        self.line(b'-', error);
    }

    /// An error with bytes from a client in it, which need not be UTF-8.
    pub fn error_bytes(&mut self, error: &[u8]) {
        self.out.push(b'-');
        let start = self.out.len();
        self.out.extend_from_slice(error);
        self.end_line(start);
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        match usize::try_from(value) {
            Ok(value) => self.header(b':', value),
            Err(_) => self.long_header(b':', value),
        }
    }

    /// An integer that counts or measures, at most `i64::MAX`.
    #[inline]
    pub fn count(&mut self, value: usize) {
        self.header(b':', value);
    }

    /// A bulk string: any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        // One growth instead of three: header, payload, end.
        self.out.reserve(HEADER_BYTES_MAX + bytes.len() + 2);
        self.header(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A bulk string of text.
    pub fn text(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }

    /// An integer as a bulk string, as GET replies for a stored integer.
    #[inline]
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// No value: `$-1` or `_`.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// No array: `*-1` or `_`.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// A bulk string, or a null.
    #[inline]
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// The header of an array: `len` replies follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len);
    }

    /// The header of a map: `len` pairs of a key and a value follow. RESP2 gets a flat array.
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', 2 * len),
            Protocol::Resp3 => self.header(b'%', len),
        }
    }

    /// The header of a set: `len` replies follow. RESP2 gets an array.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len),
            Protocol::Resp3 => self.header(b'~', len),
        }
    }

    /// The header of an out-of-band message: `len` replies follow. RESP2 gets an array.
    pub fn push(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len),
            Protocol::Resp3 => self.header(b'>', len),
        }
    }

    /// Begins an array whose length is known only at its end.
    pub fn begin_array(&mut self) -> OpenArray {
        OpenArray { start: self.out.len() }
    }

    /// Ends an array of `len` replies. Moves them by the length of the header, so prefer [`array`](Self::array).
    pub fn end_array(&mut self, open: OpenArray, len: usize) {
        let mut digits = itoa::Buffer::new();
        let header = [b"*", digits.format(len).as_bytes(), b"\r\n"].concat();
        self.out.splice(open.start..open.start, header);
    }

    /// A boolean. RESP2 gets the integer 1 or 0.
    pub fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(match (self.protocol, value) {
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
        });
    }

    /// A double. RESP2 gets a bulk string.
    pub fn double(&mut self, value: f64) {
        let mut buffer = zmij::Buffer::new();
        let text = number::format_double(value, &mut buffer);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => self.line(b',', text),
        }
    }

    /// An integer of any size, as its digits. RESP2 gets a bulk string.
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => self.line(b'(', digits),
        }
    }

    /// Text for a human, as INFO replies. RESP2 gets a bulk string.
    pub fn verbatim(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.header(b'=', VERBATIM_TEXT.len() + text.len());
                self.out.extend_from_slice(VERBATIM_TEXT);
                self.out.extend_from_slice(text.as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A reply that is in the right protocol already.
    pub fn raw(&mut self, reply: &[u8]) {
        self.out.extend_from_slice(reply);
    }

    #[inline(always)]
    fn header(&mut self, kind: u8, number: usize) {
        let digit = |of: usize| b'0' + (of % 10) as u8;
        // Of a known length, so that appending is a store and not a call.
        match number {
            0..10 => self.out.extend_from_slice(&[kind, digit(number), b'\r', b'\n']),
            10..100 => self.out.extend_from_slice(&[kind, digit(number / 10), digit(number), b'\r', b'\n']),
            100..1_000 => {
                let digits = [digit(number / 100), digit(number / 10), digit(number)];
                self.out.extend_from_slice(&[kind, digits[0], digits[1], digits[2], b'\r', b'\n']);
            }
            _ => self.long_header(kind, number),
        }
    }

    fn long_header(&mut self, kind: u8, number: impl itoa::Integer) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        // Built in place first: one growth check instead of three.
        let mut line = [0; HEADER_BYTES_MAX];
        line[0] = kind;
        line[1..=digits.len()].copy_from_slice(digits);
        line[digits.len() + 1..digits.len() + 3].copy_from_slice(b"\r\n");
        self.out.extend_from_slice(&line[..digits.len() + 3]);
    }

    fn line(&mut self, kind: u8, text: impl fmt::Display) {
        self.out.push(kind);
        let start = self.out.len();
        write!(self.out, "{text}").expect("a vector takes every write");
        self.end_line(start);
    }

    /// Ends the line whose text begins at `start`, and keeps it one line.
    fn end_line(&mut self, start: usize) {
        for byte in &mut self.out[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Longest header: its kind, 20 digits of a `u64` or a sign and 19 of an `i64`, CR LF.
const HEADER_BYTES_MAX: usize = 23;
/// The format of a verbatim string, part of its payload.
const VERBATIM_TEXT: &[u8] = b"txt:";

#[cfg(test)]
mod tests {
    use super::{Protocol, Reply};

    fn written(protocol: Protocol, write: impl Fn(&mut Reply<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, protocol));
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn writes(resp2: &str, resp3: &str, write: impl Fn(&mut Reply<'_>)) {
        assert_eq!(written(Protocol::Resp2, &write), resp2);
        assert_eq!(written(Protocol::Resp3, &write), resp3);
    }

    #[test]
    fn both_protocols_share_lines_integers_bulks_and_arrays() {
        writes("+OK\r\n", "+OK\r\n", |reply| reply.ok());
        writes("+Background\r\n", "+Background\r\n", |reply| reply.simple("Background"));
        writes("-ERR no\r\n", "-ERR no\r\n", |reply| reply.error("ERR no"));
        writes(":-9223372036854775808\r\n", ":-9223372036854775808\r\n", |reply| reply.integer(i64::MIN));
        writes("$0\r\n\r\n", "$0\r\n\r\n", |reply| reply.bulk(b""));
        writes("$3\r\n-42\r\n", "$3\r\n-42\r\n", |reply| reply.bulk_integer(-42));
        writes("*12\r\n", "*12\r\n", |reply| reply.array(12));
    }

    #[test]
    fn resp2_gets_what_redis_puts_in_place_of_newer_types() {
        writes("$-1\r\n", "_\r\n", |reply| reply.null());
        writes("*-1\r\n", "_\r\n", |reply| reply.null_array());
        writes("*4\r\n", "%2\r\n", |reply| reply.map(2));
        writes("*2\r\n", "~2\r\n", |reply| reply.set(2));
        writes("*2\r\n", ">2\r\n", |reply| reply.push(2));
        writes(":1\r\n", "#t\r\n", |reply| reply.boolean(true));
        writes(":0\r\n", "#f\r\n", |reply| reply.boolean(false));
        writes("$4\r\n10.5\r\n", ",10.5\r\n", |reply| reply.double(10.5));
        writes("$1\r\n3\r\n", ",3\r\n", |reply| reply.double(3.0));
        writes("$4\r\n-inf\r\n", ",-inf\r\n", |reply| reply.double(f64::NEG_INFINITY));
        writes("$2\r\n99\r\n", "(99\r\n", |reply| reply.big_number("99"));
        writes("$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n", |reply| reply.verbatim("hi"));
    }

    #[test]
    fn a_line_stays_one_line() {
        writes("-ERR a  b\r\n", "-ERR a  b\r\n", |reply| reply.error(format_args!("ERR a{}b", "\r\n")));
        writes("-ERR a b\r\n", "-ERR a b\r\n", |reply| reply.error_bytes(b"ERR a\nb"));
    }

    #[test]
    fn an_array_of_unknown_length_gets_its_header_at_the_end() {
        writes("+OK\r\n*2\r\n:1\r\n:2\r\n", "+OK\r\n*2\r\n:1\r\n:2\r\n", |reply| {
            reply.ok();
            let open = reply.begin_array();
            reply.integer(1);
            reply.integer(2);
            reply.end_array(open, 2);
        });
    }
}
