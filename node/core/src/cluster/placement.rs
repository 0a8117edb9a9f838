//! Placement: which shard should own which slots, and how to get there from what is.
//!
//! # The problem
//! Shards have weights. Each should hold its share of the 16,384 slots, so exactly that no primary holds over 2 % more; a
//! join or a leave should move hardly more than the share in question; and the answer to `CLUSTER SLOTS`, which every client
//! reads when it connects and at each redirect, has a row for each run of neighbouring slots of one owner, so the runs
//! should be few.
//!
//! # The way chosen
//! This is consistent hashing with virtual nodes and a bound on the load, of which each part is where Redis put it: the hash
//! is the CRC16 of the key, *the ring is the slots themselves*, and the virtual nodes of a shard are its runs of neighbouring
//! slots. What is different from the textbook is where on the ring a virtual node lies: not where a hash throws it, but
//! where the bound asks for it.
//! 1. Each shard gets a *quota*: its share, rounded down or up (`quotas`). Who has more of what would be moved gets the
//!    round-up, so rounding moves nothing that can stay.
//! 2. Only what a shard holds beyond its quota moves, or all that a shard held which is no more. No scheme that ends in
//!    these quotas moves less.
//! 3. It moves in pieces that leave as few runs as possible (`Layout::next_piece`): next to a run of the taker before anywhere
//!    else, whole runs before parts, parts from an end.
//!
//! At the founding nobody holds anything, and the same rules give each shard one run, in the order of their numbers: what
//! `redis-cli --cluster create` does as well, and what operators expect to read.
//!
//! # The ways rejected
//! *Hashed virtual nodes.* The load of a shard with `v` of them strays from its share by about one part in √v, so 2 % takes
//! some 2,500 for each shard: more than there are slots. *Runs of 64 slots hashed onto a ring*, put right at the end, give
//! some 170 rows for 3 shards and over 250 for 100, for the one advantage that the layout follows from the shards alone. But
//! the region has one truth about its layout already, the map; nobody needs to compute it from nothing.
//!
//! Rows in `CLUSTER SLOTS` (a test prints them), shards of one weight:
//!
//! | shards | founded | half of them, then the rest at once | grown one by one | founded, then 100 leaves and joins |
//! |---|---|---|---|---|
//! | 3 | 3 | 3 | 3 | 4 |
//! | 10 | 10 | 10 | 30 | 49 |
//! | 100 | 100 | 100 | 3,052 | 799 |
//!
//! The third figure of the last row is the price of moving the least: every shard gives to each that joins, and two
//! neighbours make one run of it. Who grows to a hundred had better add many at a time.
//!
//! # What it promises
//! - No shard is given more than [`share_max`]: its share and 2 % of it, or its share rounded up if that is more. (A share
//!   under 50 slots may have to: of 16,384 slots, three shards of one weight cannot all have 5,461⅓, nor can a share of half
//!   a slot be held to 2 %.)
//! - Nothing moves while each shard holds what lies within 2 % of its share, more or less, rounded outwards. It would cost a
//!   transfer and gain nobody anything.
//! - A join or leave moves at most the share of that shard and 2 % of the slots: no more than its share if the layout was
//!   exact, and at most half of the 2 % (what is above a share somewhere is below another elsewhere) if it was only within
//!   the bounds.
//!
//! Left out: the load of a slot (all count alike), racks and zones, and joining runs that earlier changes left scattered,
//! since that moves slots for the sake of rows alone.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map},
};

use super::id::ShardId;
use crate::{
    limits::PLACEMENT_EXCESS_PERCENT,
    slot::{SLOTS, Slot, SlotSet},
};

/// A shard that is to hold slots, and how many in proportion to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The shard; named once.
    pub shard: ShardId,
    /// In percent of a shard of ordinary size. Zero empties it.
    pub weight: u16,
}

/// Who should own each slot, beside who does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    current: Vec<Option<ShardId>>,
    wanted: Vec<Option<ShardId>>,
}

/// Slots that should move, all of one owner and to one other: what one `Move` of the map can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub slots: SlotSet,
    /// Who owns them.
    pub from: ShardId,
    /// Who should.
    pub to: ShardId,
}

