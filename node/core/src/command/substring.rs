//! Values as strings of bytes: STRLEN, GETRANGE (once SUBSTR), SETRANGE, APPEND.
//!
//! ```text
//! STRLEN key                    bytes, 0 if the key is absent
//! GETRANGE key start end        the bytes from `start` to `end`, that one included; negative counts from the end
//! SETRANGE key offset part      writes over what is at `offset`; the value grows with zeros if it must
//! APPEND key part               writes behind the end
//! ```
//!
//! What changes a part keeps the value's end, and replicates the whole value: a record is state, so appending a byte to
//! a megabyte ships a megabyte. How often it ships is up to the link, which sends only the newest version.
//!
//! Redis 7.0's corners: a negative `end` that reaches beyond the start is the first byte, not nothing, unless `start`
//! is negative as well and behind it; and SETRANGE of nothing changes nothing, whatever the offset.

use super::{Call, CommandError, Done, integer};
use crate::limits::VALUE_BYTES_MAX;

/// `STRLEN key`
///
/// # Errors
/// None.
pub fn strlen(call: &mut Call<'_, '_, '_>) -> Done {
    let (key, now) = (&call.args[1], call.keyspace.now().wall);
    let length = call.keyspace.on(key, |stripe, at| stripe.read(at, key, now).map_or(0, |found| found.value.len()));
    call.reply.count(length);
    Ok(())
}

/// `GETRANGE key start end`, and `SUBSTR`, which is its former name.
///
/// # Errors
/// [`CommandError::NotAnInteger`], also if the key is absent.
pub fn getrange(call: &mut Call<'_, '_, '_>) -> Done {
    let (args, now) = (call.args, call.keyspace.now().wall);
    let (key, start, end) = (&args[1], integer(&args[2])?, integer(&args[3])?);
    call.keyspace.on(key, |stripe, at| {
        let value = stripe.read(at, key, now).map_or(&[][..], |found| found.value);
        call.reply.bulk(part(value, start, end));
    });
    Ok(())
}

/// `SETRANGE key offset part`
///
/// # Errors
/// [`CommandError::NotAnInteger`], [`CommandError::OffsetOutOfRange`], [`CommandError::TooLong`],
/// [`CommandError::HeapFull`]; nothing changed.
pub fn setrange(call: &mut Call<'_, '_, '_>) -> Done {
    let (args, now) = (call.args, call.keyspace.now().wall);
    let (key, part) = (&args[1], &args[3]);
    let offset = usize::try_from(integer(&args[2])?).map_err(|_| CommandError::OffsetOutOfRange)?;
    let bytes_max = value_bytes_max(call);
    let length = call.keyspace.on(key, |stripe, at| {
        if part.is_empty() {
            return Ok(stripe.peek(at, key, now).map_or(0, |found| found.value.len()));
        }
        if offset.saturating_add(part.len()) > bytes_max {
            return Err(CommandError::TooLong);
        }
        Ok(stripe.overwrite(at, key, offset, part, now)?)
    })?;
    call.reply.count(length);
    Ok(())
}

/// `APPEND key part`
///
/// # Errors
/// [`CommandError::TooLong`], [`CommandError::HeapFull`]; nothing changed.
pub fn append(call: &mut Call<'_, '_, '_>) -> Done {
    let (args, now) = (call.args, call.keyspace.now().wall);
    let (key, part, bytes_max) = (&args[1], &args[2], value_bytes_max(call));
    let length = call.keyspace.on(key, |stripe, at| {
        let end = stripe.peek(at, key, now).map_or(0, |found| found.value.len());
        if end + part.len() > bytes_max {
            return Err(CommandError::TooLong);
        }
        Ok(stripe.overwrite(at, key, end, part, now)?)
    })?;
    call.reply.count(length);
    Ok(())
}

/// The longest value that the command may make, in bytes.
fn value_bytes_max(call: &Call<'_, '_, '_>) -> usize {
    call.value_bytes_max.min(VALUE_BYTES_MAX)
}

