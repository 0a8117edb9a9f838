//! How long values have: TTL, PTTL, EXPIRETIME, PEXPIRETIME; and PERSIST, which gives them for ever.
//!
//! ```text
//! TTL key              seconds left, rounded to the nearest
//! PTTL key             milliseconds left
//! EXPIRETIME key       seconds since the Unix epoch, rounded to the nearest
//! PEXPIRETIME key      milliseconds since the Unix epoch
//! PERSIST key          1 if the value had an end and has none now, else 0
//! ```
//!
//! -1 stands for a value without an end, -2 for no value. Since seconds are rounded, a value with 400 ms left has a TTL
//! of 0 and is still there: Redis has it so. To ask is not to use: the time of the last access stays.

use super::{Call, Done};
use crate::store::Expiry;

/// The reply for a value without an end.
const NEVER_ENDS: i64 = -1;
/// The reply for a key without a value.
const ABSENT: i64 = -2;

/// `TTL key`
///
/// # Errors
/// None.
pub fn ttl(call: &mut Call<'_, '_, '_>) -> Done {
    reply_end(call, |expiry, now_ms| round_to_seconds(left(expiry, now_ms)))
}

/// `PTTL key`
///
/// # Errors
/// None.
pub fn pttl(call: &mut Call<'_, '_, '_>) -> Done {
    reply_end(call, left)
}

/// `EXPIRETIME key`
///
/// # Errors
/// None.
pub fn expiretime(call: &mut Call<'_, '_, '_>) -> Done {
    reply_end(call, |expiry, _| round_to_seconds(expiry.unix_ms()))
}

/// `PEXPIRETIME key`
///
/// # Errors
/// None.
pub fn pexpiretime(call: &mut Call<'_, '_, '_>) -> Done {
    reply_end(call, |expiry, _| expiry.unix_ms())
}

/// `PERSIST key`
///
/// # Errors
/// [`HeapFull`](super::CommandError::HeapFull); nothing changed.
pub fn persist(call: &mut Call<'_, '_, '_>) -> Done {
    let (key, now) = (&call.args[1], call.keyspace.now().wall);
    let persisted = call.keyspace.on(key, |stripe, at| {
        let ends = stripe.peek(at, key, now).is_some_and(|found| found.expiry.is_some());
        if ends { stripe.set_expiry(at, key, None, now) } else { Ok(false) }
    })?;
    call.reply.integer(i64::from(persisted));
    Ok(())
}

fn reply_end(call: &mut Call<'_, '_, '_>, measure: impl Fn(Expiry, u64) -> u64) -> Done {
    let (key, now) = (&call.args[1], call.keyspace.now());
    let reply = call.keyspace.on(key, |stripe, at| match stripe.peek(at, key, now.wall) {
        None => ABSENT,
        Some(found) => found.expiry.map_or(NEVER_ENDS, |expiry| {
            // Another region may have sent an end that is beyond what the protocol's integers can say.
            i64::try_from(measure(expiry, now.unix_ms())).unwrap_or(i64::MAX)
        }),
    });
    call.reply.integer(reply);
    Ok(())
}

const fn left(expiry: Expiry, now_ms: u64) -> u64 {
    expiry.unix_ms().saturating_sub(now_ms)
}

const fn round_to_seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1_000
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Server;

    #[test]
    fn absent_and_endless_have_numbers_of_their_own() {
        for command in ["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"] {
            Server::new().gives(&[(&format!("{command} k"), "-2"), ("SET k v", "OK"), (&format!("{command} k"), "-1")]);
        }
    }

    #[test]
    fn seconds_are_rounded_to_the_nearest() {
        Server::new().gives(&[
            ("SET k v PX 1499", "OK"),
            ("TTL k", "1"),
            ("SET k v PX 1500", "OK"),
            ("TTL k", "2"),
            ("PTTL k", "1500"),
            ("SET k v PX 499", "OK"),
            ("TTL k", "0"),
            ("SET k v PXAT 4000000000499", "OK"),
            ("EXPIRETIME k", "4000000000"),
            ("SET k v PXAT 4000000000500", "OK"),
            ("EXPIRETIME k", "4000000001"),
            ("PEXPIRETIME k", "4000000000500"),
            ("SET k v PXAT 9223372036854775807", "OK"),
            ("EXPIRETIME k", "9223372036854776"),
        ]);
    }

    #[test]
    fn persist_takes_the_end_away_once() {
        let mut server = Server::new();
        server.gives(&[
            ("PERSIST k", "0"),
            ("SET k v EX 10", "OK"),
            ("PERSIST k", "1"),
            ("PERSIST k", "0"),
            ("TTL k", "-1"),
            ("GET k", "'v'"),
        ]);
        assert_eq!(server.writes(), 2);
    }
}