/// Decides who should own each slot. `current` is who does, or, for a slot that is moving already, who will.
///
/// A shard that owns slots and has no share is emptied: so a leave is the shares of the others. If nobody has a share,
/// all stays as it is.
pub fn place(shares: &[Share], current: impl Fn(Slot) -> Option<ShardId>) -> Placement {
    let current: Vec<_> = Slot::all().map(current).collect();
    let shares: BTreeMap<ShardId, u16> = shares.iter().map(|share| (share.shard, share.weight)).collect();
    let held = count(&current);
    if is_settled(&shares, &current, &held) {
        return Placement { wanted: current.clone(), current };
    }
    let mut layout = Layout::new(current.clone(), &held, &quotas(&shares, &held));
    while let Some(piece) = layout.next_piece() {
        layout.give(&piece);
    }
    Placement { current, wanted: layout.owners }
}

/// The most slots that a shard of weight `weight` is given, where all weights together are `total`: its share and 2 % of
/// it, or its share rounded up if that is more.
pub fn share_max(weight: u16, total: u64) -> usize {
    let (ceiling, within) = (exact(weight, 100, total), exact(weight, 100 + PLACEMENT_EXCESS_PERCENT, total));
    ceiling.rounded_up().max(within.floor)
}

impl Placement {
    /// Who should own a slot; none if nobody has a share.
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        self.wanted[usize::from(slot.number())]
    }

    /// What a shard should own.
    pub fn slots(&self, shard: ShardId) -> SlotSet {
        Slot::all().filter(|slot| self.owner(*slot) == Some(shard)).collect()
    }

    /// What has to move, by owner and then by target. Slots that nobody owns are not in it: they are given, at the founding.
    pub fn steps(&self) -> Vec<Step> {
        let mut moves: BTreeMap<(ShardId, ShardId), SlotSet> = BTreeMap::new();
        for (slot, (from, to)) in Slot::all().zip(self.current.iter().zip(&self.wanted)) {
            if let (Some(from), Some(to)) = (*from, *to)
                && from != to
            {
                moves.entry((from, to)).or_default().insert(slot);
            }
        }
        moves.into_iter().map(|((from, to), slots)| Step { slots, from, to }).collect()
    }
}

/// A number of slots that need not be whole.
#[derive(Clone, Copy)]
struct Exact {
    floor: usize,
    /// What is left over, in parts that are the same for all shards.
    rest: u64,
}

impl Exact {
    fn rounded_up(self) -> usize {
        self.floor + usize::from(self.rest > 0)
    }
}

/// So many percent of the share of this weight.
fn exact(weight: u16, percent: u64, total: u64) -> Exact {
    let (parts, whole) = (u64::from(SLOTS) * u64::from(weight) * percent, (total * 100).max(1));
    Exact { floor: (parts / whole) as usize, rest: parts % whole }
}

fn total(shares: &BTreeMap<ShardId, u16>) -> u64 {
    shares.values().map(|weight| u64::from(*weight)).sum()
}

fn count(owners: &[Option<ShardId>]) -> BTreeMap<ShardId, usize> {
    let mut held = BTreeMap::new();
    owners.iter().flatten().for_each(|shard| *held.entry(*shard).or_default() += 1);
    held
}

/// Whether everything may stay as it is.
fn is_settled(shares: &BTreeMap<ShardId, u16>, owners: &[Option<ShardId>], held: &BTreeMap<ShardId, usize>) -> bool {
    let total = total(shares);
    let is_within = |(shard, weight): (&ShardId, &u16)| {
        let holds = held.get(shard).copied().unwrap_or(0);
        let least = exact(*weight, 100 - PLACEMENT_EXCESS_PERCENT, total).rounded_up();
        (least.min(exact(*weight, 100, total).floor)..=share_max(*weight, total)).contains(&holds)
    };
    let nobody_else = owners.iter().all(|owner| owner.is_some_and(|shard| shares.contains_key(&shard)));
    total == 0 || (nobody_else && shares.iter().all(is_within))
}

/// How many slots each shard is to hold: its share, rounded down or up; together all of them.
///
/// Rounded up are first those that hold so many already, then those whose share is nearest to it.
fn quotas(shares: &BTreeMap<ShardId, u16>, held: &BTreeMap<ShardId, usize>) -> BTreeMap<ShardId, usize> {
    let total = total(shares);
    let exact = |weight: &u16| exact(*weight, 100, total);
    let mut quotas: BTreeMap<_, _> = shares.iter().map(|(shard, weight)| (*shard, exact(weight).floor)).collect();
    let mut candidates: Vec<_> = shares.iter().filter(|(_, weight)| exact(weight).rest > 0).collect();
    candidates.sort_by_key(|(shard, weight)| {
        let holds = held.get(shard).copied().unwrap_or(0);
        (Reverse(holds > exact(weight).floor), Reverse(exact(weight).rest), **shard)
    });
    let left = usize::from(SLOTS) - quotas.values().sum::<usize>();
    for (shard, _) in candidates.into_iter().take(left) {
        quotas.entry(*shard).and_modify(|quota| *quota += 1);
    }
    quotas
}

