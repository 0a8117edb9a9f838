//! Listing keys: SCAN a few at a time, KEYS all at once.
//!
//! ```text
//! SCAN cursor [MATCH pattern] [COUNT n] [TYPE type]      the next cursor, and keys; 0 begins and ends
//! KEYS pattern
//! ```
//!
//! A cursor holds all there is to a scan: the slot, and the place in its table. So the server remembers nothing, any
//! number of scans may run, and one may be left or repeated. What is promised is what Redis promises: a key that is
//! there from beginning to end is returned at least once; one that comes or goes meanwhile may be returned or not; and
//! a key may be returned twice, since a slot whose table grows in the middle of its scan begins again.
//!
//! COUNT bounds the keys that one call looks at, whether or not they match. A call goes on from slot to slot until that
//! many were seen, so a small keyspace is listed by one call although its keys lie far apart: to pass all 16,384 slots
//! of an empty one took 75 us. Entries without a value count a tenth ([`SCAN_ENTRIES_PER_KEY`]). A lock is held for
//! [`SCAN_ENTRIES_PER_HOLD`] entries at most.
//!
//! KEYS holds the lock for one slot at a time. It never lists a key twice, and it is not a snapshot of all slots.
//!
//! A pattern that names a hash tag before its first wildcard, `{user:7}:*`, can match keys of one slot only, and that slot
//! alone is searched. Valkey does so since version 8.

use clock::Time;

use super::{Call, CommandError, Done, integer};
use crate::{
    glob::{self, Case},
    limits::{SCAN_ENTRIES_PER_HOLD, SCAN_ENTRIES_PER_KEY},
    resp::{Args, Reply},
    slot::{Slot, SlotRange},
    store::{ScanPosition, Stripe},
};

/// Keys that a call looks at unless COUNT says otherwise.
const COUNT_DEFAULT: usize = 10;

/// `SCAN cursor [MATCH pattern] [COUNT n] [TYPE type]`
///
/// # Errors
/// [`CommandError::InvalidCursor`], [`CommandError::Syntax`], [`CommandError::NotAnInteger`].
pub fn scan(call: &mut Call<'_, '_, '_>) -> Done {
    let (args, now) = (call.args, call.keyspace.now().wall);
    let cursor = ScanCursor::parse(&args[1])?;
    let options = Options::parse(args.from(2))?;
    let slots = options.pattern.slots();
    let mut next = cursor.within(&slots).filter(|_| options.wants_strings);
    let mut left = Budget { keys: options.count, entries: options.count.saturating_mul(SCAN_ENTRIES_PER_KEY) };
    // The next cursor stands before the keys, and is known after them.
    let (mut listed, mut count) = (Vec::new(), 0);
    let mut list = Reply::new(&mut listed, call.reply.protocol());
    while let Some(from) = next
        && !left.is_spent()
    {
        let stripe = call.keyspace.store().stripe_of(from.slot);
        next = call.keyspace.on_stripe(stripe, |stripe| {
            scan_stripe(stripe, from, &slots, now, &mut left, |key| {
                if options.pattern.matches(key) {
                    list.bulk(key);
                    count += 1;
                }
            })
        });
    }
    call.reply.array(2);
    call.reply.bulk(itoa::Buffer::new().format(next.map_or(0, ScanCursor::to_number)).as_bytes());
    call.reply.array(count);
    call.reply.raw(&listed);
    Ok(())
}

/// `KEYS pattern`
///
/// # Errors
/// None.
pub fn keys(call: &mut Call<'_, '_, '_>) -> Done {
    let (args, now) = (call.args, call.keyspace.now().wall);
    let pattern = Pattern(&args[1]);
    let (list, mut count) = (call.reply.begin_array(), 0);
    for slot in pattern.slots().iter() {
        let stripe = call.keyspace.store().stripe_of(slot);
        call.keyspace.on_stripe(stripe, |stripe| {
            let (start, mut no_bound) = (ScanPosition::default(), usize::MAX);
            stripe.scan_keys(slot, start, now, &mut no_bound, |key, _| {
                if pattern.matches(key) {
                    call.reply.bulk(key);
                    count += 1;
                }
                true
            })
        });
    }
    call.reply.end_array(list, count);
    Ok(())
}

