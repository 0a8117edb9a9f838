//! Entitlement: a stamp in our own name that we never issued is nobody's to send.
//!
//! A link may bring records of any origin. It also brings our own: what a former life of this node, or another primary of the region,
//! had shipped comes home that way, and so does what we have forgotten. So records cannot be judged by their origin alone. But
//! of one origin we know everything: our own present one. Whatever it has stamped was stamped here, by the clock of the stripe
//! that holds the slot, and that clock never goes back. A record of it above that clock was made up, or stamped by another
//! process that took our name. Taken in, it would win against whatever is written elsewhere until that time.
//!
//! # What is exact
//! Nothing honest is refused: a stamp is issued under the stripe's lock before anybody can send it, and a flush, which is
//! stamped for all stripes at once, moves the clocks of all. What is made up *under* the clock passes: the clock also
//! moves with watermarks, and nobody keeps a list of the stamps in between.
//!
//! # What is not looked at
//! Other origins of our region: a former life may have gone on stamping for a while beside its successor, and the other
//! primaries stamp with clocks of their own. What they wrote has to come home, so for them, as for all other regions,
//! the hold of [`Receiver`](crate::Receiver) is the only bound: nothing lies further ahead than `max_drift`, whoever stamped it
//! and whoever relays it.
//!
//! # What a slot's end says of `seen`
//! What was seen is never sent to us again, so who says too much keeps something from us for good. Of our own present origin nobody has seen
//! more than was issued. Beyond `max_drift` nobody has seen anything: such a time makes its batch wait, as a stamp does. Of a region that we
//! do not know nothing is taken in, honest as it may be, since a peer can hear before us of one that is added: when we do, we ask for
//! all of it; but for what lies under the floor of a slot that is sent whole, which is taken in as well. That is gone, be it for a
//! flush of that region, and who follows us can only tell that it lacks this by what we have seen. The rest is believed. A peer that
//! has certificates may keep from us what it was to relay; it cannot be made to.

use clock::{Origin, RegionId, Stamp, Time};
use node_core::{slot::Slot, store::FeedItem};

use crate::frame::Malformed;

/// Looks, before it is applied, at an item from another region for stamps in the name of `own`, the present origin of the
/// node that applies it. `issued` is asked for the latest time that was stamped there in a slot; seldom, so it may lock.
///
/// # Errors
/// [`Malformed::NeverIssued`] or [`Malformed::NeverReached`]; the connection is to be closed.
pub fn check_own(own: Origin, item: &FeedItem<'_>, issued: impl FnOnce(Slot) -> Time) -> Result<(), Malformed> {
    let (slot, stamp, seen) = match item {
        FeedItem::Record { slot, record } => (*slot, Some(record.stamp), Time::ZERO),
        // A floor is the stamp of something that was forgotten.
        FeedItem::SlotEnd { slot, floor, seen } => (*slot, *floor, seen.at(own)),
        // Of our flushes, watermarks and claims nobody else speaks at all: `Receiver::check`.
        _ => return Ok(()),
    };
    let stamp = stamp.filter(|stamp| stamp.origin == own);
    if stamp.is_none() && seen == Time::ZERO {
        return Ok(());
    }
    let issued = issued(slot);
    match stamp {
        Some(stamp) if stamp.time > issued => Err(Malformed::NeverIssued(stamp)),
        _ if seen > issued => Err(Malformed::NeverReached(Stamp { time: seen, origin: own })),
        _ => Ok(()),
    }
}

