//! REGION FETCH and REGION MERGE: a record as it is held, and as if another region had sent it.
//!
//! ```text
//! REGION FETCH key                                                        -> [stamp, VALUE value [PXAT ms] | TOMBSTONE | EVICTED]
//! REGION MERGE key stamp VALUE value [PXAT ms] | TOMBSTONE | EVICTED      -> APPLIED | STALE | REFUSED
//! ```
//! What one replies with is what the other takes: so is a record carried from a region that has it to one that lacks it. MERGE
//! goes through the same intake as a record that a link brings, and so through `merge`, and is in every way as harmless: it decides
//! nothing by itself, says nothing of what is seen, and never lifts what is at or under a slot's floor over it. What is deleted
//! stays deleted, whoever sends what. Like a link it does not believe everything: a stamp further ahead of this node's clock than
//! `max_drift`, or in the name of this very node and never issued here, is an error. A record that is news here, and meets one that
//! another region wrote, counts as a conflict, as it would have if its link had brought it.

use clock::{Incarnation, Stamp, too_far_ahead};
use geo_link_core::check_own;
use node_core::{
    command::CommandError,
    number,
    resp::Args,
    slot::Slot,
    store::{Expiry, FeedItem, Intake, Record, Seen, State},
};

use super::super::{Context, Done, Failure, words};

/// `REGION FETCH key`
pub(in crate::command) fn fetch(call: Context<'_, '_, '_>) -> Done {
    let (key, reply) = (&call.args[2], call.reply);
    call.keyspace.on(key, |stripe, at| match stripe.record(at, key) {
        None => reply.null_array(),
        Some(record) => {
            let (value, expiry) = match record.state {
                State::Value { bytes, expiry } => (Some(bytes), expiry),
                State::Tombstone | State::Evicted => (None, None),
            };
            reply.array(2 + usize::from(value.is_some()) + 2 * usize::from(expiry.is_some()));
            reply.text(&record.stamp.to_string());
            reply.text(word_of(&record.state));
            value.into_iter().for_each(|bytes| reply.bulk(bytes));
            if let Some(expiry) = expiry {
                reply.text("PXAT");
                reply.bulk_integer(expiry.unix_ms().cast_signed());
            }
        }
    });
    Ok(())
}

/// `REGION MERGE key stamp state`
pub(in crate::command) fn merge(call: Context<'_, '_, '_>) -> Done {
    let (args, now, store) = (call.args, call.keyspace.now(), call.keyspace.store());
    let record = Record { key: &args[2], stamp: stamp(&args[3])?, state: state(args.from(4))? };
    let max_drift = call.server().config.clock.max_drift;
    if too_far_ahead(record.stamp.time, now.wall, max_drift) {
        return Err(Failure::text("ERR the stamp lies further ahead of this node's clock than max_drift"));
    }
    let item = FeedItem::Record { slot: Slot::of(record.key), record };
    check_own(store.origin(), &item, |slot| store.promised_in(slot))
        .map_err(|error| Failure::from(format!("ERR {error}")))?;
    let mut intake = Intake::default();
    intake.take(store, &item, &Seen::new(), now).map_err(CommandError::from)?;
    let tally = intake.tally();
    let outcomes = [(tally.applied, "APPLIED"), (tally.stale, "STALE"), (tally.refused, "REFUSED")];
    let outcome = outcomes.into_iter().find(|(count, _)| *count > 0);
    call.reply.simple(outcome.expect("a record comes to one end").1);
    Ok(())
}

/// The word for a state.
pub(super) const fn word_of(state: &State<'_>) -> &'static str {
    match state {
        State::Value { .. } => "VALUE",
        State::Tombstone => "TOMBSTONE",
        State::Evicted => "EVICTED",
    }
}

fn stamp(text: &[u8]) -> Result<Stamp, Failure> {
    let stamp = str::from_utf8(text).ok().and_then(|text| text.parse::<Stamp>().ok());
    // A replica stamps nothing, so nothing bears its origin.
    stamp.filter(|stamp| stamp.origin.incarnation() != Incarnation::UNBORN).ok_or(Failure::text("ERR invalid stamp"))
}

fn state(args: Args<'_>) -> Result<State<'_>, Failure> {
    let is = |index: usize, word: &str| args.get(index).is_some_and(|text| words::is(text, word));
    match args.len() {
        1 if is(0, "tombstone") => Ok(State::Tombstone),
        1 if is(0, "evicted") => Ok(State::Evicted),
        2 if is(0, "value") => Ok(State::Value { bytes: args.get(1).unwrap_or_default(), expiry: None }),
        4 if is(0, "value") && is(2, "pxat") => {
            let ms = args.get(3).and_then(number::parse_i64).and_then(|ms| u64::try_from(ms).ok());
            let expiry = Expiry::at_unix_ms(ms.ok_or(Failure::NOT_AN_INTEGER)?);
            Ok(State::Value { bytes: args.get(1).unwrap_or_default(), expiry: Some(expiry) })
        }
        _ => Err(Failure::SYNTAX),
    }
}