/// Goes on with a scan of `slots` under one hold of a stripe's lock. Returns where the scan goes on, or `None` when it
/// is done.
fn scan_stripe(
    stripe: &Stripe,
    mut from: ScanCursor,
    slots: &SlotRange,
    now: Time,
    left: &mut Budget,
    mut visit: impl FnMut(&[u8]),
) -> Option<ScanCursor> {
    let granted = left.entries.min(SCAN_ENTRIES_PER_HOLD);
    let mut hold = granted;
    let next = loop {
        let stopped = stripe.scan_keys(from.slot, from.position, now, &mut hold, |key, _| {
            visit(key);
            left.keys -= 1;
            left.keys > 0
        });
        if let Some(position) = stopped {
            break Some(ScanCursor { position, ..from });
        }
        match ScanCursor::after(from.slot, slots) {
            Some(next) if hold > 0 && left.keys > 0 && stripe.slots().contains(next.slot) => from = next,
            next => break next,
        }
    };
    left.entries -= granted - hold;
    next
}

/// What a call of SCAN may still do.
struct Budget {
    /// Keys to look at.
    keys: usize,
    /// Entries of any kind to look at.
    entries: usize,
}

impl Budget {
    const fn is_spent(&self) -> bool {
        self.keys == 0 || self.entries == 0
    }
}

/// Where a scan stands.
///
/// On the wire it is a number of 53 bits, 14 of slot, 8 of layout, 31 of bucket: some clients keep cursors as doubles,
/// which are exact that far. The bucket is that of a segment of the slot's table, whose prefix stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanCursor {
    slot: Slot,
    position: ScanPosition,
}

impl ScanCursor {
    const LAYOUT_BITS: u32 = 8;
    const BUCKET_BITS: u32 = 31;
    /// Where a [`ScanPosition`] keeps the layout.
    const LAYOUT_SHIFT: u32 = 32;

    /// Reads what [`to_number`](Self::to_number) wrote. Zero is the start, and any other number is some place.
    ///
    /// # Errors
    /// [`CommandError::InvalidCursor`].
    pub fn parse(text: &[u8]) -> Result<Self, CommandError> {
        let number: Option<u64> = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        let number = number.ok_or(CommandError::InvalidCursor)?;
        let bits = |shift: u32, width: u32| number >> shift & ((1 << width) - 1);
        let position = bits(Self::BUCKET_BITS, Self::LAYOUT_BITS) << Self::LAYOUT_SHIFT | bits(0, Self::BUCKET_BITS);
        let slot = u16::try_from(number >> (Self::LAYOUT_BITS + Self::BUCKET_BITS)).ok().and_then(Slot::new);
        let slot = slot.ok_or(CommandError::InvalidCursor)?;
        Ok(Self { slot, position: ScanPosition::from_bits(position) })
    }

    /// A place in a slot.
    pub const fn new(slot: Slot, position: ScanPosition) -> Self {
        Self { slot, position }
    }

    /// Where in its slot it stands.
    pub const fn position(self) -> ScanPosition {
        self.position
    }

    /// The slot that it stands in.
    pub const fn slot(self) -> Slot {
        self.slot
    }

    /// The number on the wire.
    pub fn to_number(self) -> u64 {
        let (slot, position) = (u64::from(self.slot.number()), self.position.to_bits());
        let (layout, bucket) = (position >> Self::LAYOUT_SHIFT, position & ((1 << Self::BUCKET_BITS) - 1));
        slot << (Self::LAYOUT_BITS + Self::BUCKET_BITS) | layout << Self::BUCKET_BITS | bucket
    }

    /// The start of a slot. That of the first slot is zero on the wire, so a scan never stops there.
    pub fn start_of(slot: Slot) -> Self {
        Self { slot, position: ScanPosition::default() }
    }

    /// The start of the slot after this one, if it is one of `slots`.
    fn after(slot: Slot, slots: &SlotRange) -> Option<Self> {
        Slot::new(slot.number() + 1).filter(|next| slots.contains(*next)).map(Self::start_of)
    }

    /// Where a scan of `slots` stands with this cursor: at their start, if it has not reached them; `None` if it is past them.
    pub fn within(self, slots: &SlotRange) -> Option<Self> {
        if self.slot < slots.first {
            Some(Self::start_of(slots.first))
        } else {
            slots.contains(self.slot).then_some(self)
        }
    }
}

/// The options of SCAN.
struct Options<'a> {
    pattern: Pattern<'a>,
    count: usize,
    /// Whether the type that is asked for, if any, is the one that there is.
    wants_strings: bool,
}

