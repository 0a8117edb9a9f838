//! Writing several values at once: MSET and MSETNX.
//!
//! ```text
//! MSET key value [key value …]      always
//! MSETNX key value [key value …]    all, or none if any of the keys is there
//! ```
//!
//! All stripes are held from the first look to the last write, so nobody in this region sees half of it. In the other
//! regions each key arrives for itself: atomicity across keys ends at the region's border.

use super::{Call, CommandError, Done};
use crate::{keyspace::Keyspace, resp::Args};

/// `MSET key value [key value …]`
///
/// # Errors
/// [`CommandError::WrongArity`] if a key has no value. [`CommandError::HeapFull`]; the keys before it are written.
pub fn mset(call: &mut Call<'_, '_, '_>) -> Done {
    let pairs = Pairs::parse(call.args, "mset")?;
    call.keyspace.hold(pairs.keys());
    pairs.write(call.keyspace)?;
    call.reply.ok();
    Ok(())
}

/// `MSETNX key value [key value …]`
///
/// # Errors
/// As for MSET.
pub fn msetnx(call: &mut Call<'_, '_, '_>) -> Done {
    let (pairs, now) = (Pairs::parse(call.args, "msetnx")?, call.keyspace.now().wall);
    call.keyspace.hold(pairs.keys());
    let taken = pairs.keys().any(|key| call.keyspace.on(key, |stripe, at| stripe.peek(at, key, now).is_some()));
    if !taken {
        pairs.write(call.keyspace)?;
    }
    call.reply.integer(i64::from(!taken));
    Ok(())
}

/// Keys and values in turn.
struct Pairs<'a>(Args<'a>);

impl<'a> Pairs<'a> {
    fn parse(args: Args<'a>, command: &'static str) -> Result<Self, CommandError> {
        let pairs = args.from(1);
        if pairs.len().is_multiple_of(2) { Ok(Self(pairs)) } else { Err(CommandError::WrongArity(command)) }
    }

    fn keys(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.0.iter().step_by(2)
    }

    /// A key that stands twice gets its last value.
    fn write(&self, keyspace: &mut Keyspace<'_>) -> Result<(), CommandError> {
        let now = keyspace.now().wall;
        for (key, value) in self.keys().zip(self.0.from(1).iter().step_by(2)) {
            keyspace.on(key, |stripe, at| stripe.write(at, key, value, None, now))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Server;

    #[test]
    fn the_last_value_of_a_key_stays() {
        Server::new().gives(&[
            ("SET a 0 EX 10", "OK"),
            ("MSET a 1 b 2 a 3", "OK"),
            ("MGET a b c", "['3', '2', nil]"),
            ("TTL a", "-1"),
        ]);
    }

    #[test]
    fn msetnx_is_all_or_nothing() {
        let mut server = Server::new();
        server.gives(&[
            ("MSETNX a 1 b 2 a 3", "1"),
            ("MSETNX c 1 b 2", "0"),
            ("MGET a b c", "['3', '2', nil]"),
            ("SET d 1 PX 1", "OK"),
        ]);
        server.wait_ms(2);
        server.gives(&[("MSETNX d 2 e 2", "1")]);
    }

    #[test]
    fn every_key_needs_a_value() {
        Server::new().gives(&[
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
            ("MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command"),
            ("DBSIZE", "0"),
        ]);
    }
}
