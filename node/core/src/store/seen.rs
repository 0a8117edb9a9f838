//! `seen`: what has arrived, per slot and per origin.
//!
//! `seen(slot, origin) = t` says: every record of that slot that `origin` stamped at or before `t`, or what replaced
//! it, has arrived here. It is the cursor of replication, and it lives with the data it describes, so whoever carries
//! records may die at any moment and the next one asks here where to go on. An origin that was never heard of is seen
//! up to zero.
//!
//! [`Seen`] is one such vector. [`SeenTable`] holds those of a stripe's slots, by origin a [column](super::column) of times: a
//! heartbeat that advances one origin in every slot costs as much as there are runs of slots that have seen equally much.

use clock::{Origin, RegionId, Time};

use super::column::Column;
use crate::slot::{Slot, SlotRange};

/// A vector of "seen up to", one time per origin, sorted by origin; an origin that is not in it is seen up to zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(Vec<(Origin, Time)>);

impl Seen {
    /// Nothing seen.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How far `origin` is seen.
    pub fn at(&self, origin: Origin) -> Time {
        match self.position(origin) {
            Ok(index) => self.0[index].1,
            Err(_) => Time::ZERO,
        }
    }

    /// Says that `origin` is seen up to `time`; it never goes back.
    pub fn advance(&mut self, origin: Origin, time: Time) {
        match self.position(origin) {
            Ok(index) => self.0[index].1 = self.0[index].1.max(time),
            Err(index) => self.0.insert(index, (origin, time)),
        }
    }

    /// Takes in all that `other` has seen.
    pub fn join(&mut self, other: &Self) {
        let mut place = 0;
        for (origin, time) in other.iter() {
            place += self.0[place..].partition_point(|(known, _)| *known < origin);
            match self.0.get_mut(place).filter(|(known, _)| *known == origin) {
                Some((_, seen)) => *seen = (*seen).max(time),
                None => self.0.insert(place, (origin, time)),
            }
        }
    }

    /// Keeps, per origin, only what both have seen.
    pub fn meet(&mut self, other: &Self) {
        for (origin, time) in &mut self.0 {
            *time = (*time).min(other.at(*origin));
        }
        self.0.retain(|(_, time)| *time > Time::ZERO);
    }

    /// The origins that were heard of and how far each is seen, in the order of origins.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Origin, Time)> {
        self.0.iter().copied()
    }

    /// Whether nothing was seen of anyone.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, time)| *time == Time::ZERO)
    }

    fn position(&self, origin: Origin) -> Result<usize, usize> {
        self.0.binary_search_by_key(&origin, |(origin, _)| *origin)
    }
}

impl FromIterator<(Origin, Time)> for Seen {
    fn from_iter<I: IntoIterator<Item = (Origin, Time)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        let (least, most) = pairs.size_hint();
        let mut seen = Self(Vec::with_capacity(most.unwrap_or(least)));
        for (origin, time) in pairs {
            // Mostly they come in order.
            match seen.0.last() {
                Some((last, _)) if *last >= origin => seen.advance(origin, time),
                _ => seen.0.push((origin, time)),
            }
        }
        seen
    }
}

/// The `seen` vectors of neighbouring slots.
#[derive(Clone, Debug)]
pub struct SeenTable {
    slots: SlotRange,
    /// In the order of origins.
    origins: Vec<(Origin, Column)>,
    /// Counts the changes.
    version: u64,
}

impl SeenTable {
    /// Nothing seen in any of `slots`.
    pub const fn new(slots: SlotRange) -> Self {
        Self { slots, origins: Vec::new(), version: 0 }
    }

    /// How far `origin` is seen in `slot`.
    pub fn at(&self, slot: Slot, origin: Origin) -> Time {
        self.times(origin).map_or(Time::ZERO, |times| times.at(self.index(slot)))
    }

    /// How far `origin` is seen, as runs of neighbouring slots that have seen equally much, from the first slot on.
    pub fn runs(&self, origin: Origin) -> impl Iterator<Item = (u16, Time)> {
        let runs = self.times(origin).into_iter().flat_map(|times| times.runs(0, self.slots.count()));
        let mut start = 0;
        runs.map(move |(end, time)| {
            // No column is longer than there are slots.
            let length = (end - std::mem::replace(&mut start, end)) as u16;
            (length, time)
        })
    }

