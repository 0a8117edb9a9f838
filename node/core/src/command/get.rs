//! Reading values, and the two commands that read and then change: GET, MGET, GETDEL, GETEX.
//!
//! ```text
//! GET key                                          the value, or null
//! MGET key [key …]                                 one or the other for each
//! GETDEL key                                       as GET, and the key is deleted
//! GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]   as GET, and the value's end is changed
//! ```
//!
//! Redis 7.0's corners: GETEX looks at the number of its option only when the key is there, so `GETEX absent EX x` is
//! a null and no error. An end in the past deletes. GETDEL of a key that is absent, unlike DEL, writes nothing: it
//! hands out a value once, and here was none to hand out.
//!
//! What changes a key replies from a copy of its value, after the change: a reply never precedes an error.

use super::{Call, CommandError, Done, expire::ExpiryForm};
use crate::store::Expiry;

/// `GET key`
///
/// # Errors
/// None; the arity is checked by the caller.
pub fn get(call: &mut Call<'_, '_, '_>) -> Done {
    let (key, now) = (&call.args[1], call.keyspace.now().wall);
    call.keyspace.on(key, |stripe, at| {
        call.reply.bulk_or_null(stripe.read(at, key, now).map(|found| found.value));
    });
    Ok(())
}

/// `MGET key [key …]`
///
/// # Errors
/// None.
pub fn mget(call: &mut Call<'_, '_, '_>) -> Done {
    let (keys, now) = (call.args.from(1), call.keyspace.now().wall);
    if keys.len() > 1 {
        call.keyspace.hold(keys.iter());
    }
    call.reply.array(keys.len());
    for key in keys.iter() {
        call.keyspace.on(key, |stripe, at| {
            call.reply.bulk_or_null(stripe.read(at, key, now).map(|found| found.value));
        });
    }
    Ok(())
}

/// `GETDEL key`
///
/// # Errors
/// [`CommandError::HeapFull`]; nothing changed.
pub fn getdel(call: &mut Call<'_, '_, '_>) -> Done {
    let (key, now) = (&call.args[1], call.keyspace.now().wall);
    let value = call.keyspace.on(key, |stripe, at| {
        let value = stripe.read(at, key, now).map(|found| found.value.to_vec());
        if value.is_some() {
            stripe.delete(at, key, now)?;
        }
        Ok::<_, CommandError>(value)
    })?;
    call.reply.bulk_or_null(value.as_deref());
    Ok(())
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`
///
/// # Errors
/// [`CommandError::Syntax`]; of a key that is there, an end that is no integer or out of range; nothing changed.
pub fn getex(call: &mut Call<'_, '_, '_>) -> Done {
    let (args, now) = (call.args, call.keyspace.now());
    let key = &args[1];
    let Some(change) = Change::parse(args.from(2))? else { return get(call) };
    let value = call.keyspace.on(key, |stripe, at| {
        let Some(found) = stripe.read(at, key, now.wall) else { return Ok(None) };
        let expiry = change.resolve(now.unix_ms())?;
        let (unchanged, value) = (found.expiry == expiry, found.value.to_vec());
        if expiry.is_some_and(|expiry| expiry.is_in_the_past(now.unix_ms())) {
            stripe.delete(at, key, now.wall)?;
        } else if !(unchanged && expiry.is_none()) {
            stripe.write(at, key, &value, expiry, now.wall)?;
        }
        Ok::<_, CommandError>(Some(value))
    })?;
    call.reply.bulk_or_null(value.as_deref());
    Ok(())
}

/// What GETEX does to the end of a value.
#[derive(Clone, Copy)]
enum Change<'a> {
    Persist,
    End(ExpiryForm, &'a [u8]),
}

impl<'a> Change<'a> {
    /// `None` if there is no option. The same option may stand twice, as in Redis; then the last one counts.
    fn parse(options: crate::resp::Args<'a>) -> Result<Option<Self>, CommandError> {
        let (mut options, mut change) = (options.iter(), None);
        while let Some(option) = options.next() {
            change = Some(match (ExpiryForm::from_option(option), change) {
                (Some(form), None) => Change::End(form, options.next().ok_or(CommandError::Syntax)?),
                (Some(form), Some(Change::End(other, _))) if form == other => {
                    Change::End(form, options.next().ok_or(CommandError::Syntax)?)
                }
                (None, None | Some(Change::Persist)) if option.eq_ignore_ascii_case(b"persist") => Change::Persist,
                _ => return Err(CommandError::Syntax),
            });
        }
        Ok(change)
    }

    fn resolve(self, now_ms: u64) -> Result<Option<Expiry>, CommandError> {
        match self {
            Self::Persist => Ok(None),
            Self::End(form, number) => form.positive(number, "getex", now_ms).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Server;

    #[test]
    fn get_tells_absent_from_empty() {
        Server::new().gives(&[("GET k", "nil"), ("SET k ''", "OK"), ("GET k", "''"), ("MGET k l k", "['', nil, '']")]);
    }

    #[test]
    fn getdel_hands_a_value_out_once() {
        let mut server = Server::new();
        server.gives(&[("SET k v", "OK"), ("GETDEL k", "'v'"), ("GETDEL k", "nil"), ("EXISTS k", "0")]);
        assert_eq!(server.writes(), 2, "of an absent key it writes nothing");
    }

    #[test]
    fn getex_changes_the_end_and_nothing_else() {
        let mut server = Server::new();
        server.gives(&[
            ("SET k v", "OK"),
            ("GETEX k EX 10", "'v'"),
            ("TTL k", "10"),
            ("GETEX k", "'v'"),
            ("PTTL k", "10000"),
            ("GETEX k px 20 PX 30", "'v'"),
            ("PTTL k", "30"),
            ("GETEX k PERSIST persist", "'v'"),
            ("TTL k", "-1"),
            ("GETEX k EXAT 1", "'v'"),
            ("EXISTS k", "0"),
        ]);
    }

    #[test]
    fn getex_that_changes_nothing_writes_nothing() {
        let mut server = Server::new();
        server.gives(&[("SET k v", "OK"), ("GETEX k", "'v'"), ("GETEX k PERSIST", "'v'"), ("GETEX l EX 1", "nil")]);
        assert_eq!(server.writes(), 1);
    }

    #[test]
    fn getex_looks_at_the_number_only_if_the_key_is_there() {
        Server::new().gives(&[
            ("GETEX k EX x", "nil"),
            ("GETEX k EX 0", "nil"),
            ("SET k v", "OK"),
            ("GETEX k EX x", "-ERR value is not an integer or out of range"),
            ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command"),
            ("GETEX k PX 9223372036854775807", "-ERR invalid expire time in 'getex' command"),
        ]);
    }

    #[test]
    fn getex_takes_one_option() {
        for options in ["EX", "EX 1 PX 1", "EX 1 PERSIST", "PERSIST EX 1", "KEEPTTL", "GET", "NX", "1"] {
            Server::new().gives(&[(&format!("GETEX k {options}"), "-ERR syntax error")]);
        }
    }
}
