//! The record: the unit of replication, and the rule that decides between two of them.
//!
//! A record is a *state*, never an operation: it says what a key is as of a stamp. INCR becomes the new value,
//! EXPIRE the value with its new expiry, DEL a tombstone. So a record may be applied twice, late or in any order,
//! and the outcome is the same: [`merge`] keeps the greater, and the greater of a set does not depend on how one
//! walks through it. Local writes, replica traffic, other regions, slot moves and repair all pass through that one
//! function, and nothing but the stamp is consulted.
//!
//! There are three states. A *value* is what a client sees. A *tombstone* is a delete: it must outlive the older
//! values that are still on their way. An *evicted* marker stands where this region dropped a value for its own
//! reasons (memory, expiry): it carries the value's own stamp and loses to that value, so evicting here deletes
//! nothing elsewhere, but it still beats everything older.
//!
//! Where a key is absent there is no stamp to compare with, and that is where other systems let deleted values
//! come back. Here the slot's *floor*, the greatest stamp that was ever forgotten in the slot, takes its place:
//! a record at or under it might be what was deleted and forgotten, so it is refused. When in doubt, miss.

use clock::Stamp;

/// When a value ends, in milliseconds since the Unix epoch.
///
/// An absolute wall time and part of the record: each region ends the value by its own clock, with nothing sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry(u64);

impl Expiry {
    /// The end at `ms` milliseconds since the Unix epoch.
    pub const fn at_unix_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_ms(self) -> u64 {
        self.0
    }

    /// Whether the value has ended at `now_ms`. In its very millisecond it is still there, as in Redis.
    pub const fn has_passed(self, now_ms: u64) -> bool {
        self.0 < now_ms
    }

    /// Whether a client that sets this end at `now_ms` means a delete; in that very millisecond it does, as in Redis.
    pub const fn is_in_the_past(self, now_ms: u64) -> bool {
        self.0 <= now_ms
    }
}

/// What a record says of its key, without the bytes.
///
/// The order is that of merge at equal stamps: a value beats an evicted marker. A tombstone and a value never
/// share a stamp, since one write made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Dropped by this region for memory or because it expired.
    Evicted,
    /// Deleted by a client.
    Tombstone,
    /// Present.
    Value,
}

/// What a record says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State<'a> {
    /// The key holds these bytes until the expiry.
    Value {
        /// The value.
        bytes: &'a [u8],
        /// When it ends, if it does.
        expiry: Option<Expiry>,
    },
    /// The key was deleted.
    Tombstone,
    /// The key's value was dropped where the record comes from.
    Evicted,
}

impl State<'_> {
    /// The kind of state this is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Value { .. } => Kind::Value,
            Self::Tombstone => Kind::Tombstone,
            Self::Evicted => Kind::Evicted,
        }
    }
}

/// What a key is, as of a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The version.
    pub stamp: Stamp,
    /// The state.
    pub state: State<'a>,
}

/// The part of a record that merge looks at.
///
/// The derived order is the whole of conflict resolution: the greater stamp wins; at equal stamps a value beats an
/// evicted marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Who and when.
    pub stamp: Stamp,
    /// What.
    pub kind: Kind,
}

impl Record<'_> {
    /// What merge compares.
    pub const fn version(&self) -> Version {
        Version { stamp: self.stamp, kind: self.state.kind() }
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It won and is now what the slot holds.
    Applied,
    /// What the slot holds is at least as new.
    Stale,
    /// The key is absent and the record lies at or under the floor: it may be what was forgotten.
    Refused,
}

/// Decides whether `incoming` replaces what a slot holds of its key.
///
/// Commutative, associative and idempotent over any set of records and a floor that stays the same, since what
/// remains is the greatest version above the floor.
pub fn merge(held: Option<Version>, floor: Stamp, incoming: Version) -> Outcome {
    match held {
        Some(held) if incoming > held => Outcome::Applied,
        Some(_) => Outcome::Stale,
        None if incoming.stamp > floor => Outcome::Applied,
        None => Outcome::Refused,
    }
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Stamp, Time};
    use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};

    use super::{Kind, Outcome, Version, merge};

    fn stamps() -> impl Strategy<Value = Stamp> {
        (0..4_u64, 1..4_u8).prop_map(|(time, region)| Stamp {
            time: Time::from_ntp64(time),
            origin: Origin::new(RegionId::new(region).unwrap(), Incarnation::FIRST),
        })
    }

    /// Versions as they occur: whether a stamp made a value or a tombstone is a function of the stamp.
    fn versions() -> impl Strategy<Value = Version> {
        (stamps(), any::<bool>()).prop_map(|(stamp, evicted)| {
            let written = if stamp.time.ntp64() % 2 == 0 { Kind::Value } else { Kind::Tombstone };
            Version { stamp, kind: if evicted { Kind::Evicted } else { written } }
        })
    }

    fn apply(held: Option<Version>, floor: Stamp, incoming: Version) -> Option<Version> {
        if merge(held, floor, incoming) == Outcome::Applied { Some(incoming) } else { held }
    }

    fn apply_all<'a>(floor: Stamp, versions: impl IntoIterator<Item = &'a Version>) -> Option<Version> {
        versions.into_iter().fold(None, |held, version| apply(held, floor, *version))
    }

    proptest! {
        #[test]
        fn order_of_arrival_does_not_matter(
            floor in stamps(),
            versions in proptest::collection::vec(versions(), 0..8),
            keys in proptest::collection::vec(any::<u32>(), 8),
        ) {
            let mut shuffled: Vec<_> = versions.iter().zip(keys).collect();
            shuffled.sort_by_key(|(_, key)| *key);
            let shuffled = shuffled.into_iter().map(|(version, _)| version);
            prop_assert_eq!(apply_all(floor, &versions), apply_all(floor, shuffled));
        }

        #[test]
        fn applying_twice_changes_nothing(floor in stamps(), first in versions(), second in versions()) {
            let once = apply_all(floor, [&first, &second]);
            prop_assert_eq!(once, apply_all(floor, [&first, &second, &first, &second]));
        }

        #[test]
        fn grouping_does_not_matter(floor in stamps(), a in versions(), b in versions(), c in versions()) {
            let left = apply_all(floor, [&a, &b]);
            let right = apply_all(floor, [&b, &c]);
            let left_then_c = apply(left, floor, c);
            let a_then_right = match right {
                Some(right) => apply(apply(None, floor, a), floor, right),
                None => apply(None, floor, a),
            };
            prop_assert_eq!(left_then_c, a_then_right);
        }

        #[test]
        fn nothing_under_the_floor_is_applied_to_an_absent_key(
            floor in stamps(), version in prop_oneof![versions()],
        ) {
            let outcome = merge(None, floor, version);
            prop_assert_eq!(outcome == Outcome::Refused, version.stamp <= floor);
        }
    }

    #[test]
    fn at_equal_stamps_a_value_beats_an_evicted_marker_and_nothing_else_changes() {
        let stamp = Stamp { time: Time::from_ntp64(2), ..Stamp::ZERO };
        let value = Version { stamp, kind: Kind::Value };
        let marker = Version { stamp, kind: Kind::Evicted };
        assert_eq!(merge(Some(marker), Stamp::ZERO, value), Outcome::Applied);
        assert_eq!(merge(Some(value), Stamp::ZERO, marker), Outcome::Stale);
        assert_eq!(merge(Some(value), Stamp::ZERO, value), Outcome::Stale);
    }
}
