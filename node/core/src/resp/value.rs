//! The reply decoder: owned values out of replies in either protocol, for tests and for our own clients.
//!
//! A server is trusted no further than a client. The decoder keeps an explicit stack instead of recursing, so depth
//! costs memory within a bound and never the stack of the thread; it takes every byte once, however the reply is cut
//! into reads; and it allocates by what has arrived, never by what a header claims.
//!
//! Left out: streamed aggregates and strings (`$?`, `*?`), which no Redis server sends. Attributes (`|`) are read and
//! dropped, as a client may that does not know them.

use crate::number;

/// Deepest nesting of aggregates. Policy: [`ValueError::TooDeep`].
pub const DEPTH_MAX: usize = 32;
/// Longest line that is no payload, in bytes. Policy: [`ValueError::TooLong`].
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest reply on the wire unless the decoder is told otherwise, in bytes. Policy: [`ValueError::TooLong`].
pub const REPLY_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Elements that an aggregate makes room for before they have arrived.
const ELEMENTS_RESERVED_MAX: usize = 64;

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`: one line of text.
    Simple(Vec<u8>),
    /// `-` or `!`: an error, its code first.
    Error(Vec<u8>),
    /// `:`
    Integer(i64),
    /// `$`: any bytes.
    Bulk(Vec<u8>),
    /// `_`, `$-1` or `*-1`
    Null,
    /// `*`
    Array(Vec<Value>),
    /// `%`: pairs in the order in which they came.
    Map(Vec<(Value, Value)>),
    /// `~`: elements in the order in which they came.
    Set(Vec<Value>),
    /// `>`: a message outside the order of requests and replies.
    Push(Vec<Value>),
    /// `,`
    Double(f64),
    /// `#`
    Boolean(bool),
    /// `=`: text and its three-letter format.
    Verbatim([u8; 3], Vec<u8>),
    /// `(`: the digits of an integer of any size.
    BigNumber(Vec<u8>),
}

/// What is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A reply begins with a byte that names no type.
    #[error("'{}' begins no reply", .0.escape_ascii())]
    UnknownType(u8),
    /// What follows the type's byte is not what the type demands.
    #[error("malformed reply of type '{}'", .0.escape_ascii())]
    Malformed(u8),
    /// More than [`DEPTH_MAX`] aggregates in one another.
    #[error("reply is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// Longer than the decoder was told to accept.
    #[error("reply is too long")]
    TooLong,
}

/// What [`Decoder::decode`] made of the buffer.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    /// Bytes at the start of the buffer that were taken: they must be gone at the next call.
    pub consumed: usize,
    /// The reply, when it is whole.
    pub value: Option<Value>,
}

/// An aggregate that is not complete.
#[derive(Debug)]
struct Open {
    kind: u8,
    left: usize,
    elements: Vec<Value>,
}

/// The state of one connection's replies. After an error it is of no further use.
#[derive(Debug)]
pub struct Decoder {
    stack: Vec<Open>,
    /// Bytes of the current reply that were consumed by earlier calls.
    taken: usize,
    /// Bytes at the start of the buffer that are known to hold no line end.
    searched: usize,
    bytes_max: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(REPLY_BYTES_MAX)
    }
}

/// What one element of the wire is.
enum Element {
    Whole(Value),
    Aggregate { kind: u8, len: usize },
}

impl Decoder {
    /// A decoder that accepts replies of at most `bytes_max` bytes on the wire.
    pub fn new(bytes_max: usize) -> Self {
        Self { stack: Vec::new(), taken: 0, searched: 0, bytes_max }
    }

    /// Takes from the start of `buffer` what it can, one reply at most.
    ///
    /// # Errors
    /// [`ValueError`] when the bytes are no reply or break a bound; the connection is to be closed.
    pub fn decode(&mut self, buffer: &[u8]) -> Result<Decoded, ValueError> {
        let mut consumed = 0;
        loop {
            let rest = &buffer[consumed..];
            let Some((element, len)) = self.element(rest)? else {
                return self.pause(consumed, rest.len());
            };
            self.searched = 0;
            consumed += len;
            if self.taken + consumed > self.bytes_max {
                return Err(ValueError::TooLong);
            }
            if let Some(value) = self.place(element)? {
                self.taken = 0;
                return Ok(Decoded { consumed, value: Some(value) });
            }
        }
    }

    /// Remembers what was consumed of a reply that goes on.
    fn pause(&mut self, consumed: usize, pending: usize) -> Result<Decoded, ValueError> {
        self.taken += consumed;
        if self.taken + pending > self.bytes_max {
            return Err(ValueError::TooLong);
        }
        Ok(Decoded { consumed, value: None })
    }