/// The part of `value` that GETRANGE means.
fn part(value: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    // A value is far shorter than `i64::MAX`, so neither sum can overflow: they add numbers of different signs.
    let length = value.len() as i64;
    let from_start = |index: i64| if index < 0 { (length + index).max(0) } else { index };
    let (start, end) = (from_start(start), from_start(end).min(length - 1));
    if start > end { &[] } else { &value[start as usize..=end as usize] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::part;
    use crate::command::testing::Server;

    #[test]
    fn parts_are_counted_from_both_ends() {
        let mut server = Server::new();
        server.gives(&[("SET k hello", "OK"), ("STRLEN k", "5"), ("STRLEN l", "0")]);
        for (range, found) in [
            ("0 -1", "'hello'"),
            ("1 3", "'ell'"),
            ("-3 -2", "'ll'"),
            ("-2 -3", "''"),
            ("3 1", "''"),
            ("-100 100", "'hello'"),
            ("5 10", "''"),
            ("0 -100", "'h'"),
            ("-100 -90", "'h'"),
            ("-9223372036854775808 9223372036854775807", "'hello'"),
            ("0 x", "-ERR value is not an integer or out of range"),
            ("x 0", "-ERR value is not an integer or out of range"),
        ] {
            server.gives(&[(&format!("GETRANGE k {range}"), found), (&format!("SUBSTR k {range}"), found)]);
        }
        server.gives(&[("GETRANGE l 0 -1", "''"), ("GETRANGE l 0 x", "-ERR value is not an integer or out of range")]);
    }

    #[test]
    fn setrange_fills_up_with_zeros_and_keeps_the_end() {
        Server::new().gives(&[
            ("SETRANGE k 3 ab", "5"),
            ("GET k", "'\\x00\\x00\\x00ab'"),
            ("SET k hello EX 10", "OK"),
            ("SETRANGE k 1 EY", "5"),
            ("SETRANGE k 5 !", "6"),
            ("GET k", "'hEYlo!'"),
            ("TTL k", "10"),
        ]);
    }

    #[test]
    fn setrange_of_nothing_changes_nothing() {
        let mut server = Server::new();
        server.gives(&[
            ("SETRANGE k 10 ''", "0"),
            ("EXISTS k", "0"),
            ("SET k abc", "OK"),
            ("SETRANGE k 9223372036854775807 ''", "3"),
            ("SETRANGE k -1 ''", "-ERR offset is out of range"),
            ("SETRANGE k x ''", "-ERR value is not an integer or out of range"),
        ]);
        assert_eq!(server.writes(), 1);
    }

    #[test]
    fn append_makes_the_key_if_it_is_absent_and_keeps_the_end() {
        Server::new().gives(&[
            ("APPEND k ''", "0"),
            ("EXISTS k", "1"),
            ("APPEND k ab", "2"),
            ("EXPIRE k 10", "1"),
            ("APPEND k cd", "4"),
            ("GET k", "'abcd'"),
            ("TTL k", "10"),
        ]);
    }

    #[test]
    fn no_value_grows_beyond_the_bound() {
        let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        let mut server = Server::new();
        server.value_bytes_max = 10;
        server.gives(&[
            ("SETRANGE k 9 x", "10"),
            ("SETRANGE k 10 x", too_long),
            ("SETRANGE l 10 x", too_long),
            ("SETRANGE k 9223372036854775807 x", too_long),
            ("APPEND k x", too_long),
            ("APPEND k ''", "10"),
            ("STRLEN k", "10"),
            ("EXISTS l", "0"),
        ]);
    }

    proptest! {
        #[test]
        fn any_part_is_a_part(value in proptest::collection::vec(any::<u8>(), 0..20), start: i64, end: i64, small in 0..40_i64) {
            part(&value, start, end);
            let (start, length) = (small - 20, value.len() as i64);
            let expected: Vec<u8> = (0..length)
                .filter(|index| *index >= if start < 0 { length + start } else { start })
                .map(|index| value[index as usize])
                .collect();
            prop_assert_eq!(part(&value, start, -1), expected);
        }
    }
}
