//! The arguments of one request.
//!
//! [`Args`] is a view: spans into bytes that somebody else holds, usually the read buffer of a connection. It is two
//! slices wide, `Copy`, and every command gets it as its only input. [`ArgsBuf`] owns the same thing in two
//! allocations, however many arguments there are: inline commands unescape into one, and a transaction keeps what it
//! queued in one.
//!
//! A span is 8 bytes (two `u32`), not the 16 of a `Range<usize>`: a request may have a million arguments. That is why
//! [`Limits`](super::Limits) bounds a request in `u32`.

use std::fmt;
use std::ops::Index;

/// Where an argument lies, relative to the bytes of its [`Args`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// A borrowed view of the arguments of one request, the command's name first.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// Every span must lie within `bytes`; the parser and [`ArgsBuf`] see to that.
    pub(super) fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { bytes, spans }
    }

    /// The number of arguments, the command's name included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no argument at all, not even a name.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How far the arguments reach, in bytes: none of them is longer, so one look tells that all are short.
    #[inline]
    pub fn extent(&self) -> usize {
        self.spans.last().map_or(0, |last| last.start as usize + last.len as usize)
    }

    /// The argument at `index`, if there is one.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|&span| self.slice(span))
    }

    /// The arguments in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let view = *self;
        view.spans.iter().map(move |&span| view.slice(span))
    }

    /// The arguments from `index` on; none if there are fewer.
    #[must_use]
    pub fn from(&self, index: usize) -> Self {
        Self { bytes: self.bytes, spans: self.spans.get(index..).unwrap_or_default() }
    }

    #[inline]
    fn slice(&self, span: Span) -> &'a [u8] {
        &self.bytes[span.start as usize..][..span.len as usize]
    }
}

/// The argument at an index that the command's arity vouches for.
///
/// # Panics
/// When there are fewer arguments.
impl Index<usize> for Args<'_> {
    type Output = [u8];

    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        self.slice(self.spans[index])
    }
}

impl fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|argument| argument.escape_ascii().to_string())).finish()
    }
}

/// Arguments that own their bytes.
#[derive(Clone, Default)]
pub struct ArgsBuf {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl ArgsBuf {
    /// No arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one argument.
    ///
    /// # Panics
    /// When the arguments together would reach 4 GiB; a request is bounded far below.
    pub fn push(&mut self, argument: &[u8]) {
        self.bytes.extend_from_slice(argument);
        self.close_argument(argument.len());
    }

    /// The view that commands take.
    pub fn as_args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.spans)
    }

    /// Bytes held by the arguments, for the bound of whoever keeps them.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.spans.len() * size_of::<Span>()
    }

    /// Bytes allocated, used or not.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()
    }

    /// Removes all arguments and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Appends a byte to an argument that [`close_argument`](Self::close_argument) will end.
    pub(super) fn push_byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Makes an argument of the last `len` bytes.
    pub(super) fn close_argument(&mut self, len: usize) {
        let end = u32::try_from(self.bytes.len()).expect("a request is bounded below 4 GiB");
        let len = len as u32;
        self.spans.push(Span { start: end - len, len });
    }
}

impl From<Args<'_>> for ArgsBuf {
    fn from(args: Args<'_>) -> Self {
        args.iter().collect()
    }
}

impl<A: AsRef<[u8]>> FromIterator<A> for ArgsBuf {
    fn from_iter<I: IntoIterator<Item = A>>(arguments: I) -> Self {
        let mut args = Self::new();
        for argument in arguments {
            args.push(argument.as_ref());
        }
        args
    }
}

impl fmt::Debug for ArgsBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_args().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::ArgsBuf;

    #[test]
    fn arguments_are_found_by_index_and_in_order() {
        let owned: ArgsBuf = ["SET", "", "value"].into_iter().collect();
        let args = owned.as_args();
        assert_eq!((args.len(), &args[0], &args[1], args.get(2)), (3, &b"SET"[..], &b""[..], Some(&b"value"[..])));
        assert_eq!(args.get(3), None);
        assert_eq!(args.iter().collect::<Vec<_>>(), [&b"SET"[..], b"", b"value"]);
        assert_eq!(args.from(2).iter().collect::<Vec<_>>(), [b"value"]);
        assert!(args.from(4).is_empty());
        assert_eq!(format!("{:?}", ArgsBuf::from(args)), r#"["SET", "", "value"]"#);
    }
}