    /// The vector of one slot.
    pub fn of(&self, slot: Slot) -> Seen {
        let index = self.index(slot);
        Seen(self.origins.iter().map(|(origin, times)| (*origin, times.at(index))).collect())
    }

    /// Takes in what was seen in one slot.
    pub fn join(&mut self, slot: Slot, seen: &Seen) {
        let index = self.index(slot);
        seen.iter().for_each(|(origin, time)| self.raise(origin, index, index + 1, time));
    }

    /// Counts the changes: while it stands, so do the minima.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// Forgets what was seen in one slot.
    pub fn clear(&mut self, slot: Slot) {
        let index = self.index(slot);
        self.version += 1;
        self.origins.iter_mut().for_each(|(_, times)| times.clear(index));
    }

    /// The latest time up to `horizon` that is claimed of anybody, anywhere.
    pub(super) fn latest_under(&self, horizon: Time) -> Time {
        self.origins.iter().map(|(_, times)| times.greatest_under(horizon)).max().unwrap_or(Time::ZERO)
    }

    /// Claims nothing beyond `limit` any more.
    pub(super) fn lower(&mut self, limit: Time) {
        self.version += 1;
        self.origins.iter_mut().for_each(|(_, times)| times.lower(limit));
    }

    /// Says that `origin` is seen up to `time` in one slot.
    pub(super) fn advance_slot(&mut self, slot: Slot, origin: Origin, time: Time) {
        let index = self.index(slot);
        self.raise(origin, index, index + 1, time);
    }

    /// Takes in what was seen in those slots of another table that are in this one.
    pub fn join_table(&mut self, other: &Self) {
        self.join_range(&other.slots, other);
    }

    /// Takes in what was seen in those of `slots` that are in another table and in this one.
    pub fn join_range(&mut self, slots: &SlotRange, other: &Self) {
        let slots = other.slots.intersection(slots).and_then(|slots| self.slots.intersection(&slots));
        let Some(slots) = slots else { return };
        let theirs = other.index(slots.first);
        let (first, end) = (self.index(slots.first), self.index(slots.last) + 1);
        for (origin, times) in &other.origins {
            let is_news = self.column(*origin).join(first, end, times, theirs);
            self.version += u64::from(is_news);
        }
    }

    /// Says that `origin` is seen up to `time` in all of `slots` that are in this table.
    pub fn advance(&mut self, slots: &SlotRange, origin: Origin, time: Time) {
        let Some(slots) = self.slots.intersection(slots) else { return };
        let (first, end) = (self.index(slots.first), self.index(slots.last) + 1);
        self.raise(origin, first, end, time);
    }

    /// As [`advance`](Self::advance), in several runs of slots.
    pub fn advance_all(&mut self, slots: &[SlotRange], origin: Origin, time: Time) {
        slots.iter().for_each(|slots| self.advance(slots, origin, time));
    }

    /// What is seen in every slot: the least of each origin.
    pub fn minima(&self) -> Seen {
        self.minima_in(&self.slots)
    }

    /// What is seen in every one of `slots` that are in this table.
    pub fn minima_in(&self, slots: &SlotRange) -> Seen {
        let Some(slots) = self.slots.intersection(slots) else { return Seen::new() };
        let (first, end) = (self.index(slots.first), self.index(slots.last) + 1);
        let least = |times: &Column| times.least(first, end).unwrap_or(Time::ZERO);
        Seen(self.origins.iter().map(|(origin, times)| (*origin, least(times))).collect())
    }

    /// How far `origin` is seen in every one of those of `slots` that are in this table; `None` if none is.
    pub fn least(&self, origin: Origin, slots: &[SlotRange]) -> Option<Time> {
        let column = self.times(origin);
        let mine = slots.iter().filter_map(|slots| self.slots.intersection(slots));
        let least = |slots: SlotRange| {
            let (first, end) = (self.index(slots.first), self.index(slots.last) + 1);
            column.and_then(|times| times.least(first, end)).unwrap_or(Time::ZERO)
        };
        mine.map(least).min()
    }

