//! What differs is called by its name, whatever regions hold; and what is on its way is let arrive.

use std::collections::BTreeMap;

use clock::{Incarnation, Origin, RegionId, Stamp, Time};
use node_core::{
    slot::Slot,
    store::{Expiry, Kind, Outcome, Seen, Version, merge},
};
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::{Difference, Pending, Row, SlotRows, What, compare};

const AT_MS: u64 = 1_000;

fn origin(region: u8) -> Origin {
    Origin::new(RegionId::new(region).unwrap(), Incarnation::FIRST)
}

fn stamp(time: u64, region: u8) -> Stamp {
    Stamp { time: Time::from_ntp64(time), origin: origin(region) }
}

fn row(kind: Kind, time: u64, by: u8) -> Row {
    Row { version: Version { stamp: stamp(time, by), kind }, expiry: None, content: time }
}

fn value(time: u64, by: u8) -> Row {
    row(Kind::Value, time, by)
}

/// A region that has seen both origins up to a time, and holds this of one key.
fn region(row: impl Into<Option<Row>>, floor: u64, seen: u64) -> SlotRows {
    let rows = row.into().map(|row| (b"key".to_vec(), row)).into_iter().collect();
    let seen = [1, 2].map(|region| (origin(region), Time::from_ntp64(seen))).into_iter().collect();
    SlotRows { rows, floor: stamp(floor, 1), seen }
}

fn differences(regions: &[SlotRows]) -> Vec<Difference> {
    compare(Slot::of(b"key"), regions, AT_MS)
}

/// What is found between two regions, and in which.
fn found(one: SlotRows, other: SlotRows) -> Vec<(usize, What)> {
    differences(&[one, other]).into_iter().map(|found| (found.region, found.what)).collect()
}

#[test]
fn each_difference_has_its_name() {
    let there = |row| region(row, 0, 99);
    for (one, other, what) in [
        (there(value(7, 1)), there(value(5, 1)), What::Older),
        (there(row(Kind::Tombstone, 7, 1)), there(value(5, 2)), What::Older),
        (there(row(Kind::Evicted, 7, 1)), there(value(5, 2)), What::Older),
        (there(value(7, 1)), region(None, 6, 99), What::Missing),
        (there(value(7, 1)), there(row(Kind::Tombstone, 5, 1)), What::Missing),
        (there(value(7, 1)), there(row(Kind::Evicted, 5, 1)), What::Missing),
        (there(value(7, 1)), there(row(Kind::Evicted, 7, 1)), What::Dropped),
        (there(value(7, 1)), region(None, 7, 99), What::Forgotten),
        // Region 1 has not seen what region 2 wrote at 5.
        (region(value(7, 1), 0, 4), there(value(5, 2)), What::Conflict),
        (there(value(7, 1)), there(Row { content: 8, ..value(7, 1) }), What::Torn),
        (there(value(7, 1)), there(Row { expiry: Some(Expiry::at_unix_ms(AT_MS)), ..value(7, 1) }), What::Torn),
    ] {
        assert_eq!(found(one.clone(), other.clone()), [(1, what)]);
        let back = found(other, one);
        assert!(back == [(0, what)] || what == What::Torn && back == [(1, what)], "{back:?}");
    }
}

#[test]
fn what_nobody_can_read_is_no_difference() {
    let (ended, lasting) = (Some(Expiry::at_unix_ms(AT_MS - 1)), region(None, 0, 99));
    for one in [row(Kind::Tombstone, 7, 1), row(Kind::Evicted, 7, 1), Row { expiry: ended, ..value(7, 1) }] {
        assert_eq!(found(region(one, 0, 99), lasting.clone()), []);
        assert_eq!(found(region(one, 0, 99), region(row(Kind::Tombstone, 5, 1), 0, 99)), []);
        assert_eq!(found(region(one, 0, 99), region(one, 0, 99)), []);
        // But what it was written over is shown elsewhere still.
        assert_eq!(found(region(one, 0, 99), region(value(5, 1), 0, 99)), [(1, What::Older)]);
    }
}