impl<'a> Options<'a> {
    fn parse(options: Args<'a>) -> Result<Self, CommandError> {
        let mut parsed = Self { pattern: Pattern(b"*"), count: COUNT_DEFAULT, wants_strings: true };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let argument = options.next().ok_or(CommandError::Syntax)?;
            match option.to_ascii_lowercase().as_slice() {
                b"match" => parsed.pattern = Pattern(argument),
                b"count" => match integer(argument)? {
                    count @ 1.. => parsed.count = usize::try_from(count).unwrap_or(usize::MAX),
                    _ => return Err(CommandError::Syntax),
                },
                b"type" => parsed.wants_strings = argument.eq_ignore_ascii_case(b"string"),
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(parsed)
    }
}

/// A glob that keys are to match.
#[derive(Clone, Copy)]
struct Pattern<'a>(&'a [u8]);

impl Pattern<'_> {
    fn matches(self, key: &[u8]) -> bool {
        glob::matches_all(self.0) || glob::matches(self.0, key, Case::Sensitive)
    }

    /// Slots outside of which no key matches.
    fn slots(self) -> SlotRange {
        match self.only_slot() {
            Some(slot) => SlotRange { first: slot, last: slot },
            None => SlotRange::ALL,
        }
    }

    /// The slot of all keys that match, if the pattern says enough: its hash tag, or itself when it has no wildcard.
    fn only_slot(self) -> Option<Slot> {
        let wildcard = self.0.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
        let literal = &self.0[..wildcard.unwrap_or(self.0.len())];
        let open = memchr::memchr(b'{', literal);
        let tagged = open.is_some_and(|open| memchr::memchr(b'}', &literal[open + 1..]).is_some_and(|close| close > 0));
        (tagged || wildcard.is_none()).then(|| Slot::of(literal))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Pattern, ScanCursor};
    use crate::{
        command::testing::Server,
        slot::{Slot, SlotRange},
        store::ScanPosition,
    };

    /// The keys that one call replies, and the next cursor.
    fn call(server: &mut Server, command: &str) -> (String, Vec<String>) {
        let reply = server.send(command);
        let (cursor, keys) = reply.strip_prefix("['").and_then(|rest| rest.split_once("', [")).expect(&reply);
        let keys = keys.trim_end_matches("]]").split(", ").filter(|key| !key.is_empty());
        (cursor.to_owned(), keys.map(|key| key.trim_matches('\'').to_owned()).collect())
    }

    /// All keys that a scan lists, and the number of calls.
    fn scan(server: &mut Server, options: &str) -> (Vec<String>, usize) {
        let (mut cursor, mut keys, mut calls) = ("0".to_owned(), vec![], 0);
        loop {
            let (next, found) = call(server, format!("SCAN {cursor} {options}").trim_end());
            keys.extend(found);
            calls += 1;
            if next == "0" {
                keys.sort_unstable();
                return (keys, calls);
            }
            cursor = next;
        }
    }

    fn with_keys(count: usize) -> (Server, Vec<String>) {
        let (mut server, mut keys) = (Server::new(), vec![]);
        for key in 0..count {
            server.gives(&[(&format!("SET key:{key} v"), "OK")]);
            keys.push(format!("key:{key}"));
        }
        keys.sort_unstable();
        (server, keys)
    }

    #[test]
    fn a_scan_lists_every_key_once_when_nothing_changes() {
        let (mut server, keys) = with_keys(300);
        assert_eq!(scan(&mut server, ""), (keys.clone(), 31));
        assert_eq!(scan(&mut server, "COUNT 1000"), (keys.clone(), 1));
        assert_eq!(scan(&mut server, "COUNT 1 TYPE string").0, keys);
        assert_eq!(scan(&mut server, "MATCH * MATCH key:1?").0.len(), 10);
        assert_eq!(scan(&mut server, "TYPE hash"), (vec![], 1));
    }

    #[test]
    fn one_slot_with_many_keys_is_scanned_in_parts() {
        for stripes in [1, 64] {
            let mut server = Server::with_stripes(stripes);
            let mut keys: Vec<_> = (0..3_000).map(|key| format!("{{tag}}{key}")).collect();
            keys.iter().for_each(|key| server.gives(&[(&format!("SET {key} v"), "OK")]));
            keys.sort_unstable();
            assert_eq!(scan(&mut server, "COUNT 100").0, keys);
            assert_eq!(scan(&mut server, "COUNT 9223372036854775807"), (keys.clone(), 1));
            assert_eq!(scan(&mut server, "MATCH {tag}2* COUNT 3000").0.len(), 1_111);
        }
    }

    #[test]
    fn what_is_there_throughout_is_listed_whatever_comes_and_goes() {
        let (mut server, keys) = with_keys(200);
        let (mut cursor, mut listed, mut step) = ("0".to_owned(), BTreeSet::new(), 0);
        loop {
            let (next, found) = call(&mut server, &format!("SCAN {cursor} COUNT 7"));
            listed.extend(found.into_iter().filter(|key| key.starts_with("key:")));
            for _ in 0..5 {
                // All in slots that are in use, so that tables grow under the scan.
                server.gives(&[(&format!("SET {{key:{}}}{step} v", step % 200), "OK")]);
                step += 1;
            }
            server.send(&format!("DEL {{key:{}}}{}", step % 200, step / 2));
            if next == "0" {
                break;
            }
            cursor = next;
        }
        assert_eq!(listed.into_iter().collect::<Vec<_>>(), keys);
    }

    #[test]
    fn what_is_gone_is_not_listed_and_does_not_make_a_call_long() {
        let mut server = Server::new();
        for key in 0..500 {
            server.gives(&[(&format!("SET {{t}}{key} v PX 5"), "OK"), (&format!("DEL {{t}}x{key}"), "0")]);
        }
        server.wait_ms(6);
        server.gives(&[("SET {t}last v", "OK"), ("KEYS *", "['{t}last']")]);
        let (keys, calls) = scan(&mut server, "");
        assert_eq!(keys, ["{t}last"]);
        assert!((10..=15).contains(&calls), "1001 entries at 100 a call, but for those that KEYS dropped: {calls}");
    }

    #[test]
    fn keys_lists_what_matches() {
        let (mut server, _) = with_keys(20);
        server.gives(&[
            ("KEYS key:7", "['key:7']"),
            ("KEYS x*", "[]"),
            ("KEYS ''", "[]"),
            ("SET '' v", "OK"),
            ("KEYS ''", "['']"),
            ("KEYS ?", "[]"),
            ("SET {a}b v", "OK"),
            ("KEYS {a}*", "['{a}b']"),
            ("KEYS {b}*", "[]"),
            ("KEYS {[ab]}*", "['{a}b']"),
        ]);
        assert_eq!(server.send("KEYS *").split(", ").count(), 22);
    }

    #[test]
    fn cursors_and_options_are_checked() {
        let mut server = Server::new();
        for cursor in ["x", "-1", "1.0", "0x", "''", "18446744073709551616", "18446744073709551615", "9007199254740992"]
        {
            server.gives(&[(&format!("SCAN {cursor} x"), "-ERR invalid cursor")]);
        }
        for (options, error) in [
            ("COUNT 0", "-ERR syntax error"),
            ("COUNT -1", "-ERR syntax error"),
            ("COUNT x", "-ERR value is not an integer or out of range"),
            ("COUNT", "-ERR syntax error"),
            ("MATCH", "-ERR syntax error"),
            ("x 1", "-ERR syntax error"),
        ] {
            server.gives(&[(&format!("SCAN 0 {options}"), error)]);
        }
        server.gives(&[("SCAN 9007199254740991", "['0', []]"), ("SCAN 0 MATCH {a}*", "['0', []]")]);
    }

    #[test]
    fn a_pattern_with_a_hash_tag_knows_its_slot() {
        for (pattern, slot) in [
            ("{a}*", Some("a")),
            ("x{a}*", Some("a")),
            ("{a}", Some("a")),
            ("abc", Some("abc")),
            ("{}a", Some("{}a")),
            ("{}*", None),
            ("{}{a}*", None),
            ("{a*}", None),
            ("*{a}", None),
            ("[x]{a}", None),
            ("\\{a}", None),
            ("{a\\}*", None),
        ] {
            assert_eq!(Pattern(pattern.as_bytes()).only_slot(), slot.map(|key| Slot::of(key.as_bytes())), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn cursors_survive_the_wire(slot in 0..16_384_u16, layout: u8, bucket in 0..1_u32 << 31) {
            let position = ScanPosition::from_bits(u64::from(layout) << 32 | u64::from(bucket));
            let cursor = ScanCursor { slot: Slot::new(slot).unwrap(), position };
            prop_assert_eq!(ScanCursor::parse(cursor.to_number().to_string().as_bytes()), Ok(cursor));
            prop_assert_eq!(cursor.to_number() as f64 as u64, cursor.to_number());
        }

        #[test]
        fn any_cursor_is_a_place_or_an_error(number in any::<u64>()) {
            if let Ok(cursor) = ScanCursor::parse(number.to_string().as_bytes()) {
                prop_assert_eq!(cursor.within(&SlotRange::ALL), Some(cursor));
            }
        }
    }
}
