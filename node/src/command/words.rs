//! Words of clients: compared without case, and shown whatever bytes they are.

use std::borrow::Cow;

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

/// A client's bytes as text, for an error or a list.
pub(super) fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
