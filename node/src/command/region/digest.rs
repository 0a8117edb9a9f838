//! REGION DIGEST: whether slots of this node hold what they hold in another region, in a few bytes.
//!
//! ```text
//! REGION DIGEST first-slot last-slot at-ms cursor [SPAN slots | BUCKETS buckets]
//!   -> [next cursor, the number of the first part, digests]
//! ```
//! What a digest is, what counts and what parts are stands in [`node_core::store::Digests`]. A part is a run of SPAN slots, 1
//! unless it is said, each run beginning at a multiple of that; or, with BUCKETS, one of so many buckets of all the slots named. Parts
//! count from the one in which `first-slot` lies. Digests are twenty bytes each, one after the other: the sum, 16 bytes, then the
//! number of records, 4 bytes, both little-endian.
//!
//! A call looks at a bounded number of entries, so that other clients have their turn, and replies with a cursor for the next
//! one, 0 after the last, as SCAN does. Nothing is kept between calls. A part that was not done continues in the next reply, and
//! the caller adds the two up.

use clock::Time;
use node_core::{
    command::scan::ScanCursor,
    limits::DIGEST_BUCKETS_MAX,
    number,
    resp::Args,
    slot::{SLOTS, SlotRange},
    store::{Digest, Digests, Parts},
};

use super::{
    super::{
        Context, Done, Failure,
        words::{self, slot},
    },
    refuse_others,
};

/// See the head of this file.
pub(in crate::command) fn digest(call: Context<'_, '_, '_>) -> Done {
    let args = call.args;
    let slots = SlotRange { first: slot(&args[2])?, last: slot(&args[3])? };
    if slots.first > slots.last {
        return Err(Failure::text("ERR the first slot lies behind the last"));
    }
    let at_ms = number::parse_i64(&args[4]).and_then(|ms| u64::try_from(ms).ok()).ok_or(Failure::NOT_AN_INTEGER)?;
    let cursor = ScanCursor::parse(&args[5])?.within(&slots);
    let digests = Digests { parts: parts(args.from(6))?, at: Time::from_unix_ms(at_ms), slots };
    refuse_others(&call, &digests.slots)?;
    let cursor = cursor.ok_or(Failure::text("ERR the cursor lies behind the last slot"))?;
    let portion = digests.step(call.keyspace.store(), (cursor.slot(), cursor.position()));
    let next = portion.next.map_or(0, |(slot, position)| ScanCursor::new(slot, position).to_number());
    call.reply.array(3);
    call.reply.bulk_integer(next.cast_signed());
    call.reply.count(portion.first);
    call.reply.bulk(&portion.digests.into_iter().flat_map(Digest::to_bytes).collect::<Vec<_>>());
    Ok(())
}

fn parts(args: Args<'_>) -> Result<Parts, Failure> {
    let (Some(word), Some(number), 2) = (args.get(0), args.get(1), args.len()) else {
        return if args.is_empty() { Ok(Parts::Slots(1)) } else { Err(Failure::SYNTAX) };
    };
    let number = number::parse_i64(number).ok_or(Failure::NOT_AN_INTEGER)?;
    let up_to = |most: u16| u16::try_from(number).ok().filter(|number| (1..=most).contains(number));
    let out_of_range = Failure::text("ERR value is out of range");
    match word {
        word if words::is(word, "span") => up_to(SLOTS).map(Parts::Slots).ok_or(out_of_range),
        word if words::is(word, "buckets") => up_to(DIGEST_BUCKETS_MAX).map(Parts::Buckets).ok_or(out_of_range),
        _ => Err(Failure::SYNTAX),
    }
}
