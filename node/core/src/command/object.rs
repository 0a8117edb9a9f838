//! What is known of a value beside the value: OBJECT and MEMORY USAGE.
//!
//! ```text
//! OBJECT ENCODING key                 as Redis would keep it: `int`, `embstr` or `raw`
//! OBJECT FREQ key                     how often it was used, on Redis's logarithmic scale of 255
//! OBJECT IDLETIME key                 seconds since it was used
//! OBJECT REFCOUNT key                 1
//! MEMORY USAGE key [SAMPLES n]        bytes that the entry costs
//! ```
//!
//! For an absent key all are null. None of them counts as a use. Values have one encoding here; ENCODING says what
//! tools that look for it expect, by the value alone. Redis also goes by history (what APPEND made stays `raw`) and
//! shares small integers, whose REFCOUNT is then 2147483647; here nothing is shared.
//!
//! Whether FREQ or IDLETIME is known depends on the eviction policy, since an entry has room for one of them.

use super::{Call, CommandError, Done, integer};
use crate::{
    number,
    store::{Access, Address, Stripe},
};

/// Bytes up to which Redis keeps a string in one block with its header.
const EMBEDDED_BYTES_MAX: usize = 44;

/// `OBJECT ENCODING key`
///
/// # Errors
/// None.
pub fn encoding(call: &mut Call<'_, '_, '_>) -> Done {
    let now = call.keyspace.now().wall;
    let encoding = about(call, 2, |stripe, at, key| stripe.peek(at, key, now).map(|found| encoding_of(found.value)));
    call.reply.bulk_or_null(encoding.map(str::as_bytes));
    Ok(())
}

/// `OBJECT FREQ key`
///
/// # Errors
/// If the policy is not one of LFU and the key is there.
pub fn freq(call: &mut Call<'_, '_, '_>) -> Done {
    let known = call.keyspace.store().settings().policy().is_lfu();
    reply_access(call, |access| known.then_some(access.frequency.into()).ok_or(CommandError::Other(NO_FREQUENCY)))
}

/// `OBJECT IDLETIME key`
///
/// # Errors
/// If the policy is one of LFU and the key is there.
pub fn idletime(call: &mut Call<'_, '_, '_>) -> Done {
    let known = !call.keyspace.store().settings().policy().is_lfu();
    reply_access(call, |access| {
        let seconds = i64::try_from(access.idle_seconds).unwrap_or(i64::MAX);
        known.then_some(seconds).ok_or(CommandError::Other(NO_IDLE_TIME))
    })
}

/// `OBJECT REFCOUNT key`
///
/// # Errors
/// None.
pub fn refcount(call: &mut Call<'_, '_, '_>) -> Done {
    let now = call.keyspace.now().wall;
    let count = about(call, 2, |stripe, at, key| stripe.peek(at, key, now).map(|_| 1));
    reply_integer_or_null(call, count)
}

/// `MEMORY USAGE key [SAMPLES n]`
///
/// # Errors
/// [`CommandError::Syntax`], [`CommandError::NotAnInteger`]. The number of samples is checked and of no use.
pub fn memory_usage(call: &mut Call<'_, '_, '_>) -> Done {
    let (options, now) = (call.args.from(3), call.keyspace.now().wall);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let samples = options.next().filter(|_| option.eq_ignore_ascii_case(b"samples")).ok_or(CommandError::Syntax)?;
        if integer(samples)? < 0 {
            return Err(CommandError::Syntax);
        }
    }
    let bytes = about(call, 2, |stripe, at, key| stripe.entry_bytes(at, key, now));
    reply_integer_or_null(call, bytes.map(|bytes| bytes as i64))
}

/// Asks the stripe of the key that is the argument at `index`.
fn about<T>(
    call: &mut Call<'_, '_, '_>,
    index: usize,
    ask: impl FnOnce(&mut Stripe, Address, &[u8]) -> Option<T>,
) -> Option<T> {
    let key = &call.args[index];
    call.keyspace.on(key, |stripe, at| ask(stripe, at, key))
}

