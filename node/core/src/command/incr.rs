//! Numbers: INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT.
//!
//! ```text
//! INCR key                  INCRBY key increment
//! DECR key                  DECRBY key decrement
//! INCRBYFLOAT key increment
//! ```
//!
//! An absent key counts as zero; the value's end stays. What is replicated is the sum, as a value like any other. So
//! two regions that count at the same time do not add up: the register keeps one of the sums (DESIGN.md, what is not
//! promised). [`number`](crate::number) says which spellings are numbers, and how sums of floats are written.

use super::{Call, CommandError, Done, integer};
use crate::{number::Float, store::Found};

/// `INCR key`
///
/// # Errors
/// [`CommandError::NotAnInteger`], [`CommandError::Overflow`], [`CommandError::HeapFull`]; nothing changed.
pub fn incr(call: &mut Call<'_, '_, '_>) -> Done {
    add(call, 1)
}

/// `DECR key`
///
/// # Errors
/// As for INCR.
pub fn decr(call: &mut Call<'_, '_, '_>) -> Done {
    add(call, -1)
}

/// `INCRBY key increment`
///
/// # Errors
/// As for INCR.
pub fn incrby(call: &mut Call<'_, '_, '_>) -> Done {
    let increment = integer(&call.args[2])?;
    add(call, increment)
}

/// `DECRBY key decrement`
///
/// # Errors
/// As for INCR. The smallest integer cannot be subtracted, since it cannot be negated.
pub fn decrby(call: &mut Call<'_, '_, '_>) -> Done {
    let decrement = integer(&call.args[2])?;
    add(call, decrement.checked_neg().ok_or(CommandError::Other("decrement would overflow"))?)
}

/// `INCRBYFLOAT key increment`
///
/// # Errors
/// [`CommandError::NotAFloat`], [`CommandError::NotFinite`], [`CommandError::HeapFull`]; nothing changed.
pub fn incrbyfloat(call: &mut Call<'_, '_, '_>) -> Done {
    let (args, now) = (call.args, call.keyspace.now().wall);
    let key = &args[1];
    let float = |text: &[u8]| Float::parse(text).ok_or(CommandError::NotAFloat);
    let sum = call.keyspace.on(key, |stripe, at| {
        let found = stripe.peek(at, key, now);
        let expiry = found.and_then(|found| found.expiry);
        let value = float(found.map_or(b"0", |found| found.value))?;
        let sum = value.checked_add(float(&args[2])?).ok_or(CommandError::NotFinite)?.to_string();
        stripe.write(at, key, sum.as_bytes(), expiry, now)?;
        Ok::<_, CommandError>(sum)
    })?;
    call.reply.text(&sum);
    Ok(())
}

fn add(call: &mut Call<'_, '_, '_>, increment: i64) -> Done {
    let (key, now) = (&call.args[1], call.keyspace.now().wall);
    let sum = call.keyspace.on(key, |stripe, at| {
        let found = stripe.peek(at, key, now);
        let expiry = found.and_then(|found| found.expiry);
        let sum = value(found)?.checked_add(increment).ok_or(CommandError::Overflow)?;
        stripe.write(at, key, itoa::Buffer::new().format(sum).as_bytes(), expiry, now)?;
        Ok::<_, CommandError>(sum)
    })?;
    call.reply.integer(sum);
    Ok(())
}

fn value(found: Option<Found<'_>>) -> Result<i64, CommandError> {
    found.map_or(Ok(0), |found| integer(found.value))
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Server;

    #[test]
    fn counting_begins_at_zero_and_keeps_the_end() {
        Server::new().gives(&[
            ("INCR k", "1"),
            ("INCRBY k 41", "42"),
            ("EXPIRE k 10", "1"),
            ("DECR k", "41"),
            ("DECRBY k -1", "42"),
            ("GET k", "'42'"),
            ("TTL k", "10"),
            ("INCRBYFLOAT k 0.5", "'42.5'"),
            ("TTL k", "10"),
            ("DECR l", "-1"),
            ("INCRBYFLOAT m 1.0e2", "'100'"),
            ("INCR m", "101"),
        ]);
    }

    #[test]
    fn sums_stay_within_64_bits() {
        let overflow = "-ERR increment or decrement would overflow";
        Server::new().gives(&[
            ("SET k 9223372036854775807", "OK"),
            ("INCR k", overflow),
            ("INCRBY k 1", overflow),
            ("DECRBY k -1", overflow),
            ("DECRBY k -9223372036854775808", "-ERR decrement would overflow"),
            ("INCRBY k -9223372036854775808", "-1"),
            ("DECRBY k 9223372036854775807", "-9223372036854775808"),
            ("DECR k", overflow),
            ("GET k", "'-9223372036854775808'"),
        ]);
    }

    #[test]
    fn what_is_no_number_stays_as_it_is() {
        let mut server = Server::new();
        for value in ["abc", "''", "1.5", "+1", "01", "-0", "9223372036854775808", "1a"] {
            server.gives(&[
                (&format!("SET k {value}"), "OK"),
                ("INCR k", "-ERR value is not an integer or out of range"),
                ("DECRBY k 1", "-ERR value is not an integer or out of range"),
                (&format!("INCRBY l {value}"), "-ERR value is not an integer or out of range"),
            ]);
        }
        for value in ["abc", "''", "nan", "1a"] {
            server.gives(&[
                (&format!("SET k {value}"), "OK"),
                ("INCRBYFLOAT k 1", "-ERR value is not a valid float"),
                (&format!("INCRBYFLOAT l {value}"), "-ERR value is not a valid float"),
            ]);
        }
        server.gives(&[("EXISTS l", "0"), ("INCRBYFLOAT l inf", "-ERR increment would produce NaN or Infinity")]);
    }
}