    /// Puts an element in its place, and gives out the reply when that was its last.
    fn place(&mut self, element: Element) -> Result<Option<Value>, ValueError> {
        let mut value = match element {
            Element::Whole(value) => value,
            Element::Aggregate { kind, len } => {
                if self.stack.len() == DEPTH_MAX {
                    return Err(ValueError::TooDeep);
                }
                let elements = Vec::with_capacity(len.min(ELEMENTS_RESERVED_MAX));
                self.stack.push(Open { kind, left: len, elements });
                match self.close_full() {
                    Some(value) => value,
                    None => return Ok(None),
                }
            }
        };
        loop {
            let Some(open) = self.stack.last_mut() else { return Ok(Some(value)) };
            open.elements.push(value);
            open.left -= 1;
            match self.close_full() {
                Some(closed) => value = closed,
                None => return Ok(None),
            }
        }
    }

    /// Closes the innermost aggregate if nothing of it is missing. An attribute yields no value.
    fn close_full(&mut self) -> Option<Value> {
        let open = self.stack.pop_if(|open| open.left == 0)?;
        match open.kind {
            b'*' => Some(Value::Array(open.elements)),
            b'~' => Some(Value::Set(open.elements)),
            b'>' => Some(Value::Push(open.elements)),
            b'%' => Some(Value::Map(pairs(open.elements))),
            _ => None,
        }
    }

    /// Reads the element at the start of `rest` and its length, if all of it is there.
    fn element(&mut self, rest: &[u8]) -> Result<Option<(Element, usize)>, ValueError> {
        let Some(&kind) = rest.first() else { return Ok(None) };
        if !b"+-:$*_,#(=!%~>|".contains(&kind) {
            return Err(ValueError::UnknownType(kind));
        }
        let Some(line) = self.line(rest)? else { return Ok(None) };
        let after = 1 + line.len() + 2;
        let malformed = ValueError::Malformed(kind);
        let element = match kind {
            b'$' | b'=' | b'!' => {
                let Some(len) = length(line).ok_or(malformed)? else {
                    return null(kind).map(|value| Some((Element::Whole(value), after)));
                };
                if len > self.bytes_max {
                    return Err(ValueError::TooLong);
                }
                let Some(payload) = rest.get(after..after + len + 2) else { return Ok(None) };
                let payload = payload.strip_suffix(b"\r\n").ok_or(malformed)?;
                return Ok(Some((Element::Whole(blob(kind, payload)?), after + len + 2)));
            }
            b'*' | b'%' | b'~' | b'>' | b'|' => match length(line).ok_or(malformed)? {
                None => Element::Whole(null(kind)?),
                Some(len) => {
                    // An element takes three bytes at least, so a greater number cannot be true.
                    if len > self.bytes_max / 3 {
                        return Err(ValueError::TooLong);
                    }
                    Element::Aggregate { kind, len: if matches!(kind, b'%' | b'|') { 2 * len } else { len } }
                }
            },
            _ => Element::Whole(scalar(kind, line).ok_or(malformed)?),
        };
        Ok(Some((element, after)))
    }

    /// The line after the first byte of `rest`, without its CR LF.
    fn line<'b>(&mut self, rest: &'b [u8]) -> Result<Option<&'b [u8]>, ValueError> {
        let found = memchr::memchr(b'\n', &rest[self.searched..]).map(|at| self.searched + at);
        let end = found.unwrap_or(rest.len());
        if end > LINE_BYTES_MAX {
            return Err(ValueError::TooLong);
        }
        if found.is_none() {
            self.searched = end;
            return Ok(None);
        }
        // The payload of a long bulk may be pending: do not look for the line's end from the start again.
        self.searched = end;
        rest[1..end].strip_suffix(b"\r").map(Some).ok_or(ValueError::Malformed(rest[0]))
    }
}

/// A length, or `Some(None)` for the -1 of a null.
fn length(line: &[u8]) -> Option<Option<usize>> {
    match number::parse_i64(line)? {
        -1 => Some(None),
        len => usize::try_from(len).ok().map(Some),
    }
}

/// RESP2's null, which only these two types have.
fn null(kind: u8) -> Result<Value, ValueError> {
    if matches!(kind, b'$' | b'*') { Ok(Value::Null) } else { Err(ValueError::Malformed(kind)) }
}

/// A value with a length in front.
fn blob(kind: u8, payload: &[u8]) -> Result<Value, ValueError> {
    match (kind, payload) {
        (b'$', _) => Ok(Value::Bulk(payload.to_vec())),
        (b'!', _) => Ok(Value::Error(payload.to_vec())),
        (_, [a, b, c, b':', text @ ..]) => Ok(Value::Verbatim([*a, *b, *c], text.to_vec())),
        _ => Err(ValueError::Malformed(kind)),
    }
}