#[test]
fn of_three_regions_each_is_held_against_the_newest() {
    let regions = [region(value(5, 1), 0, 99), region(value(7, 2), 0, 99), region(None, 0, 99)];
    let found: Vec<_> = differences(&regions).into_iter().map(|found| (found.region, found.what)).collect();
    assert_eq!(found, [(0, What::Older), (2, What::Missing)]);
    assert!(differences(&regions).iter().all(|found| found.newest_at == 1 && found.newest.stamp == stamp(7, 2)));
}

#[test]
fn what_is_on_its_way_is_waited_for_and_what_was_seen_past_is_not() {
    let mut pending = Pending::new(Slot::of(b"key"), &[region(value(7, 1), 0, 9), region(None, 0, 6)], AT_MS);
    assert_eq!(pending.judge(&[region(value(7, 1), 0, 9), region(None, 0, 6)], AT_MS), []);
    assert!(!pending.is_done());
    let mut arrived = pending.clone();
    assert_eq!(arrived.judge(&[region(value(7, 1), 0, 9), region(value(7, 1), 0, 7)], AT_MS), []);
    assert!(arrived.is_done());
    let settled = pending.judge(&[region(value(7, 1), 0, 9), region(None, 0, 7)], AT_MS);
    assert_eq!((settled.len(), settled[0].what, settled[0].on_its_way), (1, What::Missing, false));
    assert!(pending.is_done());
}

#[test]
fn a_key_that_is_written_all_the_time_agrees_as_of_the_first_look() {
    let mut pending = Pending::new(Slot::of(b"key"), &[region(value(7, 1), 0, 9), region(value(5, 1), 0, 6)], AT_MS);
    assert_eq!(pending.judge(&[region(value(90, 1), 0, 90), region(value(80, 1), 0, 85)], AT_MS), []);
    assert!(pending.is_done(), "it has what was to come, though there is more to come");
}

#[test]
fn patience_that_ends_leaves_what_it_waited_for() {
    let regions = [region(value(7, 1), 0, 9), region(None, 0, 6)];
    let mut pending = Pending::new(Slot::of(b"key"), &regions, AT_MS);
    assert_eq!(pending.judge(&regions, AT_MS), []);
    let left = pending.into_unsettled();
    assert!(left.len() == 1 && left[0].on_its_way);
}

fn rows() -> impl Strategy<Value = Option<Row>> {
    // Whether a stamp made a value or a tombstone is a function of the stamp, and so are its content and its end.
    let row = (0..12_u64, 1..3_u8, any::<bool>()).prop_map(|(time, by, dropped)| {
        let written = if time % 3 == 0 { Kind::Tombstone } else { Kind::Value };
        let kind = if dropped { Kind::Evicted } else { written };
        let expiry = (kind == Kind::Value && time % 4 == 0).then(|| Expiry::at_unix_ms(AT_MS - 1 + time % 2));
        Row { expiry, ..row(kind, time, by) }
    });
    proptest::option::of(row)
}

proptest! {
    #[test]
    fn to_merge_the_newest_leaves_nothing_but_what_was_forgotten(
        regions in proptest::collection::vec((proptest::collection::vec(rows(), 4), 0..12_u64), 2..4),
    ) {
        let mut regions: Vec<_> = regions
            .into_iter()
            .map(|(rows, floor)| {
                let named = rows.into_iter().enumerate().filter_map(|(key, row)| Some((vec![key as u8], row?)));
                SlotRows { rows: named.collect::<BTreeMap<_, _>>(), floor: stamp(floor, 1), seen: Seen::new() }
            })
            .collect();
        let before = regions.clone();
        for found in differences(&before) {
            let newest = before[found.newest_at].rows[&found.key];
            let region = &mut regions[found.region];
            let outcome = merge(found.held, region.floor, newest.version);
            prop_assert_eq!(outcome == Outcome::Applied, found.what.is_mendable());
            if outcome == Outcome::Applied {
                region.rows.insert(found.key, newest);
            }
        }
        let left = differences(&regions);
        prop_assert!(left.iter().all(|found| found.what == What::Forgotten), "{:?}", left);
    }
}
