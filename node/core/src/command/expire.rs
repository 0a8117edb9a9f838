//! When values end: EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT; and how clients say so, also to SET and GETEX.
//!
//! ```text
//! EXPIRE key seconds [NX | XX | GT | LT]         from now
//! PEXPIRE key milliseconds [NX | XX | GT | LT]
//! EXPIREAT key seconds [NX | XX | GT | LT]       since the Unix epoch
//! PEXPIREAT key milliseconds [NX | XX | GT | LT]
//! ```
//!
//! NX wants a value without an end, XX one with an end, GT and LT an end that lies before or behind the new one, where
//! no end is the latest of all. XX goes with GT or LT.
//!
//! Whatever the client says becomes an absolute wall time here, and that is part of the record: EXPIRE writes the
//! value again, with its new end and a new stamp. An end in the past deletes: the other regions get a tombstone, not
//! a value that each of them would have to end by its own clock.

use super::{Call, CommandError, Done, integer};
use crate::{resp::Args, store::Expiry};

/// The four ways in which a client says when a value ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpiryForm {
    /// EX, EXPIRE, SETEX.
    InSeconds,
    /// PX, PEXPIRE, PSETEX.
    InMilliseconds,
    /// EXAT, EXPIREAT.
    AtSecond,
    /// PXAT, PEXPIREAT.
    AtMillisecond,
}

impl ExpiryForm {
    /// The form that an option of SET or GETEX means, in any case.
    pub(super) fn from_option(option: &[u8]) -> Option<Self> {
        let forms: [(&[u8], Self); 4] = [
            (b"ex", Self::InSeconds),
            (b"px", Self::InMilliseconds),
            (b"exat", Self::AtSecond),
            (b"pxat", Self::AtMillisecond),
        ];
        forms.iter().find(|(name, _)| option.eq_ignore_ascii_case(name)).map(|(_, form)| *form)
    }

    /// The end that `number` means at `now_ms`. What lies before the epoch has passed, like the epoch itself.
    ///
    /// # Errors
    /// [`CommandError::InvalidExpiry`] if it cannot be represented.
    fn resolve(self, number: i64, command: &'static str, now_ms: u64) -> Result<Expiry, CommandError> {
        let unit = if matches!(self, Self::InSeconds | Self::AtSecond) { 1_000 } else { 1 };
        let relative = matches!(self, Self::InSeconds | Self::InMilliseconds);
        let ms = number
            .checked_mul(unit)
            .and_then(|ms| ms.checked_add_unsigned(if relative { now_ms } else { 0 }))
            .ok_or(CommandError::InvalidExpiry(command))?;
        Ok(Expiry::at_unix_ms(u64::try_from(ms).unwrap_or(0)))
    }