/// A value of one line.
fn scalar(kind: u8, line: &[u8]) -> Option<Value> {
    match (kind, line) {
        (b'+', _) => Some(Value::Simple(line.to_vec())),
        (b'-', _) => Some(Value::Error(line.to_vec())),
        (b':', _) => number::parse_i64(line.strip_prefix(b"+").unwrap_or(line)).map(Value::Integer),
        (b',', _) => number::parse_double(line).map(Value::Double),
        (b'_', b"") => Some(Value::Null),
        (b'#', b"t") => Some(Value::Boolean(true)),
        (b'#', b"f") => Some(Value::Boolean(false)),
        (b'(', [b'-' | b'+', digits @ ..] | digits) if is_digits(digits) => Some(Value::BigNumber(line.to_vec())),
        _ => None,
    }
}

fn is_digits(digits: &[u8]) -> bool {
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Keys and values, which came in turn. Their number is even.
fn pairs(elements: Vec<Value>) -> Vec<(Value, Value)> {
    let mut pairs = Vec::with_capacity(elements.len() / 2);
    let mut elements = elements.into_iter();
    while let (Some(key), Some(value)) = (elements.next(), elements.next()) {
        pairs.push((key, value));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::{DEPTH_MAX, Decoded, Decoder, Value, ValueError};

    fn decode(bytes: &[u8]) -> Result<Decoded, ValueError> {
        Decoder::default().decode(bytes)
    }

    #[track_caller]
    fn decodes(bytes: &[u8], value: Value) {
        assert_eq!(decode(bytes), Ok(Decoded { consumed: bytes.len(), value: Some(value) }));
    }

    #[test]
    fn every_type_is_decoded() {
        decodes(b"+OK\r\n", Value::Simple(b"OK".to_vec()));
        decodes(b"-ERR x\r\n", Value::Error(b"ERR x".to_vec()));
        decodes(b":-12\r\n", Value::Integer(-12));
        decodes(b"$2\r\n\r\n\r\n", Value::Bulk(b"\r\n".to_vec()));
        decodes(b"$-1\r\n", Value::Null);
        decodes(b"*-1\r\n", Value::Null);
        decodes(b"_\r\n", Value::Null);
        decodes(b"*0\r\n", Value::Array(vec![]));
        decodes(
            b"*2\r\n*1\r\n:1\r\n#t\r\n",
            Value::Array(vec![Value::Array(vec![Value::Integer(1)]), Value::Boolean(true)]),
        );
        decodes(b"%1\r\n+a\r\n,1.5\r\n", Value::Map(vec![(Value::Simple(b"a".to_vec()), Value::Double(1.5))]));
        decodes(b"~1\r\n,-inf\r\n", Value::Set(vec![Value::Double(f64::NEG_INFINITY)]));
        decodes(
            b">1\r\n(-99999999999999999999\r\n",
            Value::Push(vec![Value::BigNumber(b"-99999999999999999999".to_vec())]),
        );
        decodes(b"=6\r\ntxt:hi\r\n", Value::Verbatim(*b"txt", b"hi".to_vec()));
        decodes(b"!5\r\nERR x\r\n", Value::Error(b"ERR x".to_vec()));
    }

    #[test]
    fn attributes_are_dropped_wherever_they_stand() {
        decodes(
            b"|1\r\n+ttl\r\n:3\r\n*2\r\n|0\r\n:1\r\n:2\r\n",
            Value::Array(vec![Value::Integer(1), Value::Integer(2)]),
        );
    }

    #[test]
    fn malformed_replies_are_refused() {
        for bytes in [
            &b"x"[..],
            b"$-2\r\n",
            b"%-1\r\n",
            b":\r\n",
            b"#x\r\n",
            b"_x\r\n",
            b"$1\r\nabc",
            b"+a\n",
            b"=2\r\nab\r\n",
            b"(1a\r\n",
        ] {
            assert!(decode(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        assert_eq!(decode(&b"*1\r\n".repeat(DEPTH_MAX + 1)), Err(ValueError::TooDeep));
        assert_eq!(Decoder::new(100).decode(b"$101\r\n"), Err(ValueError::TooLong));
        assert_eq!(Decoder::new(100).decode(b"*99999999999\r\n"), Err(ValueError::TooLong));
        assert_eq!(Decoder::new(9).decode(b"*3\r\n:1\r\n:2\r\n"), Err(ValueError::TooLong));
        assert_eq!(Decoder::new(9).decode(b"+0123456789"), Err(ValueError::TooLong));
    }
}
