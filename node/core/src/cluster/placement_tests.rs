//! Who gets which slots: the laws, at random weights and counts, and the number of runs.

use std::collections::BTreeMap;

use proptest::prelude::{Just, ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{Placement, Share, place, share_max};
use crate::{
    cluster::ShardId,
    limits::WEIGHT_MAX,
    slot::{SLOTS, Slot, SlotSet},
};

/// 2 % of the slots.
const TWO_PERCENT: usize = SLOTS as usize * 2 / 100;

fn founded(shares: &[Share]) -> Placement {
    place(shares, |_| None)
}

fn replaced(shares: &[Share], before: &Placement) -> Placement {
    place(shares, |slot| before.owner(slot))
}

fn total(shares: &[Share]) -> u64 {
    shares.iter().map(|share| u64::from(share.weight)).sum()
}

fn share_rounded_up(share: Share, shares: &[Share]) -> usize {
    (usize::from(SLOTS) * usize::from(share.weight)).div_ceil(total(shares) as usize)
}

fn moved(placement: &Placement) -> usize {
    placement.steps().iter().map(|step| step.slots.len()).sum()
}

fn rows(placement: &Placement) -> usize {
    let owners: Vec<_> = Slot::all().map(|slot| placement.owner(slot)).collect();
    owners.chunk_by(|a, b| a == b).count()
}

/// Every slot has one owner with a share, and nobody more than it may.
fn check(shares: &[Share], placement: &Placement) {
    let mut held: BTreeMap<ShardId, usize> = BTreeMap::new();
    for slot in Slot::all() {
        *held.entry(placement.owner(slot).expect("every slot has an owner")).or_default() += 1;
    }
    for share in shares {
        let (holds, most) = (held.remove(&share.shard).unwrap_or(0), share_max(share.weight, total(shares)));
        assert!(holds <= most, "{share:?} holds {holds}, may hold {most}");
    }
    assert!(held.is_empty(), "without a share: {held:?}");
}

/// Does the steps, as the map would: each of slots that are all of its owner.
fn follow(before: &Placement, plan: &Placement) {
    let mut owners: Vec<_> = Slot::all().map(|slot| before.owner(slot)).collect();
    for step in plan.steps() {
        assert!(!step.slots.is_empty() && step.from != step.to);
        for slot in step.slots.iter() {
            let owner = owners[usize::from(slot.number())].replace(step.to);
            assert_eq!(owner, Some(step.from), "slot {slot}");
        }
    }
    let wanted: Vec<_> = Slot::all().map(|slot| plan.owner(slot)).collect();
    assert_eq!(owners, wanted);
}

fn any_shares() -> impl Strategy<Value = Vec<Share>> {
    let alike = proptest::collection::vec(Just(100_u16), 1..=200);
    let sane = proptest::collection::vec(prop_oneof![Just(50_u16), Just(100), Just(150), Just(400)], 1..=200);
    let wild = proptest::collection::vec(1..=WEIGHT_MAX, 1..=200);
    let extreme = proptest::collection::vec(prop_oneof![Just(1_u16), Just(WEIGHT_MAX)], 1..=200);
    prop_oneof![alike, sane, wild, extreme].prop_map(|weights| {
        // Numbers with gaps: shards have left.
        let share = |(index, weight)| Share { shard: ShardId(index as u16 * 3), weight };
        weights.into_iter().enumerate().map(share).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_founding_gives_each_shard_one_run_within_its_bound(shares in any_shares()) {
        let placement = founded(&shares);
        check(&shares, &placement);
        prop_assert!(placement.steps().is_empty(), "nobody owned anything");
        for share in &shares {
            let slots = placement.slots(share.shard);
            prop_assert!(slots.ranges().len() <= 1);
            let exact = share_rounded_up(*share, &shares);
            prop_assert!((exact - 1..=exact).contains(&slots.len()));
        }
    }

    #[test]
    fn a_join_moves_the_share_of_who_joins(shares in any_shares(), weight in 1..=400_u16) {
        let before = founded(&shares);
        let joiner = Share { shard: ShardId(1_000), weight };
        let shares = [shares, vec![joiner]].concat();
        let after = replaced(&shares, &before);
        check(&shares, &after);
        follow(&before, &after);
        prop_assert!(moved(&after) <= share_rounded_up(joiner, &shares) + TWO_PERCENT);
        // Nothing moves between those who were there, but for a slot here and there that changes of rounding cause.
        let others = after.steps().iter().filter(|step| step.to != joiner.shard).map(|step| step.slots.len()).sum::<usize>();
        prop_assert!(others < shares.len());
    }

    #[test]
    fn a_leave_moves_the_share_of_who_leaves(shares in any_shares(), which in 0..200_usize) {
        let before = founded(&shares);
        let which = which % shares.len();
        let rest = [&shares[..which], &shares[which + 1..]].concat();
        let after = replaced(&rest, &before);
        follow(&before, &after);
        if rest.is_empty() {
            prop_assert_eq!(moved(&after), 0, "the last one stays");
        } else {
            check(&rest, &after);
            prop_assert!(moved(&after) <= share_rounded_up(shares[which], &shares) + TWO_PERCENT);
        }
    }

    #[test]
    fn another_weight_moves_what_shares_differ_by(shares in any_shares(), which in 0..200_usize, weight in 1..=WEIGHT_MAX) {
        let before = founded(&shares);
        let mut after_shares = shares.clone();
        after_shares[which % shares.len()].weight = weight;
        let after = replaced(&after_shares, &before);
        check(&after_shares, &after);
        follow(&before, &after);
        let lost = |(old, new): (&Share, &Share)| {
            share_rounded_up(*old, &shares).saturating_sub(share_rounded_up(*new, &after_shares))
        };
        let differ: usize = shares.iter().zip(&after_shares).map(lost).sum();
        prop_assert!(moved(&after) <= differ + shares.len());
    }

    #[test]
    fn what_is_balanced_stays_as_it_is(shares in any_shares(), seed in 0..1_000_u64) {
        let before = founded(&shares);
        let again = replaced(&shares, &before);
        prop_assert!(again.steps().is_empty());
        // Nor does it matter which slots they are.
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut owners: Vec<_> = Slot::all().map(|slot| before.owner(slot)).collect();
        for place in 0..owners.len() {
            owners.swap(place, random.random_range(place..usize::from(SLOTS)));
        }
        let scattered = place(&shares, |slot| owners[usize::from(slot.number())]);
        prop_assert!(scattered.steps().is_empty());
    }

    #[test]
    fn the_same_comes_of_the_same_in_any_order(shares in any_shares()) {
        let before = founded(&shares[..shares.len().div_ceil(2)]);
        let backwards: Vec<_> = shares.iter().rev().copied().collect();
        prop_assert_eq!(replaced(&shares, &before), replaced(&backwards, &before));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_layout_comes_within_bounds_at_the_least_cost(shares in any_shares(), run in 1..=300_usize, seed in 0..1_000_u64) {
        // Runs of any owner, nobody, or one that has left.
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut owners = Vec::new();
        while owners.len() < usize::from(SLOTS) {
            let owner = match random.random_range(0..shares.len() + 2) {
                0 => None,
                1 => Some(ShardId(5_000)),
                index => Some(shares[index - 2].shard),
            };
            owners.extend(std::iter::repeat_n(owner, random.random_range(1..=run)));
        }
        let current = |slot: Slot| owners[usize::from(slot.number())];
        let after = place(&shares, current);
        check(&shares, &after);
        // Who gives ends at its quota or above, who gets ends at its quota or below.
        for share in &shares {
            let before: SlotSet = Slot::all().filter(|slot| current(*slot) == Some(share.shard)).collect();
            let now = after.slots(share.shard);
            let kept = before.iter().filter(|slot| now.contains(*slot)).count();
            prop_assert_eq!(kept, before.len().min(now.len()));
        }
    }
}

#[test]
fn within_two_percent_nothing_moves_and_beyond_it_all_is_put_right() {
    let shares: Vec<_> = (0..4).map(|shard| Share { shard: ShardId(shard), weight: 100 }).collect();
    let skewed = |excess: u16| {
        place(&shares, move |slot| {
            let bounds = [4_096 + excess, 8_192, 12_288, 16_384];
            bounds.iter().position(|end| slot.number() < *end).map(|shard| ShardId(shard as u16))
        })
    };
    assert_eq!(moved(&skewed(81)), 0, "2 % of 4,096 are 81.92");
    let put_right = skewed(82);
    assert_eq!(moved(&put_right), 82);
    assert_eq!(put_right.slots(ShardId(0)).to_string(), "0-4095");
}

#[test]
fn shares_under_a_slot_are_rounded_and_no_more() {
    // 0.8 slots each for 200: 2 % beyond that is still no slot. They get one or none, as far as the slots go.
    let small = (2..=201).map(|shard| Share { shard: ShardId(shard), weight: 1 });
    let large = (0..2).map(|shard| Share { shard: ShardId(shard), weight: WEIGHT_MAX });
    let shares: Vec<_> = large.chain(small).collect();
    assert_eq!(share_max(1, total(&shares)), 1);
    let placement = founded(&shares);
    check(&shares, &placement);
    let held: usize = shares[2..].iter().map(|share| placement.slots(share.shard).len()).sum();
    assert!((161..=163).contains(&held), "{held}");
}

#[test]
fn a_join_and_a_leave_in_a_skewed_layout_keep_their_bound() {
    // The worst that counts as settled: half of the shards 2 % above, half below.
    let mut shares: Vec<_> = (0..10).map(|shard| Share { shard: ShardId(shard), weight: 100 }).collect();
    let (small, large) = (1_607, 1_670);
    let bounds: Vec<_> = (1..=10).map(|end| end / 2 * (small + large) + end % 2 * small).collect();
    let skewed =
        |slot: Slot| bounds.iter().position(|end| slot.number() < *end).map_or(ShardId(9), |at| ShardId(at as u16));
    let before = place(&shares, |slot| Some(skewed(slot)));
    assert!(before.steps().is_empty());
    let after = replaced(&shares[1..], &before);
    assert!(moved(&after) <= 1_639 + TWO_PERCENT);
    shares.push(Share { shard: ShardId(10), weight: 100 });
    let after = replaced(&shares, &before);
    check(&shares, &after);
    assert!(moved(&after) <= 1_490 + TWO_PERCENT);
}

#[test]
fn a_shard_that_joins_three_others_is_two_runs_and_leaves_no_trace() {
    let shares: Vec<_> = (0..4).map(|shard| Share { shard: ShardId(shard), weight: 100 }).collect();
    let three = founded(&shares[..3]);
    assert_eq!(three.slots(ShardId(0)).to_string(), "0-5461");
    let four = replaced(&shares, &three);
    assert_eq!((rows(&four), moved(&four)), (5, 4_096));
    assert_eq!(four.slots(ShardId(3)).ranges().len(), 2);
    let again = replaced(&shares[..3], &four);
    assert_eq!((rows(&again), moved(&again)), (3, 4_096));
}

#[test]
fn without_shares_all_stays() {
    let placement = place(&[], |slot| (slot.number() < 10).then_some(ShardId(1)));
    assert!(placement.steps().is_empty());
    assert_eq!(placement.slots(ShardId(1)).len(), 10);
    let emptied =
        place(&[Share { shard: ShardId(1), weight: 0 }, Share { shard: ShardId(2), weight: 1 }], |_| Some(ShardId(1)));
    assert_eq!(emptied.slots(ShardId(2)), SlotSet::all());
}

#[test]
fn the_runs_stay_few() {
    let share = |shard| Share { shard: ShardId(shard), weight: 100 };
    for (shards, most) in [(3_u16, [3, 6, 6, 12]), (10, [10, 20, 40, 80]), (100, [100, 300, 4_000, 6_000])] {
        let mut shares: Vec<_> = (0..shards).map(share).collect();
        let founding = founded(&shares);
        let at_once = replaced(&shares, &founded(&shares[..shares.len() / 2]));
        let mut by_one = founded(&shares[..1]);
        for count in 2..=shares.len() {
            by_one = replaced(&shares[..count], &by_one);
        }
        let mut churned = founding.clone();
        let mut random = Pcg64Mcg::seed_from_u64(u64::from(shards));
        for round in 0..100 {
            shares.remove(random.random_range(0..shares.len()));
            churned = replaced(&shares, &churned);
            shares.push(share(shards + round));
            churned = replaced(&shares, &churned);
        }
        let rows = [&founding, &at_once, &by_one, &churned].map(rows);
        println!(
            "{shards} shards: {rows:?} rows founded, doubled at once, grown one by one, after 100 leaves and joins"
        );
        assert!(rows.iter().zip(most).all(|(rows, most)| *rows <= most));
    }
}