    /// The end that `text` means at `now_ms`, by the rules of SET and GETEX, which take positive numbers only.
    ///
    /// # Errors
    /// [`CommandError::NotAnInteger`], [`CommandError::InvalidExpiry`].
    pub(super) fn positive(self, text: &[u8], command: &'static str, now_ms: u64) -> Result<Expiry, CommandError> {
        let number = integer(text)?;
        if number <= 0 {
            return Err(CommandError::InvalidExpiry(command));
        }
        self.resolve(number, command, now_ms)
    }
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
///
/// # Errors
/// Options that do not go together, an end that is no integer or out of range, [`CommandError::HeapFull`]; nothing
/// changed.
pub fn expire(call: &mut Call<'_, '_, '_>) -> Done {
    change_end(call, ExpiryForm::InSeconds, "expire")
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
///
/// # Errors
/// As for EXPIRE.
pub fn pexpire(call: &mut Call<'_, '_, '_>) -> Done {
    change_end(call, ExpiryForm::InMilliseconds, "pexpire")
}

/// `EXPIREAT key seconds [NX | XX | GT | LT]`
///
/// # Errors
/// As for EXPIRE.
pub fn expireat(call: &mut Call<'_, '_, '_>) -> Done {
    change_end(call, ExpiryForm::AtSecond, "expireat")
}

/// `PEXPIREAT key milliseconds [NX | XX | GT | LT]`
///
/// # Errors
/// As for EXPIRE.
pub fn pexpireat(call: &mut Call<'_, '_, '_>) -> Done {
    change_end(call, ExpiryForm::AtMillisecond, "pexpireat")
}

fn change_end(call: &mut Call<'_, '_, '_>, form: ExpiryForm, command: &'static str) -> Done {
    let (args, now) = (call.args, call.keyspace.now());
    let conditions = Conditions::parse(args.from(3))?;
    let expiry = form.resolve(integer(&args[2])?, command, now.unix_ms())?;
    let key = &args[1];
    let changed = call.keyspace.on(key, |stripe, at| {
        let Some(found) = stripe.peek(at, key, now.wall) else { return Ok(false) };
        if !conditions.allow(found.expiry, expiry) {
            return Ok(false);
        }
        if expiry.is_in_the_past(now.unix_ms()) {
            stripe.delete(at, key, now.wall)?;
        } else {
            stripe.set_expiry(at, key, Some(expiry), now.wall)?;
        }
        Ok::<_, CommandError>(true)
    })?;
    call.reply.integer(i64::from(changed));
    Ok(())
}

/// What must be true of a value's end for EXPIRE to change it.
#[derive(Clone, Copy, Default)]
struct Conditions {
    never_ends: bool,
    ends: bool,
    ends_before: bool,
    ends_behind: bool,
}

impl Conditions {
    fn parse(options: Args<'_>) -> Result<Self, CommandError> {
        let mut parsed = Self::default();
        for option in options.iter() {
            let flag = match option.to_ascii_lowercase().as_slice() {
                b"nx" => &mut parsed.never_ends,
                b"xx" => &mut parsed.ends,
                b"gt" => &mut parsed.ends_before,
                b"lt" => &mut parsed.ends_behind,
                _ => return Err(CommandError::UnsupportedOption(String::from_utf8_lossy(option).into_owned())),
            };
            *flag = true;
        }
        if parsed.never_ends && (parsed.ends || parsed.ends_before || parsed.ends_behind) {
            return Err(CommandError::Other("NX and XX, GT or LT options at the same time are not compatible"));
        }
        if parsed.ends_before && parsed.ends_behind {
            return Err(CommandError::Other("GT and LT options at the same time are not compatible"));
        }
        Ok(parsed)
    }

    fn allow(self, held: Option<Expiry>, new: Expiry) -> bool {
        !(self.never_ends && held.is_some()
            || self.ends && held.is_none()
            || self.ends_before && held.is_none_or(|held| new <= held)
            || self.ends_behind && held.is_some_and(|held| new >= held))
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Server;

    #[test]
    fn ends_are_from_now_or_since_the_epoch() {
        let mut server = Server::new();
        server.gives(&[
            ("SET k v", "OK"),
            ("EXPIRE k 10", "1"),
            ("PTTL k", "10000"),
            ("PEXPIRE k 10", "1"),
            ("PTTL k", "10"),
            ("EXPIREAT k 4000000000", "1"),
            ("PEXPIRETIME k", "4000000000000"),
            ("PEXPIREAT k 4000000000001", "1"),
            ("PEXPIRETIME k", "4000000000001"),
            ("GET k", "'v'"),
            ("EXPIRE l 10", "0"),
        ]);
        assert_eq!(server.writes(), 5, "each is a write; of an absent key there is none");
    }

    #[test]
    fn an_end_in_the_past_deletes() {
        for command in ["EXPIRE k 0", "EXPIRE k -1", "PEXPIRE k -9223372036854775808", "EXPIREAT k 1", "PEXPIREAT k 0"]
        {
            let mut server = Server::new();
            server.gives(&[("SET k v", "OK"), (command, "1"), ("EXISTS k", "0"), ("DBSIZE", "0"), (command, "0")]);
            assert_eq!(server.writes(), 2, "the other regions are told, once");
        }
    }

    #[test]
    fn conditions_compare_with_the_end_that_is_there() {
        Server::new().gives(&[
            ("SET k v", "OK"),
            ("EXPIRE k 10 XX", "0"),
            ("EXPIRE k 10 GT", "0"),
            ("EXPIRE k 10 xx gt", "0"),
            ("EXPIRE k 10 NX nx", "1"),
            ("EXPIRE k 20 NX", "0"),
            ("EXPIRE k 10 GT", "0"),
            ("EXPIRE k 10 LT", "0"),
            ("EXPIRE k 20 XX LT", "0"),
            ("EXPIRE k 20 XX GT", "1"),
            ("EXPIRE k 15 LT", "1"),
            ("TTL k", "15"),
            ("EXPIRE k -1 GT", "0"),
            ("PERSIST k", "1"),
            ("EXPIRE k 30 XX LT", "0"),
            ("EXPIRE k 30 LT", "1"),
            ("EXPIRE k -1 LT", "1"),
            ("EXISTS k", "0"),
        ]);
    }

    #[test]
    fn a_condition_that_does_not_hold_writes_nothing() {
        let mut server = Server::new();
        server.gives(&[("SET k v", "OK"), ("EXPIRE k 10 XX", "0"), ("EXPIRE k -1 GT", "0"), ("GET k", "'v'")]);
        assert_eq!(server.writes(), 1);
    }

    #[test]
    fn options_are_checked_before_the_number_and_the_number_before_the_key() {
        let with_nx = "-ERR NX and XX, GT or LT options at the same time are not compatible";
        Server::new().gives(&[
            ("EXPIRE k x foo", "-ERR Unsupported option foo"),
            ("EXPIRE k 1 nx xx", with_nx),
            ("EXPIRE k 1 GT nx", with_nx),
            ("EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible"),
            ("EXPIRE k x", "-ERR value is not an integer or out of range"),
            ("EXPIRE k 9223372036854775", "-ERR invalid expire time in 'expire' command"),
            ("EXPIRE k -9223372036854775808", "-ERR invalid expire time in 'expire' command"),
            ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
            ("EXPIREAT k 9223372036854775807", "-ERR invalid expire time in 'expireat' command"),
            ("PEXPIREAT k 9223372036854775807", "0"),
        ]);
    }
}
