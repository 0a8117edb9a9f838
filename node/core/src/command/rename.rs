//! Values that move or are copied to another key: RENAME, RENAMENX, COPY.
//!
//! ```text
//! RENAME key newkey                                moves the value and its end, over what is there
//! RENAMENX key newkey                              only if `newkey` is absent
//! COPY source destination [DB 0] [REPLACE]         leaves the source as it is
//! ```
//!
//! Both keys are held, so nobody in this region sees the value twice or not at all. To the other regions this is a
//! write of one key and a delete of the other; they arrive together or one after the other.
//!
//! Of databases there is one, as in Redis Cluster, whose errors COPY gives for others.

use super::{Call, CommandError, Done, integer};
use crate::{keyspace::Keyspace, resp::Args, store::Expiry};

/// Databases that Redis has unless it is told otherwise; a greater number is another error than one of these.
const DATABASES: i64 = 16;

/// `RENAME key newkey`
///
/// # Errors
/// [`CommandError::NoSuchKey`]; nothing changed. [`CommandError::HeapFull`]; at worst the value is under both keys.
pub fn rename(call: &mut Call<'_, '_, '_>) -> Done {
    move_value(call, false)?;
    call.reply.ok();
    Ok(())
}

/// `RENAMENX key newkey`
///
/// # Errors
/// As for RENAME.
pub fn renamenx(call: &mut Call<'_, '_, '_>) -> Done {
    let moved = move_value(call, true)?;
    call.reply.integer(i64::from(moved));
    Ok(())
}

/// `COPY source destination [DB 0] [REPLACE]`
///
/// # Errors
/// [`CommandError::Syntax`], another database, the same key twice, [`CommandError::HeapFull`]; nothing changed.
pub fn copy(call: &mut Call<'_, '_, '_>) -> Done {
    let args = call.args;
    let replace = parse_copy(args.from(3))?;
    let (source, destination) = (&args[1], &args[2]);
    if source == destination {
        return Err(CommandError::Other("source and destination objects are the same"));
    }
    call.keyspace.hold([source, destination].into_iter());
    let copied = match take_copy(call.keyspace, source) {
        Some((value, expiry)) if replace || !is_present(call.keyspace, destination) => {
            let now = call.keyspace.now().wall;
            call.keyspace.on(destination, |stripe, at| stripe.write(at, destination, &value, expiry, now))?;
            true
        }
        _ => false,
    };
    call.reply.integer(i64::from(copied));
    Ok(())
}

/// Returns whether the value is now under the new key and was not before.
fn move_value(call: &mut Call<'_, '_, '_>, only_if_absent: bool) -> Result<bool, CommandError> {
    let (args, now) = (call.args, call.keyspace.now().wall);
    let (from, to) = (&args[1], &args[2]);
    call.keyspace.hold([from, to].into_iter());
    let (value, expiry) = take_copy(call.keyspace, from).ok_or(CommandError::NoSuchKey)?;
    if from == to || (only_if_absent && is_present(call.keyspace, to)) {
        return Ok(false);
    }
    call.keyspace.on(to, |stripe, at| stripe.write(at, to, &value, expiry, now))?;
    call.keyspace.on(from, |stripe, at| stripe.delete(at, from, now))?;
    Ok(true)
}

fn take_copy(keyspace: &mut Keyspace<'_>, key: &[u8]) -> Option<(Vec<u8>, Option<Expiry>)> {
    let now = keyspace.now().wall;
    keyspace.on(key, |stripe, at| stripe.peek(at, key, now).map(|found| (found.value.to_vec(), found.expiry)))
}

fn is_present(keyspace: &mut Keyspace<'_>, key: &[u8]) -> bool {
    let now = keyspace.now().wall;
    keyspace.on(key, |stripe, at| stripe.peek(at, key, now).is_some())
}

/// Returns whether the copy may replace what is there.
fn parse_copy(options: Args<'_>) -> Result<bool, CommandError> {
    let (mut options, mut replace, mut database) = (options.iter(), false, 0);
    while let Some(option) = options.next() {
        if option.eq_ignore_ascii_case(b"replace") {
            replace = true;
        } else if option.eq_ignore_ascii_case(b"db") {
            database = parse_database(options.next().ok_or(CommandError::Syntax)?)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if database != 0 {
        return Err(CommandError::Other("Copying to another database is not allowed in cluster mode"));
    }
    Ok(replace)
}

fn parse_database(text: &[u8]) -> Result<i64, CommandError> {
    let database = integer(text)?;
    if i32::try_from(database).is_err() {
        return Err(CommandError::Other("value is out of range, value must between -2147483648 and 2147483647"));
    }
    if (0..DATABASES).contains(&database) { Ok(database) } else { Err(CommandError::Other("DB index is out of range")) }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Server;

    #[test]
    fn a_value_moves_with_its_end() {
        Server::new().gives(&[
            ("SET a 1 EX 10", "OK"),
            ("SET b 2", "OK"),
            ("RENAME a b", "OK"),
            ("MGET a b", "[nil, '1']"),
            ("TTL b", "10"),
            ("RENAMENX b c", "1"),
            ("TTL c", "10"),
            ("SET d 4", "OK"),
            ("RENAMENX c d", "0"),
            ("MGET c d", "['1', '4']"),
            ("RENAME d c", "OK"),
            ("TTL c", "-1"),
        ]);
    }

    #[test]
    fn renaming_needs_a_source_and_changes_nothing_onto_itself() {
        let mut server = Server::new();
        server.gives(&[
            ("RENAME a b", "-ERR no such key"),
            ("RENAMENX a a", "-ERR no such key"),
            ("SET a 1", "OK"),
            ("RENAME a a", "OK"),
            ("RENAMENX a a", "0"),
            ("GET a", "'1'"),
        ]);
        assert_eq!(server.writes(), 1);
    }

    #[test]
    fn a_copy_has_the_value_and_its_end() {
        Server::new().gives(&[
            ("COPY a b", "0"),
            ("SET a 1 EX 10", "OK"),
            ("COPY a b", "1"),
            ("MGET a b", "['1', '1']"),
            ("TTL b", "10"),
            ("SET a 2", "OK"),
            ("COPY a b DB 0", "0"),
            ("COPY a b db 0 REPLACE replace", "1"),
            ("GET b", "'2'"),
            ("TTL b", "-1"),
        ]);
    }

    #[test]
    fn there_is_one_database() {
        let cluster = "-ERR Copying to another database is not allowed in cluster mode";
        for (options, error) in [
            ("DB 1", cluster),
            ("DB 15", cluster),
            ("DB 16", "-ERR DB index is out of range"),
            ("DB -1", "-ERR DB index is out of range"),
            ("DB x", "-ERR value is not an integer or out of range"),
            ("DB 99999999999", "-ERR value is out of range, value must between -2147483648 and 2147483647"),
            ("DB", "-ERR syntax error"),
            ("REPLACE x", "-ERR syntax error"),
        ] {
            Server::new().gives(&[(&format!("COPY a b {options}"), error)]);
        }
        Server::new().gives(&[("COPY a a", "-ERR source and destination objects are the same")]);
    }
}
