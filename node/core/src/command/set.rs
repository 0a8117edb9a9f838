//! Writing a value: SET and its older kin SETNX, SETEX, PSETEX and GETSET.
//!
//! ```text
//! SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]
//! SETNX key value               only if the key is absent
//! SETEX key seconds value       with an end
//! PSETEX key milliseconds value
//! GETSET key value              replies the value before
//! ```
//!
//! A write drops the end that the value before had, unless told to keep it. An end that lies in the past makes the write
//! a delete: the tombstone is what the other regions need to hear. Options come in any order and case; one that
//! stands twice counts once, or the last time it stands, as in Redis 7.0.

use clock::Now;

use super::{Call, CommandError, Done, expire::ExpiryForm};
use crate::{
    resp::Args,
    store::{Address, Expiry, Stripe},
};

/// `SET key value [options]`
///
/// # Errors
/// [`CommandError::Syntax`], an end that is no integer or out of range, [`CommandError::HeapFull`]; nothing changed.
pub fn set(call: &mut Call<'_, '_, '_>) -> Done {
    let (args, now) = (call.args, call.keyspace.now());
    if args.len() == 3 {
        // As nearly all are.
        let (key, value) = (&args[1], &args[2]);
        call.keyspace.on(key, |stripe, at| stripe.write(at, key, value, None, now.wall))?;
        call.reply.ok();
        return Ok(());
    }
    let options = Options::parse(args.from(3))?;
    let ending = options.ending.resolve("set", now)?;
    let (key, value) = (&args[1], &args[2]);
    let (old, stored) = call.keyspace.on(key, |stripe, at| {
        let old = options.get.then(|| stripe.read(at, key, now.wall).map(|found| found.value.to_vec()));
        let stored = store(stripe, at, key, value, options.condition, ending, now)?;
        Ok::<_, CommandError>((old, stored))
    })?;
    match old {
        Some(old) => call.reply.bulk_or_null(old.as_deref()),
        None if stored => call.reply.ok(),
        None => call.reply.null(),
    }
    Ok(())
}

/// `SETNX key value`
///
/// # Errors
/// [`CommandError::HeapFull`]; nothing changed.
pub fn setnx(call: &mut Call<'_, '_, '_>) -> Done {
    let (args, now) = (call.args, call.keyspace.now());
    let (key, value) = (&args[1], &args[2]);
    let stored = call
        .keyspace
        .on(key, |stripe, at| store(stripe, at, key, value, Some(Presence::Absent), Ending::Never, now))?;
    call.reply.integer(i64::from(stored));
    Ok(())
}

/// `SETEX key seconds value`
///
/// # Errors
/// As for SET.
pub fn setex(call: &mut Call<'_, '_, '_>) -> Done {
    set_with_end(call, ExpiryForm::InSeconds, "setex")
}

/// `PSETEX key milliseconds value`
///
/// # Errors
/// As for SET.
pub fn psetex(call: &mut Call<'_, '_, '_>) -> Done {
    set_with_end(call, ExpiryForm::InMilliseconds, "psetex")
}

/// `GETSET key value`
///
/// # Errors
/// [`CommandError::HeapFull`]; nothing changed.
pub fn getset(call: &mut Call<'_, '_, '_>) -> Done {
    let (args, now) = (call.args, call.keyspace.now().wall);
    let (key, value) = (&args[1], &args[2]);
    let old = call.keyspace.on(key, |stripe, at| {
        let old = stripe.read(at, key, now).map(|found| found.value.to_vec());
        stripe.write(at, key, value, None, now)?;
        Ok::<_, CommandError>(old)
    })?;
    call.reply.bulk_or_null(old.as_deref());
    Ok(())
}

fn set_with_end(call: &mut Call<'_, '_, '_>, form: ExpiryForm, command: &'static str) -> Done {
    let (args, now) = (call.args, call.keyspace.now());
    let expiry = form.positive(&args[2], command, now.unix_ms())?;
    let (key, value) = (&args[1], &args[3]);
    call.keyspace.on(key, |stripe, at| stripe.write(at, key, value, Some(expiry), now.wall))?;
    call.reply.ok();
    Ok(())
}

/// Writes `value` if the condition holds. Returns whether it did.
fn store(
    stripe: &mut Stripe,
    at: Address,
    key: &[u8],
    value: &[u8],
    condition: Option<Presence>,
    ending: Ending,
    now: Now,
) -> Result<bool, CommandError> {
    // Most writes depend on nothing that is there, and are spared the look.
    let looks = condition.is_some() || ending == Ending::Kept;
    let held = if looks { stripe.peek(at, key, now.wall).map(|found| found.expiry) } else { None };
    if condition.is_some_and(|wanted| (wanted == Presence::Present) != held.is_some()) {
        return Ok(false);
    }
    let expiry = match ending {
        Ending::Never => None,
        Ending::Kept => held.flatten(),
        Ending::At(expiry) => Some(expiry),
    };
    if expiry.is_some_and(|expiry| expiry.is_in_the_past(now.unix_ms())) {
        stripe.delete(at, key, now.wall)?;
    } else {
        stripe.write(at, key, value, expiry, now.wall)?;
    }
    Ok(true)
}

/// What must be true of the key for a write to happen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Present,
    Absent,
}

/// When the written value ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Never,
    /// When the value before does.
    Kept,
    At(Expiry),
}

/// [`Ending`], as the client put it.
#[derive(Clone, Copy)]
enum GivenEnding<'a> {
    Never,
    Kept,
    At(ExpiryForm, &'a [u8]),
}