/// The item without what a slot's end says of regions that are not known, beyond the floor that it says.
pub(crate) fn of_known_regions<'a>(item: FeedItem<'a>, knows: impl Fn(RegionId) -> bool) -> FeedItem<'a> {
    match item {
        FeedItem::SlotEnd { slot, floor, seen } => {
            let known = |(origin, time): (Origin, Time)| {
                let time = if knows(origin.region()) { time } else { time.min(floor?.time) };
                Some((origin, time))
            };
            FeedItem::SlotEnd { slot, floor, seen: seen.iter().filter_map(known).collect() }
        }
        item => item,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::{Incarnation, Origin, RegionId, Stamp, Time};
    use node_core::{
        slot::Slot,
        store::{FeedItem, Record, Seen, State},
    };

    use super::{check_own, of_known_regions};
    use crate::frame::Malformed;

    const ISSUED: Time = Time::from_unix_ms(1_800_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn origin(region: u8, life: u16) -> Origin {
        Origin::new(RegionId::new(region).unwrap(), Incarnation::new(life))
    }

    fn check(item: &FeedItem<'_>) -> Result<(), Malformed> {
        check_own(origin(1, 4), item, |_| ISSUED)
    }

    fn record(stamp: Stamp) -> FeedItem<'static> {
        FeedItem::Record { slot: Slot::of(b"key"), record: Record { key: b"key", stamp, state: State::Tombstone } }
    }

    fn end(floor: Option<Stamp>) -> FeedItem<'static> {
        FeedItem::SlotEnd { slot: Slot::of(b"key"), floor, seen: Seen::new() }
    }

    #[test]
    fn what_we_issued_comes_home_and_what_we_did_not_is_refused() {
        let own = |time| Stamp { time, origin: origin(1, 4) };
        for good in [record(own(ISSUED)), end(Some(own(ISSUED))), end(None)] {
            assert_eq!(check(&good), Ok(()));
        }
        let forged = own(ISSUED.next());
        for bad in [record(forged), end(Some(forged))] {
            assert_eq!(check(&bad), Err(Malformed::NeverIssued(forged)));
        }
    }

    #[test]
    fn nobody_has_seen_more_of_us_than_was_issued() {
        let end = |floor, time| {
            let seen = [(origin(1, 4), time), (origin(2, 0), ISSUED.next())].into_iter().collect();
            FeedItem::SlotEnd { slot: Slot::of(b"key"), floor, seen }
        };
        let stranger = Stamp { time: ISSUED.next(), origin: origin(2, 0) };
        for floor in [None, Some(stranger)] {
            assert_eq!(check(&end(floor, ISSUED)), Ok(()));
            let reached = Stamp { time: ISSUED.next(), origin: origin(1, 4) };
            assert_eq!(check(&end(floor, ISSUED.next())), Err(Malformed::NeverReached(reached)));
        }
    }

    #[test]
    fn of_regions_that_are_not_known_nothing_is_seen_beyond_the_floor() {
        let (one, other) = (origin(1, 4), origin(2, 0));
        let seen: Seen = [(one, ISSUED), (other, ISSUED)].into_iter().collect();
        for (under, expected) in [
            (None, None),
            (Some(ISSUED.before(SECOND)), Some(ISSUED.before(SECOND))),
            (Some(ISSUED.after(SECOND)), Some(ISSUED)),
        ] {
            let floor = under.map(|time| Stamp { time, origin: other });
            let item = FeedItem::SlotEnd { slot: Slot::of(b"key"), floor, seen: seen.clone() };
            let kept = of_known_regions(item, |region| region == other.region());
            let expected = expected.map(|time| (one, time)).into_iter().chain([(other, ISSUED)]).collect();
            assert_eq!(kept, FeedItem::SlotEnd { slot: Slot::of(b"key"), floor, seen: expected });
        }
    }

    #[test]
    fn of_other_origins_we_do_not_know_what_they_issued() {
        for other in [origin(1, 3), origin(1, 5), origin(2, 4)] {
            let stamp = Stamp { time: ISSUED.next(), origin: other };
            let asked = |_| -> Time { panic!("nobody asks for {other}") };
            assert_eq!(check_own(origin(1, 4), &record(stamp), asked), Ok(()));
            assert_eq!(check(&end(Some(stamp))), Ok(()));
        }
    }
}
