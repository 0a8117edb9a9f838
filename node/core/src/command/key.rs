//! What is done to keys whatever they hold: DEL, UNLINK, EXISTS, TOUCH, TYPE.
//!
//! ```text
//! DEL key [key …]        deletes them and replies how many there were
//! UNLINK key [key …]     the same: a block goes back in no time, so there is nothing to put off
//! EXISTS key [key …]     how many are there; a key that stands twice counts twice
//! TOUCH key [key …]      the same, and each counts as used
//! TYPE key               `string` or `none`
//! ```
//!
//! DEL of a key that is absent replies 0 and writes a tombstone all the same: absent here is not absent everywhere
//! (DESIGN.md, rule 6). A client that deletes what another region has just written gets what it asked for.

use super::{Call, CommandError, Done};
use crate::store::{Address, Stripe};

/// `DEL key [key …]`, and UNLINK.
///
/// # Errors
/// [`CommandError::HeapFull`]; the keys before it are deleted.
pub fn del(call: &mut Call<'_, '_, '_>) -> Done {
    let now = call.keyspace.now().wall;
    count(call, |stripe, at, key| Ok(stripe.delete(at, key, now)?))
}

/// `EXISTS key [key …]`
///
/// # Errors
/// None.
pub fn exists(call: &mut Call<'_, '_, '_>) -> Done {
    let now = call.keyspace.now().wall;
    count(call, |stripe, at, key| Ok(stripe.peek(at, key, now).is_some()))
}

/// `TOUCH key [key …]`
///
/// # Errors
/// None.
pub fn touch(call: &mut Call<'_, '_, '_>) -> Done {
    let now = call.keyspace.now().wall;
    count(call, |stripe, at, key| Ok(stripe.note_access(at, key, now)))
}

/// `TYPE key`
///
/// # Errors
/// None.
pub fn type_of(call: &mut Call<'_, '_, '_>) -> Done {
    let (key, now) = (&call.args[1], call.keyspace.now().wall);
    let present = call.keyspace.on(key, |stripe, at| stripe.peek(at, key, now).is_some());
    call.reply.simple(if present { "string" } else { "none" });
    Ok(())
}

/// Replies for how many of the keys `act` is true.
fn count(call: &mut Call<'_, '_, '_>, act: impl Fn(&mut Stripe, Address, &[u8]) -> Result<bool, CommandError>) -> Done {
    let (keys, mut count) = (call.args.from(1), 0);
    if keys.len() > 1 {
        call.keyspace.hold(keys.iter());
    }
    for key in keys.iter() {
        count += i64::from(call.keyspace.on(key, |stripe, at| act(stripe, at, key))?);
    }
    call.reply.integer(count);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Server;

    #[test]
    fn keys_are_counted_as_often_as_they_stand() {
        Server::new().gives(&[
            ("MSET a 1 b 2", "OK"),
            ("EXISTS a a b c", "3"),
            ("TOUCH a a b c", "3"),
            ("DEL a a c", "1"),
            ("UNLINK a b", "1"),
            ("EXISTS a b", "0"),
            ("DBSIZE", "0"),
        ]);
    }

    #[test]
    fn deleting_what_is_absent_is_a_write() {
        let mut server = Server::new();
        server.gives(&[("DEL a b", "0"), ("UNLINK c", "0"), ("EXISTS a", "0"), ("TYPE a", "none")]);
        assert_eq!(server.writes(), 3);
    }

    #[test]
    fn every_value_is_a_string() {
        let mut server = Server::new();
        server.gives(&[("SET a 1 PX 5", "OK"), ("TYPE a", "string"), ("TYPE b", "none")]);
        server.wait_ms(6);
        server.gives(&[("TYPE a", "none"), ("EXISTS a", "0"), ("TOUCH a", "0"), ("DEL a", "0")]);
    }

    #[test]
    fn touching_is_a_use() {
        let mut server = Server::new();
        server.gives(&[("MSET a 1 b 1", "OK")]);
        server.wait_ms(10_000);
        server.gives(&[("TOUCH a", "1"), ("EXISTS b", "1"), ("TYPE b", "string"), ("TTL b", "-1")]);
        server.gives(&[("OBJECT IDLETIME a", "0"), ("OBJECT IDLETIME b", "10")]);
    }
}
