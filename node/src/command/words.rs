//! Words of clients: compared without case, read as what they stand for, and shown whatever bytes they are.

use std::borrow::Cow;

use node_core::{number, slot::Slot};

use super::Failure;

/// Whether `text` is `word`, in any case.
pub(super) fn is(text: &[u8], word: &str) -> bool {
    text.eq_ignore_ascii_case(word.as_bytes())
}

/// Reads `yes` or `no`.
pub(super) fn is_yes(text: &[u8]) -> Option<bool> {
    if is(text, "yes") {
        Some(true)
    } else if is(text, "no") {
        Some(false)
    } else {
        None
    }
}

/// Reads how many entries of a list are wanted: -1 stands for all, nothing for `default`.
///
/// # Errors
/// If it is no number, or a smaller one.
pub(super) fn entries_wanted(word: Option<&[u8]>, default: usize) -> Result<usize, Failure> {
    let Some(word) = word else { return Ok(default) };
    match number::parse_i64(word).ok_or(Failure::NOT_AN_INTEGER)? {
        -1 => Ok(usize::MAX),
        count => usize::try_from(count).map_err(|_| Failure::text("ERR count should be greater than or equal to -1")),
    }
}

/// Reads the number of a slot.
///
/// # Errors
/// If it is none.
pub(super) fn slot(text: &[u8]) -> Result<Slot, Failure> {
    let slot = number::parse_i64(text).and_then(|number| Slot::new(number.try_into().ok()?));
    slot.ok_or(Failure::text("ERR Invalid slot"))
}

/// A client's bytes as text, for an error or a list.
pub(super) fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