fn reply_access(call: &mut Call<'_, '_, '_>, measure: impl Fn(Access) -> Result<i64, CommandError>) -> Done {
    let now = call.keyspace.now().wall;
    let access = about(call, 2, |stripe, at, key| stripe.access(at, key, now));
    let number = access.map(measure).transpose()?;
    reply_integer_or_null(call, number)
}

fn reply_integer_or_null(call: &mut Call<'_, '_, '_>, number: Option<i64>) -> Done {
    match number {
        Some(number) => call.reply.integer(number),
        None => call.reply.null(),
    }
    Ok(())
}

fn encoding_of(value: &[u8]) -> &'static str {
    if number::parse_i64(value).is_some() {
        "int"
    } else if value.len() <= EMBEDDED_BYTES_MAX {
        "embstr"
    } else {
        "raw"
    }
}

const NO_FREQUENCY: &str = "An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
    when switching between policies at runtime LRU and LFU data will take some time to adjust.";
const NO_IDLE_TIME: &str = "An LFU maxmemory policy is selected, idle time not tracked. Please note that when \
    switching between policies at runtime LRU and LFU data will take some time to adjust.";

#[cfg(test)]
mod tests {
    use crate::{command::testing::Server, store::EvictionPolicy};

    #[test]
    fn encodings_follow_the_value() {
        let mut server = Server::new();
        for (value, encoding) in [
            ("123", "int"),
            ("-9223372036854775808", "int"),
            ("9223372036854775808", "embstr"),
            ("01", "embstr"),
            ("''", "embstr"),
            (&"x".repeat(44), "embstr"),
            (&"x".repeat(45), "raw"),
        ] {
            server.gives(&[(&format!("SET k {value}"), "OK"), ("OBJECT ENCODING k", &format!("'{encoding}'"))]);
        }
    }

    #[test]
    fn absent_keys_have_nothing_to_tell() {
        for question in ["OBJECT ENCODING", "OBJECT FREQ", "OBJECT IDLETIME", "OBJECT REFCOUNT", "MEMORY USAGE"] {
            let mut server = Server::new();
            server.gives(&[(&format!("{question} k"), "nil"), ("SET k v PX 1", "OK")]);
            server.wait_ms(2);
            server.gives(&[(&format!("{question} k"), "nil")]);
        }
    }

    #[test]
    fn what_is_known_of_its_use_depends_on_the_policy() {
        let mut server = Server::new();
        server.gives(&[("SET k v", "OK"), ("OBJECT REFCOUNT k", "1"), ("OBJECT IDLETIME k", "0")]);
        server.wait_ms(3_000);
        server.gives(&[("OBJECT IDLETIME k", "3"), ("OBJECT IDLETIME k", "3")]);
        assert!(server.send("OBJECT FREQ k").starts_with("-ERR An LFU maxmemory policy is not selected"));
        server.set_policy(EvictionPolicy::AllKeysLfu);
        server.gives(&[("SET l v", "OK"), ("OBJECT FREQ l", "5")]);
        assert!(server.send("OBJECT IDLETIME l").starts_with("-ERR An LFU maxmemory policy is selected"));
    }

    #[test]
    fn memory_usage_grows_with_the_value() {
        let mut server = Server::new();
        server.gives(&[("SET k v", "OK"), ("SETRANGE l 9999 x", "10000")]);
        let bytes = |reply: String| reply.parse::<usize>().unwrap();
        let (small, large) = (bytes(server.send("MEMORY USAGE k")), bytes(server.send("MEMORY USAGE l SAMPLES 0")));
        assert!(small < 100 && large >= 10_000, "{small}, {large}");
        for (options, error) in [
            ("SAMPLES", "-ERR syntax error"),
            ("SAMPLES -1", "-ERR syntax error"),
            ("SAMPLES x", "-ERR value is not an integer or out of range"),
            ("SAMPLES 1 x", "-ERR syntax error"),
            ("x 1", "-ERR syntax error"),
        ] {
            server.gives(&[(&format!("MEMORY USAGE k {options}"), error)]);
        }
    }
}
