//! Commands on all keys at once: DBSIZE, RANDOMKEY, FLUSHDB, FLUSHALL. (SCAN and KEYS have a file of their own.)
//!
//! ```text
//! DBSIZE                          values, those among them that have ended but were not found yet
//! RANDOMKEY                       a key, or null
//! FLUSHDB [ASYNC | SYNC]          drops everything, here and in every region
//! FLUSHALL [ASYNC | SYNC]         the same: of databases there is one
//! ```
//!
//! A flush is one stamp. It is final for every write under it, also for those that are still on their way from
//! other regions, and leaves no tombstones: the floors of all slots rise to it. ASYNC and SYNC are both taken and mean
//! the same: memory is given back whole, without a look at what was in it, and nobody is shown half a flush.
//!
//! DBSIZE and RANDOMKEY lock one stripe after the other. Writes that come in between are counted or not.

use super::{Call, CommandError, Done};

/// `DBSIZE`
///
/// # Errors
/// None.
pub fn dbsize(call: &mut Call<'_, '_, '_>) -> Done {
    let mut values = 0;
    call.keyspace.on_every_stripe(|stripe| values += stripe.census().values);
    call.reply.count(values);
    Ok(())
}

/// `RANDOMKEY`
///
/// A stripe is drawn by its number of values; if there is none that has not ended, the next one that has some.
///
/// # Errors
/// None.
pub fn randomkey(call: &mut Call<'_, '_, '_>) -> Done {
    let (now, mut values) = (call.keyspace.now().wall, Vec::with_capacity(call.keyspace.store().stripes()));
    call.keyspace.on_every_stripe(|stripe| values.push(stripe.census().values as u64));
    let total = values.iter().sum::<u64>().max(1);
    // What the draw of the stripe leaves of the random number draws within the stripe.
    let (mut rest, random) = (call.random % total, call.random / total);
    let drawn = values.iter().position(|count| {
        let here = rest < *count;
        rest = rest.saturating_sub(*count);
        here
    });
    let drawn = drawn.unwrap_or(0);
    for index in (drawn..values.len()).chain(0..drawn) {
        let replied = call.keyspace.on_stripe(index, |stripe| {
            let key = stripe.random_key(random, now);
            key.map(|key| call.reply.bulk(key)).is_some()
        });
        if replied {
            return Ok(());
        }
    }
    call.reply.null();
    Ok(())
}

/// `FLUSHDB [ASYNC | SYNC]`, and FLUSHALL.
///
/// # Errors
/// [`CommandError::Syntax`]; nothing changed.
pub fn flush(call: &mut Call<'_, '_, '_>) -> Done {
    let options = call.args.from(1);
    let known =
        options.iter().all(|option| option.eq_ignore_ascii_case(b"async") || option.eq_ignore_ascii_case(b"sync"));
    if options.len() > 1 || !known {
        return Err(CommandError::Syntax);
    }
    call.keyspace.flush();
    call.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::command::testing::Server;

    #[test]
    fn a_flush_leaves_nothing_and_says_so_to_all() {
        for command in ["FLUSHALL", "FLUSHDB", "flushall sync", "FLUSHDB ASYNC"] {
            let mut server = Server::new();
            server.gives(&[("MSET a 1 b 2", "OK"), (command, "OK"), ("DBSIZE", "0"), ("MGET a b", "[nil, nil]")]);
            server.gives(&[("SET a 3", "OK"), ("GET a", "'3'"), ("DBSIZE", "1")]);
        }
        for command in ["FLUSHALL x", "FLUSHALL ASYNC SYNC", "FLUSHDB ''"] {
            let mut server = Server::new();
            server.gives(&[("SET a 1", "OK"), (command, "-ERR syntax error"), ("DBSIZE", "1")]);
        }
    }

    #[test]
    fn dbsize_counts_what_has_ended_until_it_is_found() {
        let mut server = Server::new();
        server.gives(&[("DBSIZE", "0"), ("SET a 1 PX 5", "OK"), ("SET b 1", "OK"), ("DEL c", "0"), ("DBSIZE", "2")]);
        server.wait_ms(6);
        server.gives(&[("DBSIZE", "2"), ("GET a", "nil"), ("DBSIZE", "1")]);
    }

    #[test]
    fn random_keys_are_there() {
        let mut server = Server::new();
        server.gives(&[("RANDOMKEY", "nil"), ("SET a 1 PX 5", "OK"), ("SET b 1 PX 5", "OK"), ("SET c 1", "OK")]);
        server.wait_ms(6);
        server.gives(&[("DEL d", "0")]);
        for _ in 0..50 {
            server.gives(&[("RANDOMKEY", "'c'")]);
        }
        server.gives(&[("DEL c", "1"), ("RANDOMKEY", "nil")]);
    }

    #[test]
    fn no_key_is_drawn_much_more_often_than_another() {
        let mut server = Server::new();
        let keys = 50;
        for key in 0..keys {
            server.gives(&[(&format!("SET {key} v"), "OK")]);
        }
        let mut drawn: HashMap<String, u32> = HashMap::new();
        for _ in 0..keys * 100 {
            *drawn.entry(server.send("RANDOMKEY")).or_default() += 1;
        }
        assert_eq!(drawn.len(), keys);
        assert!(drawn.values().all(|times| (50..200).contains(times)), "{drawn:?}");
    }
}
