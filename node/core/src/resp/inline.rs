//! Inline commands: a line typed by a human, split into words.
//!
//! The rules are those of `redis-cli` and of Redis's configuration file: words are separated by blanks; inside double
//! quotes `\n`, `\r`, `\t`, `\a`, `\b` and `\xHH` are escapes and any other escaped byte stands for itself; inside
//! single quotes only `\'` is an escape; a closing quote must be followed by a blank or by the end of the line. A
//! quote may open in the middle of a word: `a"b c"` is the one word `ab c`.
//!
//! A zero byte is an ordinary byte here, where Redis takes it for the end of the line.

use super::args::ArgsBuf;

/// A quote that was never closed, or that closed in the middle of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnbalancedQuotes;

/// Appends the words of `line` to `words`.
pub(super) fn split(line: &[u8], words: &mut ArgsBuf) -> Result<(), UnbalancedQuotes> {
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        rest = skip_blanks(take_word(rest, words)?);
    }
    Ok(())
}

/// Takes one word, which begins at the first byte of `line`, and returns what follows it.
fn take_word<'a>(mut line: &'a [u8], words: &mut ArgsBuf) -> Result<&'a [u8], UnbalancedQuotes> {
    let mut len = 0;
    let mut quote = None;
    loop {
        let (byte, rest) = match (quote, line) {
            (None, [] | [b' ' | b'\n' | b'\r' | b'\t', ..]) => break,
            (Some(_), []) => return Err(UnbalancedQuotes),
            (None, [opening @ (b'"' | b'\''), rest @ ..]) => {
                quote = Some(*opening);
                line = rest;
                continue;
            }
            (Some(opening), [closing, rest @ ..]) if opening == *closing => {
                if rest.first().is_some_and(|&byte| !is_blank(byte)) {
                    return Err(UnbalancedQuotes);
                }
                line = rest;
                break;
            }
            (Some(b'"'), [b'\\', rest @ ..]) if !rest.is_empty() => unescape(rest),
            (Some(b'\''), [b'\\', b'\'', rest @ ..]) => (b'\'', rest),
            (_, [byte, rest @ ..]) => (*byte, rest),
        };
        words.push_byte(byte);
        len += 1;
        line = rest;
    }
    words.close_argument(len);
    Ok(line)
}

/// The byte that an escape in double quotes stands for; `escape` is what follows the backslash, and not empty.
fn unescape(escape: &[u8]) -> (u8, &[u8]) {
    if let [b'x', high, low, rest @ ..] = escape
        && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
    {
        return (high << 4 | low, rest);
    }
    let byte = match escape[0] {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 0x07,
        b'b' => 0x08,
        other => other,
    };
    (byte, &escape[1..])
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn skip_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|&&byte| is_blank(byte)).count();
    &line[blanks..]
}

/// C's `isspace` in the C locale, which has one blank more than `u8::is_ascii_whitespace`: the vertical tab.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

#[cfg(test)]
mod tests {
    use super::{UnbalancedQuotes, split};
    use crate::resp::ArgsBuf;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
        let mut words = ArgsBuf::new();
        split(line, &mut words)?;
        Ok(words.as_args().iter().map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn words_are_separated_by_any_blanks() {
        assert_eq!(words(b"  set\tkey  value ").unwrap(), [&b"set"[..], b"key", b"value"]);
        assert_eq!(words(b"").unwrap(), [b""; 0]);
        assert_eq!(words(b" \t\x0b").unwrap(), [b""; 0]);
    }

    #[test]
    fn quotes_keep_blanks_and_may_be_empty() {
        assert_eq!(words(br#"a"b c" '' "" 'it\'s' '\n'"#).unwrap(), [&b"ab c"[..], b"", b"", b"it's", b"\\n"]);
    }

    #[test]
    fn escapes_of_double_quotes_are_redis_own() {
        assert_eq!(words(br#""\x00\xfF\n\r\t\a\b\"\\\q\xg1""#).unwrap(), [b"\x00\xff\n\r\t\x07\x08\"\\qxg1"]);
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [&b"\"abc"[..], b"'abc", b"\"a\"b", b"'a'b", b"\"a\\", b"\"a\\\"", b"'a\\'"] {
            assert_eq!(words(line), Err(UnbalancedQuotes), "{}", line.escape_ascii());
        }
    }
}