impl GivenEnding<'_> {
    fn resolve(self, command: &'static str, now: Now) -> Result<Ending, CommandError> {
        Ok(match self {
            Self::Never => Ending::Never,
            Self::Kept => Ending::Kept,
            Self::At(form, number) => Ending::At(form.positive(number, command, now.unix_ms())?),
        })
    }
}

/// The options of SET.
struct Options<'a> {
    condition: Option<Presence>,
    get: bool,
    ending: GivenEnding<'a>,
}

impl<'a> Options<'a> {
    fn parse(options: Args<'a>) -> Result<Self, CommandError> {
        let mut parsed = Self { condition: None, get: false, ending: GivenEnding::Never };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            if let Some(form) = ExpiryForm::from_option(option) {
                let same = matches!(parsed.ending, GivenEnding::At(other, _) if other == form);
                if !same && !matches!(parsed.ending, GivenEnding::Never) {
                    return Err(CommandError::Syntax);
                }
                parsed.ending = GivenEnding::At(form, options.next().ok_or(CommandError::Syntax)?);
            } else {
                parsed.take_flag(option)?;
            }
        }
        Ok(parsed)
    }

    fn take_flag(&mut self, option: &[u8]) -> Result<(), CommandError> {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"nx") && self.condition != Some(Presence::Present) {
            self.condition = Some(Presence::Absent);
        } else if is(b"xx") && self.condition != Some(Presence::Absent) {
            self.condition = Some(Presence::Present);
        } else if is(b"get") {
            self.get = true;
        } else if is(b"keepttl") && !matches!(self.ending, GivenEnding::At(..)) {
            self.ending = GivenEnding::Kept;
        } else {
            return Err(CommandError::Syntax);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Server;

    #[test]
    fn conditions_decide_whether_it_writes() {
        let mut server = Server::new();
        server.gives(&[
            ("SET k 1 XX", "nil"),
            ("SET k 1 nx", "OK"),
            ("SET k 2 NX", "nil"),
            ("SET k 3 xx", "OK"),
            ("GET k", "'3'"),
            ("SETNX k 4", "0"),
            ("SETNX l 4", "1"),
        ]);
        assert_eq!(server.writes(), 3);
    }

    #[test]
    fn get_replies_the_old_value_whether_or_not_it_writes() {
        Server::new().gives(&[
            ("SET k 1 GET", "nil"),
            ("SET k 2 GET", "'1'"),
            ("SET k 3 NX GET", "'2'"),
            ("SET l 1 XX GET", "nil"),
            ("EXISTS l", "0"),
            ("SET l 1 NX GET", "nil"),
            ("GETSET l 2", "'1'"),
            ("GETSET m 2", "nil"),
            ("MGET k l m", "['2', '2', '2']"),
        ]);
    }

    #[test]
    fn a_write_drops_the_end_unless_told_to_keep_it() {
        Server::new().gives(&[
            ("SET k v EX 10", "OK"),
            ("SET k v KEEPTTL keepttl", "OK"),
            ("TTL k", "10"),
            ("SET k v", "OK"),
            ("TTL k", "-1"),
            ("SET k v KEEPTTL", "OK"),
            ("TTL k", "-1"),
            ("SET k v PX 1500 PX 2500", "OK"),
            ("PTTL k", "2500"),
            ("GETSET k v", "'v'"),
            ("TTL k", "-1"),
            ("SETEX k 10 v", "OK"),
            ("TTL k", "10"),
            ("PSETEX k 10 v", "OK"),
            ("PTTL k", "10"),
            ("SET k v PXAT 9223372036854775807", "OK"),
            ("PEXPIRETIME k", "9223372036854775807"),
        ]);
    }

    #[test]
    fn an_end_in_the_past_deletes() {
        let mut server = Server::new();
        server.gives(&[("SET k v", "OK"), ("SET k w GET EXAT 1", "'v'"), ("EXISTS k", "0"), ("DBSIZE", "0")]);
        assert_eq!(server.writes(), 2, "the other regions are told");
    }

    #[test]
    fn a_value_ends_with_its_millisecond() {
        let mut server = Server::new();
        server.gives(&[("SET k v PX 100", "OK")]);
        server.wait_ms(100);
        server.gives(&[("GET k", "'v'"), ("PTTL k", "0")]);
        server.wait_ms(1);
        server.gives(&[("GET k", "nil"), ("SET k v XX", "nil"), ("SET k w KEEPTTL", "OK"), ("TTL k", "-1")]);
    }

    #[test]
    fn options_that_exclude_one_another_are_refused() {
        for options in [
            "NX XX",
            "XX NX",
            "EX",
            "EX 1 PX 1",
            "PX 1 PXAT 2",
            "EX 1 KEEPTTL",
            "KEEPTTL EX 1",
            "PERSIST",
            "EX 1 EX",
            "nxx",
            "''",
        ] {
            Server::new().gives(&[(&format!("SET k v {options}"), "-ERR syntax error"), ("EXISTS k", "0")]);
        }
    }

    #[test]
    fn ends_are_positive_and_within_64_bits() {
        for end in ["EX 0", "EX -1", "PX 0", "EX 9223372036854775807", "PX 9223372036854775807", "EXAT -1", "PXAT 0"] {
            Server::new().gives(&[(&format!("SET k v {end}"), "-ERR invalid expire time in 'set' command")]);
        }
        Server::new().gives(&[
            ("SET k v EX 1.5", "-ERR value is not an integer or out of range"),
            ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
            ("PSETEX k -1 v", "-ERR invalid expire time in 'psetex' command"),
            ("PSETEX k x v", "-ERR value is not an integer or out of range"),
            ("DBSIZE", "0"),
        ]);
    }
}