    /// How far a region is seen in every one of those of `slots` that are in this table; `None` if none is. That is how far its `speaker` is,
    /// born then, in a slot in which anything was said of it since; else the latest of those before it, or `unseen` if none of them was seen.
    pub(super) fn least_of(
        &self,
        region: RegionId,
        speaker: Option<(Origin, Time)>,
        slots: &SlotRange,
        unseen: Time,
    ) -> Option<Time> {
        let slots = self.slots.intersection(slots)?;
        let (mut start, end) = (self.index(slots.first), self.index(slots.last) + 1);
        let mut before = Column::new(self.slots.count());
        for (origin, times) in self.origins.iter().filter(|(origin, _)| origin.region() == region) {
            if speaker.is_none_or(|(speaker, _)| *origin != speaker) {
                before.join(start, end, times, start);
            }
        }
        let said = |first, end, before: Time| {
            let Some((speaker, birth)) = speaker else { return Some(before.min(unseen)) };
            let Some((_, times)) = self.origins.iter().find(|(known, _)| *known == speaker) else {
                return Some(before.min(birth));
            };
            times.runs(first, end).map(|(_, said)| if said > birth { said } else { before.min(birth) }).min()
        };
        let runs = before.runs(start, end).filter_map(|(end, time)| {
            let before = if time == Time::ZERO { unseen } else { time };
            said(std::mem::replace(&mut start, end), end, before)
        });
        runs.min()
    }

    /// How far `origin` is seen in the slot that has seen most of it.
    pub fn maximum(&self, origin: Origin) -> Time {
        self.times(origin).map_or(Time::ZERO, Column::greatest)
    }

    /// The slots of a range in which more of `origin` is seen here than there.
    pub(super) fn beyond(&self, there: &Self, origin: Origin, slots: &SlotRange) -> Vec<Slot> {
        let Some(slots) = self.slots.intersection(slots) else { return Vec::new() };
        let Some(here) = self.times(origin) else { return Vec::new() };
        let mut beyond = Vec::new();
        let mut start = self.index(slots.first);
        for (end, time) in here.runs(start, self.index(slots.last) + 1) {
            let run = SlotRange {
                first: self.slots.at(start).unwrap_or(slots.first),
                last: self.slots.at(end - 1).unwrap_or(slots.last),
            };
            there.less(&run, origin, time, &mut beyond);
            start = end;
        }
        beyond
    }

    /// How far `origin` is seen in those of `slots` that are in this table, as runs of slots that have seen equally much.
    pub(super) fn runs_in(&self, slots: &SlotRange, origin: Origin) -> impl Iterator<Item = (SlotRange, Time)> {
        let column = self.times(origin);
        let slots = self.slots.intersection(slots);
        let unseen = slots.clone().filter(|_| column.is_none()).map(|slots| (slots, Time::ZERO));
        let mut start = slots.as_ref().map_or(0, |slots| self.index(slots.first));
        let end = slots.map_or(0, |slots| self.index(slots.last) + 1);
        let runs = column.into_iter().flat_map(move |times| times.runs(start, end));
        let run = move |(end, time)| {
            let first = self.slots.at(std::mem::replace(&mut start, end))?;
            Some((SlotRange { first, last: self.slots.at(end - 1)? }, time))
        };
        unseen.into_iter().chain(runs.filter_map(run))
    }

    /// Appends those of `slots` in which less is seen of `origin` than up to `time`.
    fn less(&self, slots: &SlotRange, origin: Origin, time: Time, out: &mut Vec<Slot>) {
        let column = self.times(origin);
        let (Some(column), true) = (column, self.slots.intersection(slots).as_ref() == Some(slots)) else {
            return out.extend(slots.iter().filter(|_| time > Time::ZERO));
        };
        let mut start = self.index(slots.first);
        for (end, seen) in column.runs(start, self.index(slots.last) + 1) {
            if seen < time {
                out.extend((start..end).filter_map(|index| self.slots.at(index)));
            }
            start = end;
        }
    }

    /// The origins that were heard of.
    pub fn origins(&self) -> impl Iterator<Item = Origin> {
        self.origins.iter().map(|(origin, _)| *origin)
    }

