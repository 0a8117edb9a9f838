//! REGION ROWS: what a slot of this node knows of some of its keys.
//!
//! ```text
//! REGION ROWS slot cursor buckets bucket [bucket ...]
//!   -> [next cursor, the slot's floor, what it has seen, rows]
//!   row = [key, stamp, VALUE | TOMBSTONE | EVICTED, expiry in milliseconds since 1970, a hash of the value's bytes]
//! ```
//! A row of what is no value has null for its expiry and its hash, and one of a value that does not end has null for its expiry.
//! What is seen is a list of stamps: of each origin up to which time. Calls are bounded and go on by cursor as those of
//! [REGION DIGEST](super::digest) do; why rows, floor and `seen` can be believed together is said in [`node_core::store::Rows`].

use clock::Stamp;
use node_core::{
    command::scan::ScanCursor,
    limits::DIGEST_BUCKETS_MAX,
    number,
    resp::Reply,
    slot::SlotRange,
    store::{Record, Rows, State, content_of},
};

use super::{
    super::{Context, Done, Failure, words::slot},
    record::word_of,
    refuse_others,
};

/// See the head of this file.
pub(in crate::command) fn rows(call: Context<'_, '_, '_>) -> Done {
    let args = call.args;
    let slot = slot(&args[2])?;
    let slots = SlotRange { first: slot, last: slot };
    let cursor = ScanCursor::parse(&args[3])?.within(&slots);
    let number = |text: &[u8]| number::parse_i64(text).and_then(|number| u16::try_from(number).ok());
    let buckets = number(&args[4]).filter(|buckets| (1..=DIGEST_BUCKETS_MAX).contains(buckets));
    let buckets = buckets.ok_or(Failure::text("ERR value is out of range"))?;
    let wanted = args.from(5).iter().map(|text| number(text).filter(|bucket| *bucket < buckets));
    let wanted: Option<Vec<u16>> = wanted.collect();
    let rows = Rows { slot, buckets, wanted: wanted.ok_or(Failure::text("ERR there is no such bucket"))? };
    refuse_others(&call, &slots)?;
    let cursor = cursor.ok_or(Failure::text("ERR the cursor is of another slot"))?;
    // What comes first in the reply is known last.
    let (mut listed, mut count) = (Vec::new(), 0);
    let mut list = Reply::new(&mut listed, call.reply.protocol());
    let read = rows.step(call.keyspace.store(), cursor.position(), call.keyspace.now(), |record| {
        write_row(&mut list, record);
        count += 1;
    });
    let next = read.next.map_or(0, |position| ScanCursor::new(slot, position).to_number());
    call.reply.array(4);
    call.reply.bulk_integer(next.cast_signed());
    call.reply.text(&read.floor.to_string());
    call.reply.array(read.seen.iter().len());
    read.seen.iter().for_each(|(origin, time)| call.reply.text(&Stamp { time, origin }.to_string()));
    call.reply.array(count);
    call.reply.raw(&listed);
    Ok(())
}

fn write_row(reply: &mut Reply<'_>, record: &Record<'_>) {
    reply.array(5);
    reply.bulk(record.key);
    reply.text(&record.stamp.to_string());
    reply.text(word_of(&record.state));
    match record.state {
        State::Value { bytes, expiry } => {
            match expiry {
                Some(expiry) => reply.integer(expiry.unix_ms().cast_signed()),
                None => reply.null(),
            }
            reply.text(&format!("{:016x}", content_of(bytes)));
        }
        State::Tombstone | State::Evicted => {
            reply.null();
            reply.null();
        }
    }
}