/// A layout on its way to the quotas.
struct Layout {
    owners: Vec<Option<ShardId>>,
    /// How many slots an owner has yet to give; nobody's slots are all to be given.
    surplus: BTreeMap<Option<ShardId>, usize>,
    /// How many slots a shard has yet to get.
    wants: BTreeMap<ShardId, usize>,
}

/// A run of neighbouring slots of one owner, by their places.
#[derive(Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
    owner: Option<ShardId>,
}

/// Slots that go to another shard.
struct Piece {
    start: usize,
    end: usize,
    from: Option<ShardId>,
    to: ShardId,
    /// How many runs the layout gains by it.
    gain: i8,
}

impl Layout {
    fn new(owners: Vec<Option<ShardId>>, held: &BTreeMap<ShardId, usize>, quotas: &BTreeMap<ShardId, usize>) -> Self {
        let missing = |more: usize, less: usize| Some(more.saturating_sub(less)).filter(|count| *count > 0);
        let holds = |shard: &ShardId| held.get(shard).copied().unwrap_or(0);
        let quota = |shard: &ShardId| quotas.get(shard).copied().unwrap_or(0);
        let nobodys = owners.iter().filter(|owner| owner.is_none()).count();
        let gives = held.iter().filter_map(|(shard, holds)| Some((Some(*shard), missing(*holds, quota(shard))?)));
        let surplus = gives.chain(missing(nobodys, 0).map(|count| (None, count))).collect();
        let wants = quotas.iter().filter_map(|(shard, quota)| Some((*shard, missing(*quota, holds(shard))?))).collect();
        Self { owners, surplus, wants }
    }

    /// The next piece to move: of all that can, the one that adds fewest runs, then the one that lies first. None once every
    /// quota is met. Each piece uses up a run, a surplus or a want, so there are not many.
    fn next_piece(&self) -> Option<Piece> {
        let runs = self.runs();
        let first_taker = *self.wants.first_key_value()?.0;
        let pieces = runs.iter().enumerate().flat_map(|(index, run)| {
            let before = index.checked_sub(1).and_then(|index| runs[index].owner);
            let after = runs.get(index + 1).and_then(|run| run.owner);
            self.pieces(*run, before, after, first_taker)
        });
        pieces.min_by_key(|piece| piece.gain)
    }

    /// What may go of a run: to the shards beside it, or to the first that wants any.
    fn pieces(
        &self,
        run: Run,
        before: Option<ShardId>,
        after: Option<ShardId>,
        first_taker: ShardId,
    ) -> impl Iterator<Item = Piece> {
        let surplus = self.surplus.get(&run.owner).copied().unwrap_or(0).min(run.end - run.start);
        // Of nobody's slots the shards take in their order, from the start; of an owner's from the end, where the owner of
        // the next run may well have to give too, and what both give becomes one run.
        let anywhere = (first_taker, run.owner.is_none());
        let takers = [before.map(|shard| (shard, true)), after.map(|shard| (shard, false)), Some(anywhere)];
        takers.into_iter().flatten().filter_map(move |(to, at_start)| {
            let count = surplus.min(self.wants.get(&to).copied().unwrap_or(0));
            let (start, end) = if at_start { (run.start, run.start + count) } else { (run.end - count, run.end) };
            let joins = |is_end: bool, neighbour: Option<ShardId>| i8::from(is_end && neighbour == Some(to));
            let gain = i8::from(count < run.end - run.start)
                - joins(start == run.start, before)
                - joins(end == run.end, after);
            (count > 0).then_some(Piece { start, end, from: run.owner, to, gain })
        })
    }

    fn give(&mut self, piece: &Piece) {
        self.owners[piece.start..piece.end].fill(Some(piece.to));
        let count = piece.end - piece.start;
        reduce(&mut self.surplus, piece.from, count);
        reduce(&mut self.wants, piece.to, count);
    }

    fn runs(&self) -> Vec<Run> {
        let mut start = 0;
        let runs = self.owners.chunk_by(|a, b| a == b).map(|run| {
            let end = start + run.len();
            Run { start: std::mem::replace(&mut start, end), end, owner: run[0] }
        });
        runs.collect()
    }
}

/// Takes `count` off what stands at `key`; what is used up is gone.
fn reduce<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, count: usize) {
    if let btree_map::Entry::Occupied(mut left) = counts.entry(key) {
        *left.get_mut() -= count;
        if *left.get() == 0 {
            left.remove();
        }
    }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