    /// The slots whose vectors are here.
    pub const fn slots(&self) -> &SlotRange {
        &self.slots
    }

    fn raise(&mut self, origin: Origin, first: usize, end: usize, time: Time) {
        let is_news = self.column(origin).raise(first, end, time);
        self.version += u64::from(is_news);
    }

    fn times(&self, origin: Origin) -> Option<&Column> {
        self.place(origin).ok().map(|place| &self.origins[place].1)
    }

    fn column(&mut self, origin: Origin) -> &mut Column {
        let place = self.place(origin).unwrap_or_else(|place| {
            // Of an origin that was never heard of nothing was said before, not even that nothing is seen of it.
            self.version += 1;
            self.origins.insert(place, (origin, Column::new(self.slots.count())));
            place
        });
        &mut self.origins[place].1
    }

    fn place(&self, origin: Origin) -> Result<usize, usize> {
        self.origins.binary_search_by_key(&origin, |(known, _)| *known)
    }

    fn index(&self, slot: Slot) -> usize {
        self.slots.index(slot)
    }
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Time};
    use proptest::prelude::{Strategy, prop_assert_eq, proptest};

    use super::{Seen, SeenTable};
    use crate::slot::{Slot, SlotRange};

    fn origin(region: u8) -> Origin {
        Origin::new(RegionId::new(region).unwrap(), Incarnation::FIRST)
    }

    fn seens() -> impl Strategy<Value = Seen> {
        proptest::collection::vec((1..5_u8, 0..9_u64), 0..6)
            .prop_map(|pairs| pairs.into_iter().map(|(r, t)| (origin(r), Time::from_ntp64(t))).collect())
    }

    proptest! {
        #[test]
        fn join_is_the_greater_and_meet_the_lesser_of_each_origin(a in seens(), b in seens()) {
            let (mut joined, mut met) = (a.clone(), a.clone());
            joined.join(&b);
            met.meet(&b);
            for region in 1..6 {
                let (left, right) = (a.at(origin(region)), b.at(origin(region)));
                prop_assert_eq!(joined.at(origin(region)), left.max(right));
                prop_assert_eq!(met.at(origin(region)), left.min(right));
            }
        }
    }

    proptest! {
        #[test]
        fn joining_a_table_is_joining_its_slots(a in seens(), b in seens(), first in 0..9_u16) {
            let theirs = SlotRange::new(first..first + 5).unwrap();
            let mut other = SeenTable::new(theirs.clone());
            other.join(theirs.first, &a);
            other.join(theirs.last, &b);
            let mut whole = SeenTable::new(SlotRange::new(3..10).unwrap());
            whole.advance(&SlotRange::ALL, origin(1), Time::from_ntp64(4));
            let mut one_by_one = whole.clone();
            whole.join_table(&other);
            for slot in theirs.iter().filter(|slot| whole.slots().contains(*slot)) {
                one_by_one.join(slot, &other.of(slot));
            }
            for slot in whole.slots().iter() {
                prop_assert_eq!(whole.of(slot), one_by_one.of(slot));
            }
        }
    }

    #[test]
    fn a_table_keeps_each_slot_apart() {
        let slots = SlotRange::new(256..512).unwrap();
        let mut table = SeenTable::new(slots.clone());
        let (first, last) = (slots.first, slots.last);
        table.advance(&SlotRange::ALL, origin(1), Time::from_ntp64(5));
        table.join(first, &[(origin(2), Time::from_ntp64(9)), (origin(1), Time::from_ntp64(3))].into_iter().collect());
        assert_eq!(table.at(first, origin(1)), Time::from_ntp64(5));
        assert_eq!(table.at(first, origin(2)), Time::from_ntp64(9));
        assert_eq!(table.at(last, origin(2)), Time::ZERO);
        assert_eq!(table.minima().at(origin(1)), Time::from_ntp64(5));
        assert_eq!(table.minima().at(origin(2)), Time::ZERO);
        table.advance(&SlotRange { first: Slot::new(0).unwrap(), last: first }, origin(1), Time::from_ntp64(7));
        assert_eq!(table.of(first).at(origin(1)), Time::from_ntp64(7));
        assert_eq!(table.of(last).at(origin(1)), Time::from_ntp64(5));
    }
}
