//! The errors of commands, in Redis's words: clients match on them.

use crate::store::{HeapFull, OutOfMemory};

/// Why a command was not executed. Displays as Redis's reply, code first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The arguments do not follow the syntax.
    #[error("ERR syntax error")]
    Syntax,
    /// The number of arguments is one that the command's table entry allows and its syntax does not.
    #[error("ERR wrong number of arguments for '{0}' command")]
    WrongArity(&'static str),
    /// An argument or a value is no 64-bit integer.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// An argument or a value is no number.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// An addition would leave 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// A sum would be no number.
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    /// An expiry is not positive or too far away.
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpiry(&'static str),
    /// A value would be longer than allowed.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLong,
    /// An offset is negative.
    #[error("ERR offset is out of range")]
    OffsetOutOfRange,
    /// A key that must be there is not.
    #[error("ERR no such key")]
    NoSuchKey,
    /// A cursor of SCAN is no number, or none that SCAN gives out.
    #[error("ERR invalid cursor")]
    InvalidCursor,
    /// An option of EXPIRE that there is none of, as the client spelt it. What is not UTF-8 in it is replaced.
    #[error("ERR Unsupported option {0}")]
    UnsupportedOption(String),
    /// Memory is full and the policy lets nothing go.
    #[error("OOM {0}.")]
    OutOfMemory(#[from] OutOfMemory),
    /// The store cannot take another entry.
    #[error("OOM {0}.")]
    HeapFull(#[from] HeapFull),
    /// Anything else, with Redis's text.
    #[error("ERR {0}")]
    Other(&'static str),
}
